//! What becomes of a contribution when its step is made: it is part of it, or goes back to the residual.

use bytes::Bytes;
use ecq_cluster::{Failure, Rank, Step, StepReport};
use ecq_quant::{Aggregator, Encoder, FrameId};

use super::Trainer;
use crate::rules::Rules;

/// A member's own frames for a step.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    pub(super) step: Step,
    pub(super) rank: Rank,
    /// One a bucket.
    pub(super) frames: Vec<Bytes>,
}

impl Contribution {
    /// h ← h + q: nobody has applied these frames, and nobody will. What stays is βh + g, as if nothing had
    /// been sent.
    fn take_back(
        &self,
        rules: &Rules,
        aggregator: &Aggregator,
        encoder: &mut Encoder,
    ) -> Result<(), Failure> {
        let (step, rank) = (self.step, self.rank);
        let frames = (0..).zip(&self.frames).map(|(bucket, frame)| {
            let id = FrameId { step, rank, bucket };
            (id, &frame[..])
        });
        let frames: Vec<(FrameId, &[u8])> = frames.collect();
        let taken = encoder.take_back(|residual| {
            aggregator.accumulate_all(&rules.buckets, &frames, 1.0, residual)
        });
        taken.map_err(|error| {
            Failure::Fault(format!(
                "cannot take back the contribution to step {step}: {error}"
            ))
        })
    }
}

impl Trainer {
    /// Settles the contribution under way, now that these `ranks` make up `step`; returns a member's report.
    pub(super) fn settle(
        &mut self,
        step: Step,
        ranks: &[Rank],
    ) -> Result<Option<StepReport>, Failure> {
        let contribution = self.under_way.take();
        let Some(seat) = &self.seat else {
            return Ok(None); // It only follows.
        };
        if ranks.contains(&seat.rank) {
            return Ok(contribution.map(|_| self.report));
        }
        if let Some(contribution) = &contribution {
            contribution.take_back(&self.workload.rules, &self.aggregator, &mut self.encoder)?;
            tracing::debug!(step, "left out: the contribution goes back to the residual");
        }
        let residual = self.encoder.residual().iter();
        Ok(Some(StepReport {
            step,
            left_out: 1,
            taken_back: u64::from(contribution.is_some()),
            residual_norm_squared: residual.map(|h| f64::from(*h).powi(2)).sum(),
            apply_seconds: self.report.apply_seconds,
            elapsed_seconds: self.report.elapsed_seconds,
            ..StepReport::default()
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::digits;

    /// Sum(applied) + residual = sum(computed), however often a contribution comes too late.
    #[test]
    fn what_is_left_out_comes_with_the_next_contribution() {
        let rules = digits("mlp");
        let aggregator = Aggregator::new(rules.decoder());
        let mut encoder = Encoder::new(&rules.codec, &rules.layout, 1);
        let elements = rules.replica.parameters.len();
        let (mut computed, mut applied) = (vec![0.0_f32; elements], vec![0.0_f32; elements]);
        for step in 0..6 {
            let gradient: Vec<f32> = (0..elements)
                .map(|i| ((i as f32 + 1.0) * (step as f32 + 1.0)).sin())
                .collect();
            let mut frames = Vec::new();
            encoder.encode_all(step, 1, 4, &rules.buckets, &gradient, &mut frames);
            let contribution = Contribution {
                step,
                rank: 1,
                frames: frames.into_iter().map(Bytes::from).collect(),
            };
            let late = step % 3 != 2;
            let mut nowhere = Encoder::new(&rules.codec, &rules.layout, 1);
            let target = if late { &mut encoder } else { &mut nowhere };
            contribution
                .take_back(&rules, &aggregator, target)
                .expect("the frames are its own");
            for i in 0..elements {
                computed[i] += gradient[i];
                applied[i] += nowhere.residual()[i];
            }
            for i in 0..elements {
                let sum = applied[i] + encoder.residual()[i];
                assert!(
                    (sum - computed[i]).abs() < 1e-4,
                    "{sum} for {}",
                    computed[i]
                );
            }
        }
        assert!(
            applied.iter().any(|value| value.abs() > 1.0),
            "not all was left out"
        );
    }
}
