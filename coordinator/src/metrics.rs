//! How the run goes: members' reports put together, step by step.
//!
//! `metrics.jsonl` holds an object a line. For each step, once all members have reported it that are still there, in
//! order: `step` (steps applied, from 1), `epoch`, `train_loss`, `train_accuracy`, `samples`,
//! `bits_per_element`, `frame_bytes`, `bytes_sent` and `bytes_sent_total` (mean a node; framing
//! included), `gradient_norm` and `residual_norm` (root mean square over members), `residual_ratio`, `omega`,
//! `nonfinite_groups`, `guarded_frames`, `left_out` (members whose contribution came too late, as they say
//! themselves: not those that were lost over it; sizes, norms and
//! losses are those of the others) and `taken_back` (such contributions that went back to the member's
//! residual; the others were never computed), of the slowest member `step_seconds`, `compute_seconds`, `encode_seconds`,
//! `wait_seconds` and `apply_seconds` (each the slowest member's own, so that parts need not add up),
//! and `wall_seconds` since its first step. Bytes are booked to the step in which they crossed the
//! socket; `omega` is ‖v − q‖²/‖v‖², the quantizer's relative variance, and `residual_ratio` ‖h‖²/‖g‖²: what the
//! guard of error feedback goes by, and what it keeps in bounds. For each evaluation,
//! after the line of the last step before it: `step`, `test_loss`, `test_accuracy`, `wall_seconds`.
//! What is not finite is null.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::time::Instant;

use ecq_cluster::{Evaluation, NodeId, Step, StepReport, View};
use serde::{Deserialize, Serialize};

use crate::error::CoordinatorError;
use crate::run_dir::{METRICS, RunDir, unwritable};
use crate::tensorboard::Events;

/// How far a report may be ahead of the first step that is incomplete. Members are at most one step
/// apart, and their reports some tenths of a second: what is further ahead is nonsense.
const STEPS_AHEAD_MAX: Step = 100_000;

/// What must be known before a report means anything.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Dimensions {
    pub(crate) parameters: u64,
    /// Size of the training set.
    pub(crate) samples: u64,
    pub(crate) steps: Step,
}

/// A step of the whole cluster.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default = "StepMetrics::unknown")]
pub(crate) struct StepMetrics {
    pub(crate) step: Step,
    pub(crate) epoch: f64,
    pub(crate) train_loss: f64,
    pub(crate) train_accuracy: f64,
    pub(crate) samples: u64,
    pub(crate) bits_per_element: f64,
    pub(crate) frame_bytes: f64,
    pub(crate) bytes_sent: f64,
    pub(crate) bytes_sent_total: f64,
    pub(crate) gradient_norm: f64,
    pub(crate) residual_norm: f64,
    pub(crate) residual_ratio: f64,
    pub(crate) omega: f64,
    pub(crate) nonfinite_groups: u64,
    pub(crate) guarded_frames: u64,
    pub(crate) left_out: u64,
    pub(crate) taken_back: u64,
    pub(crate) step_seconds: f64,
    pub(crate) compute_seconds: f64,
    pub(crate) encode_seconds: f64,
    pub(crate) wait_seconds: f64,
    pub(crate) apply_seconds: f64,
    pub(crate) wall_seconds: f64,
}

/// An evaluation.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default = "EvaluationLine::unknown")]
pub(crate) struct EvaluationLine {
    pub(crate) step: Step,
    pub(crate) test_loss: f64,
    pub(crate) test_accuracy: f64,
    pub(crate) wall_seconds: f64,
}

impl EvaluationLine {
    fn unknown() -> Self {
        Self {
            test_loss: f64::NAN,
            test_accuracy: f64::NAN,
            wall_seconds: f64::NAN,
            ..Self::default()
        }
    }
}

