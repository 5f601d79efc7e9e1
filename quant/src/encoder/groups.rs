//! Buckets of codecs with symbols: group after group through quantizer and feedback, then the symbols
//! through the lossless stage.

use std::ops::Range;

use super::bucket::{Bucket, Common, Plan, Scratch};
use crate::feedback::{Gains, RUN, bound_residual};
use crate::frame::Settings;
use crate::norm::sum_of_squares;
use crate::quantizer::uniform::take_dithered;
use crate::quantizer::{Group, Parameters, Quantizer, Remembered};
use crate::rounding::Rounding;
use crate::simd::PREFETCH_LEAD;
use crate::stats::FrameStats;
use crate::values::{Remember, Table, remember, sum_of_errors};

impl Bucket<'_> {
    /// Appends the body of the frame.
    pub(super) fn quantize(
        &mut self,
        plan: &Plan,
        common: &Common,
        gains: Gains,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
    ) -> FrameStats {
        let settings_at = frame.len();
        let mut settings = Settings::of(common.fingerprint);
        settings.append(frame);
        if let Quantizer::Book(book) = &plan.frame {
            book.write(frame);
        }
        let scales_at = frame.len();
        scratch.symbols.resize(self.range.len(), 0);
        scratch.extras.clear();
        if let Some((_, extra)) = plan.frame.escape() {
            scratch
                .extras
                .reserve(extra.width() * (self.range.len() / 32 + 64));
        }
        let rounding = Rounding::new(common.seed, self.id);
        let mut stats = FrameStats::default();
        for (i, part) in common.layout.parts(self.range.clone()).enumerate() {
            let quantizer = plan.quantizer(i);
            for group in part.groups(plan.bucket) {
                let within = group.start - self.range.start..group.end - self.range.start;
                self.quantize_group(
                    quantizer, common, gains, rounding, within, scratch, frame, &mut stats,
                );
            }
        }
        stats.scale_bytes = (frame.len() - scales_at) as u64;
        if let Some((_, extra)) = plan.frame.escape() {
            // Invariant: there are fewer than elements.
            let count = (scratch.extras.len() / extra.width()) as u32;
            frame.extend_from_slice(&count.to_le_bytes());
            frame.extend_from_slice(&scratch.extras);
            stats.number_bytes = scratch.extras.len() as u64;
        }
        if let Some(streams) = &plan.streams {
            self.append_streams(streams, plan, common, scratch, &mut settings, frame);
        } else if !plan.frame.is_drawn() {
            let (coder, alphabet) = (&mut scratch.coder, plan.frame.alphabet());
            let coded = plan
                .coding
                .encode(common.simd, coder, alphabet, &scratch.symbols, frame);
            settings.coding = coded as u8;
        }
        settings.write(&mut frame[settings_at..]);
        stats
    }

    /// Appends a group's parameters, sets its symbols, updates its residual.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of what one frame needs"
    )]
    fn quantize_group(
        &mut self,
        quantizer: &Quantizer,
        common: &Common,
        gains: Gains,
        rounding: Rounding,
        within: Range<usize>,
        scratch: &mut Scratch,
        frame: &mut Vec<u8>,
        stats: &mut FrameStats,
    ) {
        let simd = common.simd;
        let momentum = common.spec.momentum();
        let gradient = &self.gradient[within.clone()];
        if !self.velocity.is_empty() {
            scratch.velocity.clear();
            let velocity = &self.velocity[within.clone()];
            scratch
                .velocity
                .extend(velocity.iter().zip(gradient).map(|(u, g)| momentum * u + g));
        }
        let gradient = if self.velocity.is_empty() {
            gradient
        } else {
            &scratch.velocity
        };
        let known = self.compensate(simd, gains, within.clone(), gradient, &mut scratch.values);
        let usable = known.is_usable();
        if usable {
            stats.gradient_norm_squared += known.gradient;
            stats.input_norm_squared += known.input;
        } else {
            // Nothing of such a group can be trusted: zeros are sent, its residual stays as it was.
            stats.nonfinite_groups += 1;
            scratch.values.fill(0.0);
        }
        let zero = quantizer.alphabet().zero;
        let (until, after) = self
            .residual
            .split_at_mut(within.end.min(self.residual.len()));
        let next = PREFETCH_LEAD..PREFETCH_LEAD + within.len().min(RUN);
        let ahead = [&self.gradient[within.end..], after].map(|after| {
            let end = next.end.min(after.len());
            after.get(next.start..end).unwrap_or_default()
        });
        let residual = match until.get_mut(within.clone()) {
            Some(residual) if usable => residual,
            _ => {
                scratch.spare.resize(within.len(), 0.0);
                &mut scratch.spare[..within.len()]
            }
        };
        let mut group = Group {
            simd,
            values: &mut scratch.values,
            largest: if usable { known.largest } else { 0.0 },
            symbols: &mut scratch.symbols[within.clone()],
            // Invariant: an element's place in its frame is below the frame's length, a u32.
            first: within.start as u32,
            rounding,
            extras: &mut scratch.extras,
            selection: &mut scratch.selection,
            energy: if usable { known.input } else { 0.0 },
            ahead,
            residual,
            carry: gains.beta - gains.alpha,
            remembered: None,
        };
        let parameters = quantizer.quantize(&mut group).unwrap_or_else(|| {
            group.symbols.fill(zero);
            [0.0; 2]
        });
        for parameter in &parameters[..quantizer.parameters()] {
            frame.extend_from_slice(&parameter.to_le_bytes());
        }
        if !usable {
            return;
        }
        if known.largest == 0.0 && gains.beta == gains.alpha {
            // Nothing came in and nothing is left. There may be many such groups.
            group.residual.fill(0.0);
            return;
        }
        let remembered = match group.remembered {
            Some(remembered) => remembered,
            None => remember_group(quantizer, parameters, &mut group, &mut scratch.table),
        };
        if remembered.inexact {
            quantizer.meaning(parameters, &mut scratch.table);
            if quantizer.is_dithered() {
                scratch.table = Table::default();
            }
            stats.error_squared += sum_of_errors(&scratch.table, group.symbols, group.values);
            bound_residual(group.residual);
            stats.residual_norm_squared += sum_of_squares(simd, group.residual);
        } else {
            stats.error_squared += remembered.error;
            stats.residual_norm_squared += remembered.residual;
        }
        // Momentum factor masking: what was sent begins anew.
        let velocity = self
            .velocity
            .get_mut(within.clone())
            .unwrap_or_default()
            .iter_mut();
        for ((u, next), symbol) in velocity
            .zip(&scratch.velocity)
            .zip(&scratch.symbols[within])
        {
            *u = if *symbol == zero { *next } else { 0.0 };
        }
    }
}

/// h ← (β − α)h + (v − q) for a group whose symbols are known.
fn remember_group(
    quantizer: &Quantizer,
    parameters: Parameters,
    group: &mut Group<'_>,
    table: &mut Table,
) -> Remembered {
    let alphabet = quantizer.alphabet();
    quantizer.meaning(parameters, table);
    if quantizer.is_dithered() {
        let (unit, zero) = (parameters[0], i32::from(alphabet.zero));
        let Group {
            simd,
            rounding,
            first,
            ..
        } = *group;
        take_dithered(
            simd,
            unit,
            zero,
            rounding,
            first,
            group.symbols,
            group.values,
        );
        *table = Table::default();
    }
    let mut remembered = Remembered::default();
    let runs = group.values.chunks(RUN).zip(group.symbols.chunks(RUN));
    for ((values, symbols), residual) in runs.zip(group.residual.chunks_mut(RUN)) {
        let given = Remember {
            alphabet: alphabet.size,
            table,
            carry: group.carry,
            values,
            symbols,
            ahead: group.ahead,
        };
        remembered.add(remember(group.simd, &given, residual));
    }
    remembered
}
