//! Buckets with a bit budget: frames are made, measured and the best of those is kept that the budget
//! allows.
//!
//! What a choice costs is first computed ([`survey`]), which is right to a few percent; how much it costs
//! is then seen in the frame. Where tensors differ little, or are small, no choice for each of them repays
//! its streams: so one for all is tried too, and the frame is then as large as one without a budget. It
//! follows that no number of levels (or, to a percent, step) for all gives less error at the same size.

use super::bucket::{Bucket, Common, Plan, Scratch, Streams};
use super::survey::{self, Candidates, Measures, Survey, Surveyor};
use crate::coding::append_varint;
use crate::feedback::Gains;
use crate::frame::{HEADER_BYTES, SETTINGS_BYTES, STREAM_BYTES, Settings, Stream};
use crate::layout::Part;
use crate::quantizer::Quantizer;
use crate::spec::Budget;
use crate::stats::FrameStats;

/// How often a choice for each tensor is corrected by what its frame took.
const CORRECTIONS: u8 = 4;

/// Bytes by which the estimate of a short frame may be wrong.
const INEXACT_BYTES: f64 = 300.0;

/// Fewer elements than this make frames whose sizes do not simply grow with the levels, nor their errors fall.
const NOISY: usize = 1 << 14;

/// By how much the error of so few elements may be less than what is expected.
const LUCK: f64 = 1.15;

/// A frame that has been made.
#[derive(Clone, Debug)]
struct Trial {
    choice: Choice,
    bytes: usize,
    error: f64,
}

/// A candidate for each part.
#[derive(Clone, Debug, PartialEq)]
struct Choice {
    parts: Vec<u8>,
    /// What steps are multiplied by.
    fine: f32,
}

impl Choice {
    fn streams(&self, candidates: Candidates, quantizer: &Quantizer) -> Streams {
        let mut used = self.parts.clone();
        used.sort_unstable();
        used.dedup();
        // A bucket without elements has no parts, but a quantizer all the same.
        let coarsest = used.is_empty().then_some(0);
        let apply = |index: &u8| candidates.apply(quantizer, *index, self.fine);
        Streams {
            quantizers: used.iter().chain(&coarsest).map(apply).collect(),
            of_parts: self
                .parts
                .iter()
                // Invariant: there are fewer than 255 candidates.
                .map(|index| used.partition_point(|other| other < index) as u8)
                .collect(),
        }
    }
}

/// What trials have in common.
struct Trials<'a> {
    plan: Plan,
    candidates: Candidates,
    common: &'a Common,
    gains: Gains,
    /// Bytes that a frame may have.
    limit: usize,
    best: Option<Trial>,
    /// What the frame and the residual hold now.
    last: Option<(Choice, FrameStats)>,
}

impl Trials<'_> {
    /// Makes a frame, once.
    fn make(
        &mut self,
        choice: Choice,
        bucket: &mut Bucket<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> Trial {
        if self.last.is_some() {
            bucket.residual.copy_from_slice(&scratch.before);
        }
        frame.truncate(HEADER_BYTES);
        self.plan.streams = Some(choice.streams(self.candidates, &self.plan.frame));
        let stats = bucket.quantize(&self.plan, self.common, self.gains, scratch, frame);
        let trial = Trial {
            choice: choice.clone(),
            bytes: frame.len(),
            error: stats.error_squared,
        };
        self.last = Some((choice, stats));
        // Within the budget the least error; if none is, the smallest.
        let rank = |trial: &Trial| match trial.bytes.saturating_sub(self.limit) {
            0 => (0, trial.error),
            beyond => (beyond, 0.0),
        };
        if self
            .best
            .as_ref()
            .is_none_or(|best| rank(&trial) < rank(best))
        {
            self.best = Some(trial.clone());
        }
        trial
    }
}