/// Collects reports and writes what they amount to.
#[derive(Debug)]
pub(crate) struct Metrics {
    lines: BufWriter<File>,
    events: Events,
    dimensions: Option<Dimensions>,
    start: Instant,
    open: BTreeMap<Step, BTreeMap<NodeId, StepReport>>,
    /// Who makes the steps from each of these on.
    views: BTreeMap<Step, BTreeSet<NodeId>>,
    /// The members of the last view: nobody waits for what others have not reported.
    present: BTreeSet<NodeId>,
    /// Evaluations of steps that are still open, by number of steps.
    evaluations: BTreeMap<Step, Evaluation>,
    bytes_sent_total: f64,
    consumed: u64,
    /// Loss, bits and seconds of each step, for the summary.
    pub(crate) history: Vec<StepMetrics>,
    /// All evaluations that were written.
    pub(crate) evaluated: Vec<EvaluationLine>,
    /// The last evaluation that was written.
    pub(crate) evaluation: Option<Evaluation>,
    /// Seconds that the run took before this process began.
    before: f64,
    /// What is to be added to the clocks of members, which begin with them.
    offset: f64,
    dir: RunDir,
}

impl Metrics {
    pub(crate) fn create(dir: &RunDir) -> Result<Self, CoordinatorError> {
        Ok(Self {
            dir: dir.clone(),
            before: 0.0,
            offset: 0.0,
            evaluated: Vec::new(),
            lines: BufWriter::new(dir.append(METRICS)?),
            events: Events::create(dir)?,
            dimensions: None,
            start: Instant::now(),
            open: BTreeMap::new(),
            views: BTreeMap::new(),
            present: BTreeSet::new(),
            evaluations: BTreeMap::new(),
            bytes_sent_total: 0.0,
            consumed: 0,
            history: Vec::new(),
            evaluation: None,
        })
    }

    /// Training begins.
    pub(crate) fn begin(&mut self, dimensions: Dimensions) {
        self.dimensions = Some(dimensions);
        self.start = Instant::now();
    }

    /// Goes on from what is stored.
    pub(crate) fn resume(
        &mut self,
        steps: Vec<StepMetrics>,
        evaluated: Vec<EvaluationLine>,
        views: &[View],
    ) -> Result<(), CoordinatorError> {
        (self.history, self.evaluated) = (steps, evaluated);
        for view in views {
            self.views.split_off(&view.first_step);
            self.present = view.members.iter().map(|member| member.node).collect();
            self.views.insert(view.first_step, self.present.clone());
        }
        self.before = self.history.last().map_or(0.0, |last| last.wall_seconds);
        self.rewrite()
    }

    /// Forgets the metrics of `first_step` and what follows: these steps are made anew.
    pub(crate) fn truncate(&mut self, first_step: Step) -> Result<(), CoordinatorError> {
        self.history.retain(|metrics| metrics.step <= first_step);
        self.evaluated.retain(|line| line.step <= first_step);
        self.open.clear();
        self.evaluations.clear();
        self.rewrite()
    }

    /// Writes the file of lines anew, and counts again.
    fn rewrite(&mut self) -> Result<(), CoordinatorError> {
        let last = self.history.last();
        self.bytes_sent_total = last.map_or(0.0, |last| last.bytes_sent_total);
        let samples = self.history.iter().map(|metrics| metrics.samples);
        self.consumed = samples.fold(0, u64::saturating_add);
        self.evaluation = self.evaluated.last().map(|line| Evaluation {
            steps: line.step,
            loss: line.test_loss,
            accuracy: line.test_accuracy,
        });
        self.dir.replace(METRICS, b"")?;
        self.lines = BufWriter::new(self.dir.append(METRICS)?);
        let (history, evaluated) = (self.history.clone(), self.evaluated.clone());
        let mut evaluated = evaluated.iter().peekable();
        let written = history.iter().try_for_each(|metrics| {
            self.line(metrics)?;
            while let Some(line) = evaluated.next_if(|line| line.step <= metrics.step) {
                self.line(line)?;
            }
            Ok(())
        });
        let written = written.and_then(|()| self.lines.flush());
        written.map_err(|error| unwritable(&self.dir.path(METRICS), error))
    }

    /// From `first_step` on these nodes make the steps; what others have made of them is void.
    pub(crate) fn install(
        &mut self,
        first_step: Step,
        members: BTreeSet<NodeId>,
    ) -> io::Result<()> {
        self.views.split_off(&first_step);
        self.present.clone_from(&members);
        self.views.insert(first_step, members);
        match self.dimensions {
            Some(dimensions) => self.settle(dimensions),
            None => Ok(()),
        }
    }

