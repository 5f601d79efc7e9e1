//! What a node has computed and not sent, beyond the view in which it was a member.

use ecq_cluster::{NodeId, Residual, RunConfig, Step};
use ecq_quant::Encoder;

/// The encoder as it was before the last contributions, as long as these may turn out to be void. Members are at
/// most one step apart, so that the others may take back what this one has applied last, and what it computes.
#[derive(Debug)]
pub(crate) struct Past([(Option<Step>, Encoder); 2]);

impl Past {
    pub(super) fn new(encoder: &Encoder) -> Self {
        Self([(None, encoder.clone()), (None, encoder.clone())])
    }

    /// Remembers the encoder before its contribution to `step`.
    pub(super) fn save(&mut self, step: Step, encoder: &Encoder) {
        let oldest = self.0.iter_mut().min_by_key(|(of, _)| *of);
        if let Some((of, before)) = oldest {
            *of = Some(step);
            before.clone_from(encoder);
        }
    }

    /// Makes the encoder what it was before its contribution to `step`.
    pub(super) fn take_back(&mut self, step: Step, encoder: &mut Encoder) {
        let saved = self.0.iter_mut().find(|(of, _)| *of == Some(step));
        if let Some((of, before)) = saved {
            *of = None;
            std::mem::swap(before, encoder);
        }
    }

    /// Nothing before now can be void.
    pub(super) fn forget(&mut self) {
        self.0.iter_mut().for_each(|(of, _)| *of = None);
    }

    fn before(&self, step: Step) -> Option<&Encoder> {
        let saved = self.0.iter().find(|(of, _)| *of == Some(step));
        saved.map(|(_, before)| before)
    }

    /// The first step before which the encoder is known, with all later ones.
    fn first(&self) -> Step {
        let steps = self.0.iter().filter_map(|(of, _)| *of);
        let last = steps.clone().max();
        let follows = |step: &Step| last.is_some_and(|last| *step + 1 >= last);
        steps.filter(follows).min().unwrap_or(0)
    }
}

/// What a process still has when the others have gone on without it.
#[derive(Debug)]
pub(crate) struct Heritage {
    /// As whom it has computed that.
    pub(super) node: NodeId,
    /// The run.
    pub(super) config: RunConfig,
    /// After the last contribution.
    pub(super) encoder: Encoder,
    pub(super) past: Past,
}

impl Heritage {
    /// What the coordinator is told of it.
    pub(crate) fn residual(&self) -> Residual {
        Residual {
            node: self.node,
            first: self.past.first(),
        }
    }

    /// The encoder before `step`, to which contributions do not count any more.
    pub(super) fn before(&self, step: Step) -> &Encoder {
        self.past.before(step).unwrap_or(&self.encoder)
    }

    /// ‖h‖ after the last contribution.
    pub(crate) fn norm(&self) -> f64 {
        norm(&self.encoder)
    }
}

/// ‖h‖.
pub(super) fn norm(encoder: &Encoder) -> f64 {
    let squares = encoder.residual().iter().map(|h| f64::from(*h).powi(2));
    squares.sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::tests::digits;
    use ecq_quant::FrameId;

    /// An encoder that contributes, and its residual before each step.
    fn contribute(steps: std::ops::Range<Step>) -> (Heritage, Vec<Vec<f32>>) {
        let rules = digits("softmax");
        let mut encoder = Encoder::new(&rules.codec, &rules.layout, 1);
        let mut past = Past::new(&encoder);
        let mut residuals = Vec::new();
        for step in steps {
            let (rank, bucket) = (0, 0);
            let id = FrameId { step, rank, bucket };
            let all = rules.buckets[0].clone();
            let gradient: Vec<f32> = all.clone().map(|i| (i as f32).sin()).collect();
            past.save(step, &encoder);
            residuals.push(encoder.residual().to_vec());
            encoder.encode(id, 1, all, &gradient, &mut Vec::new());
        }
        let heritage = Heritage {
            node: 7,
            config: rules.config,
            encoder,
            past,
        };
        (heritage, residuals)
    }

    #[test]
    fn two_contributions_can_be_taken_back_and_no_more() {
        let (mut heritage, residuals) = contribute(0..5);
        let expected = Residual { node: 7, first: 3 };
        assert_eq!(heritage.residual(), expected);
        assert!(heritage.norm() > 0.0);
        for step in [3, 4] {
            assert_eq!(heritage.before(step).residual(), residuals[step as usize]);
        }
        let last = heritage.encoder.residual().to_vec();
        assert_eq!(heritage.before(5).residual(), last);
        // The next view takes back the last one.
        heritage.past.take_back(4, &mut heritage.encoder);
        assert_eq!(heritage.encoder.residual(), residuals[4]);
        assert_eq!(heritage.before(4).residual(), residuals[4]);
        assert_eq!(heritage.before(3).residual(), residuals[3]);
        heritage.past.forget();
        assert_eq!(heritage.residual().first, 0, "all that it has counts");
    }
}