impl Bucket<'_> {
    /// Appends the body of the frame.
    pub(super) fn quantize_within(
        &mut self,
        budget: &Budget,
        plan: Plan,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let parts: Vec<Part> = common.layout.parts(self.range.clone()).collect();
        let bits = |part: &Part| budget.bits(part.tensor) * part.range.len() as f64;
        let bytes = parts.iter().map(bits).sum::<f64>() / 8.0;
        scratch.before.clear();
        scratch.before.extend_from_slice(self.residual);
        let mut trials = Trials {
            candidates: Candidates::of(&plan.frame),
            plan,
            common,
            gains,
            limit: HEADER_BYTES + SETTINGS_BYTES + (bytes + 0.5) as usize,
            best: None,
            last: None,
        };
        if budget.is_shared() {
            self.share(&parts, &mut trials, scratch, frame);
        } else {
            self.divide(budget, &parts, &mut trials, scratch, frame);
        }
        match (&trials.best, &trials.last) {
            (Some(best), Some((choice, stats))) if best.choice == *choice => *stats,
            _ => {
                let best = trials.best.as_ref().map(|best| best.choice.clone());
                let choice = best.unwrap_or(Choice {
                    parts: vec![0; parts.len()],
                    fine: 1.0,
                });
                trials.make(choice, self, scratch, frame);
                trials.last.map(|(_, stats)| stats).unwrap_or_default()
            }
        }
    }

    /// One budget for all tensors.
    fn share(
        &mut self,
        parts: &[Part],
        trials: &mut Trials<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) {
        let (common, gains) = (trials.common, trials.gains);
        let mut surveyor = Surveyor::new(&trials.plan.frame, self.range.len());
        for part in parts {
            surveyor.part(part.range.len(), |measures| {
                self.measure(part, &trials.plan, common, gains, scratch, measures);
            });
        }
        let survey = surveyor.finish();
        let groups = common
            .layout
            .count_groups(self.range.clone(), trials.plan.bucket);
        let count = trials.plan.frame.escape().map_or(0, |_| 4);
        let fixed = HEADER_BYTES + SETTINGS_BYTES + 4 * groups + count;
        // Bits that symbols may take.
        let allowed = 8.0 * trials.limit.saturating_sub(fixed) as f64;
        if survey.is_mixed() {
            self.try_mixed(&survey, allowed, trials, scratch, frame);
        }
        // What one choice for all could at best have: estimates are right to a few percent and a few hundred
        // bytes.
        let hoped = survey.same(allowed * 1.03 + 8.0 * INEXACT_BYTES);
        let hoped = survey.cost_of_same(hoped).error;
        let settled = |best: &Trial| best.bytes <= trials.limit && best.error < 0.9 * hoped;
        if !trials.best.as_ref().is_some_and(settled) {
            self.try_same(&survey, allowed, parts.len(), trials, scratch, frame);
        }
        if matches!(survey.candidates(), Candidates::Steps { .. }) {
            self.try_finer(&survey, trials, scratch, frame);
        }
    }

    /// A choice for each tensor.
    fn try_mixed(
        &mut self,
        survey: &Survey,
        allowed: f64,
        trials: &mut Trials<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) {
        let mut target = allowed;
        for correction in 1..=CORRECTIONS {
            let choice = Choice {
                parts: survey.mixed(target),
                fine: 1.0,
            };
            if matches!(&trials.last, Some((last, _)) if *last == choice) {
                return;
            }
            let made = trials.make(choice, self, scratch, frame);
            let left = trials.limit as f64 - made.bytes as f64;
            let spare = 0.0005 * f64::from(correction) * trials.limit as f64;
            if left >= 0.0 && left <= 4.0 * spare {
                return;
            }
            target += 8.0 * (left - spare);
        }
    }

    /// One choice for all tensors: the finest that fits, as frames show.
    fn try_same(
        &mut self,
        survey: &Survey,
        allowed: f64,
        parts: usize,
        trials: &mut Trials<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) {
        let same = |index| Choice {
            parts: vec![index; parts],
            fine: 1.0,
        };
        let most = survey.candidates().count() - 1;
        let first = survey.same(allowed);
        let left =
            trials.limit as f64 - trials.make(same(first), self, scratch, frame).bytes as f64;
        // From where the estimate would have been right.
        let mut index = survey.same(survey.cost_of_same(first).bits + 8.0 * left);
        let (mut fits, mut fails) = if left >= 0.0 {
            (Some(first), most + 1)
        } else {
            (None, first)
        };
        loop {
            let least = fits.map_or(0, |fits| fits + 1);
            if least >= fails {
                break;
            }
            index = index.clamp(least, fails - 1);
            if trials.make(same(index), self, scratch, frame).bytes <= trials.limit {
                fits = Some(index);
                index = index.saturating_add(1);
            } else {
                fails = index;
                index = index.saturating_sub(1);
            }
        }
        if self.range.len() < NOISY {
            // A finer choice may take fewer bytes than a coarser one, and a coarser one may be luckier.
            let lucky = |index: &u8| {
                let expected = survey.cost_of_same(*index).error;
                trials
                    .best
                    .as_ref()
                    .is_some_and(|best| expected < LUCK * best.error)
            };
            let coarser: Vec<u8> = (0..fits.unwrap_or(0)).rev().take_while(lucky).collect();
            for index in (fails..=most).skip(1).take(8).chain(coarser) {
                trials.make(same(index), self, scratch, frame);
            }
        }
    }

    /// Steps between the candidates, for what is left.
    fn try_finer(
        &mut self,
        survey: &Survey,
        trials: &mut Trials<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) {
        let mut share = 1.0;
        for _ in 0..CORRECTIONS {
            let Some(best) = trials.best.clone() else {
                return;
            };
            let left = trials.limit as f64 - best.bytes as f64;
            let parts = &best.choice.parts;
            let more = survey.bits(parts, 1) - survey.bits(parts, 0);
            if left <= 0.0005 * trials.limit as f64 || more <= 0.0 {
                return;
            }
            // A candidate is finer by 2^(-1/16).
            let fine = 1.0 - 0.0424 * (share * 8.0 * left / more).min(1.0) as f32;
            let choice = Choice {
                fine: best.choice.fine * fine,
                ..best.choice
            };
            let made = trials.make(choice, self, scratch, frame);
            if made.bytes > trials.limit {
                share *= 0.95 * left / (made.bytes as f64 - best.bytes as f64);
            }
        }
    }

    /// A budget for every tensor.
    fn divide(
        &mut self,
        budget: &Budget,
        parts: &[Part],
        trials: &mut Trials<'_>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) {
        let (common, gains, candidates) = (trials.common, trials.gains, trials.candidates);
        let mut measures = Measures::default();
        let mut chosen = Vec::with_capacity(parts.len());
        for part in parts {
            measures.clear();
            self.measure(part, &trials.plan, common, gains, scratch, &mut measures);
            let groups = part.count_groups(trials.plan.bucket);
            chosen.push(survey::alone(
                candidates,
                budget,
                part.tensor,
                groups,
                &measures,
            ));
        }
        let choice = Choice {
            parts: chosen,
            fine: 1.0,
        };
        trials.make(choice, self, scratch, frame);
    }

    /// Appends the symbols, a stream for each of the quantizers.
    pub(super) fn append_streams(
        &self,
        streams: &Streams,
        plan: &Plan,
        common: &Common,
        scratch: &mut Scratch,
        settings: &mut Settings,
        frame: &mut Vec<u8>,
    ) {
        let Streams {
            quantizers,
            of_parts,
        } = streams;
        let Scratch {
            coder,
            symbols,
            gathered,
            ..
        } = scratch;
        let levels = |quantizer: &Quantizer| match quantizer {
            Quantizer::Uniform(q) => q.levels,
            Quantizer::DeadZone(q) => q.levels,
            _ => 0,
        };
        // Invariant: there are no more than 255.
        settings.streams = quantizers.len() as u8;
        if let [quantizer] = &quantizers[..] {
            settings.levels = levels(quantizer);
            let alphabet = quantizer.alphabet();
            let coded = plan
                .coding
                .encode(common.simd, coder, alphabet, symbols, frame);
            settings.coding = coded as u8;
            return;
        }
        for run in of_parts.chunk_by(|a, b| a == b) {
            frame.push(run[0]);
            append_varint(run.len() as u64, frame);
        }
        for (index, quantizer) in (0_u8..).zip(quantizers) {
            gathered.clear();
            let parts = common.layout.parts(self.range.clone()).zip(of_parts);
            for (part, _) in parts.filter(|(_, stream)| **stream == index) {
                let within = part.range.start - self.range.start..part.range.end - self.range.start;
                gathered.extend_from_slice(&symbols[within]);
            }
            let at = frame.len();
            frame.extend_from_slice(&[0; STREAM_BYTES]);
            let alphabet = quantizer.alphabet();
            let coded = plan
                .coding
                .encode(common.simd, coder, alphabet, gathered, frame);
            let stream = Stream {
                levels: levels(quantizer),
                coding: coded as u8,
                // Invariant: a bucket has less than 2^32 elements, of which none takes 8 bytes.
                bytes: (frame.len() - at - STREAM_BYTES) as u32,
            };
            stream.write(&mut frame[at..]);
        }
    }
}