    /// Whether everybody has reported `step` who made it and is still there. Of a step that only
    /// members made who are gone since, there may be no report at all.
    fn is_complete(&self, step: Step) -> bool {
        let Some((_, members)) = self.views.range(..=step).next_back() else {
            return false;
        };
        let reports = self.open.get(&step);
        let is_past = self.views.range(step + 1..).next().is_some();
        let mut awaited = members.intersection(&self.present);
        (reports.is_some() || is_past)
            && awaited.all(|node| reports.is_some_and(|reports| reports.contains_key(node)))
    }

    pub(crate) fn dimensions(&self) -> Option<Dimensions> {
        self.dimensions
    }

    /// Seconds since training began.
    pub(crate) fn elapsed(&self) -> f64 {
        let elapsed = |_| self.before + self.start.elapsed().as_secs_f64();
        self.dimensions.map_or(0.0, elapsed)
    }

    /// Takes a member's reports; writes the steps that they complete.
    pub(crate) fn report(&mut self, node: NodeId, reports: Vec<StepReport>) -> io::Result<()> {
        let Some(dimensions) = self.dimensions else {
            return Ok(());
        };
        let next = self.history.len() as Step;
        let last = dimensions.steps.min(next.saturating_add(STEPS_AHEAD_MAX));
        for report in reports {
            let members = self.views.range(..=report.step).next_back();
            let made = members.is_some_and(|(_, members)| members.contains(&node));
            if made && (next..last).contains(&report.step) {
                let step = self.open.entry(report.step).or_default();
                step.insert(node, report);
            }
        }
        self.settle(dimensions)
    }

    /// Takes an evaluation of the model; writes it once the steps before it are written.
    pub(crate) fn evaluation(&mut self, found: Evaluation) -> io::Result<()> {
        let Some(dimensions) = self.dimensions else {
            return Ok(());
        };
        let next = self.history.len() as Step;
        let last = dimensions.steps.min(next.saturating_add(STEPS_AHEAD_MAX));
        let known = self.evaluated.iter().any(|line| line.step == found.steps);
        if found.steps <= last && !known {
            self.evaluations.insert(found.steps, found);
        }
        self.settle(dimensions)
    }

    /// Writes everything whose turn has come.
    fn settle(&mut self, dimensions: Dimensions) -> io::Result<()> {
        loop {
            let done = self.history.len() as Step;
            if let Some(first) = self.evaluations.first_entry()
                && *first.key() <= done
            {
                let evaluation = first.remove();
                self.write_evaluation(evaluation)?;
                continue;
            }
            if !self.is_complete(done) {
                break;
            }
            let reports = self.open.remove(&done).unwrap_or_default();
            self.step(dimensions, &reports)?;
        }
        self.lines.flush()?;
        self.events.flush()
    }

    fn step(
        &mut self,
        dimensions: Dimensions,
        reports: &BTreeMap<NodeId, StepReport>,
    ) -> io::Result<()> {
        let reports: Vec<&StepReport> = reports.values().collect();
        let all = reports.len().max(1) as f64;
        let left_out = reports.iter().filter(|r| r.left_out > 0).count() as u64;
        let members = (all - left_out as f64).max(1.0);
        let sum = |of: fn(&StepReport) -> f64| reports.iter().map(|r| of(r)).sum::<f64>();
        // Counts come from outside: their sum need not fit.
        let count = |of: fn(&StepReport) -> u64| {
            let counts = reports.iter().map(|r| of(r));
            counts.fold(0, u64::saturating_add)
        };
        let slowest = |of: fn(&StepReport) -> f32| {
            reports.iter().map(|r| f64::from(of(r))).fold(0.0, f64::max)
        };
        let samples = count(|r| r.samples);
        let frame_bytes = sum(|r| r.frame_bytes as f64) / members;
        let bytes_sent = sum(|r| r.socket_bytes as f64) / all;
        self.bytes_sent_total += bytes_sent;
        self.consumed = self.consumed.saturating_add(samples);
        let metrics = StepMetrics {
            step: self.history.len() as u64 + 1,
            epoch: self.consumed as f64 / dimensions.samples.max(1) as f64,
            train_loss: sum(|r| r.loss_sum) / samples as f64,
            train_accuracy: sum(|r| r.correct) / samples as f64,
            samples,
            bits_per_element: frame_bytes * 8.0 / dimensions.parameters.max(1) as f64,
            frame_bytes,
            bytes_sent,
            bytes_sent_total: self.bytes_sent_total,
            gradient_norm: (sum(|r| r.gradient_norm_squared) / members).sqrt(),
            residual_norm: (sum(|r| r.residual_norm_squared) / all).sqrt(),
            residual_ratio: ratio(
                sum(|r| r.residual_norm_squared * (1 - r.left_out.min(1)) as f64),
                sum(|r| r.gradient_norm_squared),
            ),
            omega: ratio(sum(|r| r.error_squared), sum(|r| r.input_norm_squared)),
            nonfinite_groups: count(|r| r.nonfinite_groups),
            guarded_frames: count(|r| r.guarded_frames),
            left_out,
            taken_back: count(|r| r.taken_back),
            step_seconds: slowest(|r| r.step_seconds),
            compute_seconds: slowest(|r| r.compute_seconds),
            encode_seconds: slowest(|r| r.encode_seconds),
            wait_seconds: slowest(|r| r.wait_seconds),
            apply_seconds: slowest(|r| r.apply_seconds),
            wall_seconds: self.wall_seconds(&reports),
        };
        self.line(&metrics)?;
        self.events.scalars(
            metrics.step,
            &[
                ("train/loss", metrics.train_loss),
                ("train/accuracy", metrics.train_accuracy),
                ("train/grad_norm", metrics.gradient_norm),
                ("codec/bits_per_element", metrics.bits_per_element),
                ("codec/omega", metrics.omega),
                ("codec/residual_norm", metrics.residual_norm),
                ("codec/residual_ratio", metrics.residual_ratio),
                ("comm/bytes_sent", metrics.bytes_sent),
                ("time/step_seconds", metrics.step_seconds),
            ],
        )?;
        self.history.push(metrics);
        Ok(())
    }

    /// Members' clocks begin with them: time goes on where it was when the oldest is gone, or all begin
    /// anew from their checkpoints.
    fn wall_seconds(&mut self, reports: &[&StepReport]) -> f64 {
        let elapsed = reports.iter().map(|r| r.elapsed_seconds);
        let elapsed = elapsed.fold(0.0, f64::max);
        let last = self.history.last().map_or(0.0, |last| last.wall_seconds);
        if elapsed + self.offset < last {
            self.offset = last - elapsed;
        }
        elapsed + self.offset
    }

    fn write_evaluation(&mut self, found: Evaluation) -> io::Result<()> {
        let line = EvaluationLine {
            step: found.steps,
            test_loss: found.loss,
            test_accuracy: found.accuracy,
            // On the clock of the steps, not on that of the reports' arrival.
            wall_seconds: self
                .history
                .last()
                .map_or(0.0, |metrics| metrics.wall_seconds),
        };
        self.line(&line)?;
        let scalars = [("test/loss", found.loss), ("test/accuracy", found.accuracy)];
        self.events.scalars(found.steps, &scalars)?;
        self.evaluation = Some(found);
        self.evaluated.push(line);
        Ok(())
    }

    /// Returns when everything written would survive a power failure.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.lines.flush()?;
        self.lines.get_ref().sync_all()?;
        self.events.sync()
    }

    /// Samples that all members together have taken.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed
    }

    /// Bytes that a node has sent on average.
    pub(crate) fn bytes_sent_total(&self) -> f64 {
        self.bytes_sent_total
    }

    /// serde_json writes null for what is not finite.
    fn line(&mut self, line: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.write_all(b"\n")
    }
}

impl StepMetrics {
    /// What a field is that is not stored.
    fn unknown() -> Self {
        Self {
            epoch: f64::NAN,
            train_loss: f64::NAN,
            train_accuracy: f64::NAN,
            bits_per_element: f64::NAN,
            frame_bytes: f64::NAN,
            bytes_sent: f64::NAN,
            bytes_sent_total: f64::NAN,
            gradient_norm: f64::NAN,
            residual_norm: f64::NAN,
            residual_ratio: f64::NAN,
            omega: f64::NAN,
            step_seconds: f64::NAN,
            compute_seconds: f64::NAN,
            encode_seconds: f64::NAN,
            wait_seconds: f64::NAN,
            apply_seconds: f64::NAN,
            wall_seconds: f64::NAN,
            ..Self::default()
        }
    }

    /// Seconds of the slowest member's step.
    pub(crate) fn seconds(&self) -> f64 {
        self.step_seconds
    }

    /// Samples of all members.
    pub(crate) fn samples(&self) -> u64 {
        self.samples
    }
}

fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
