//! The model on the test split, and on its way out.

use ecq_cluster::{Evaluation, Step, View};
use ecq_nn::Loss;

use super::{Seat, Trainer, consumed};
use crate::driver::Input;
use crate::error::NodeError;
use crate::rules::Rules;
use crate::workload::Workload;

/// Samples evaluated at a time.
const EVALUATION_BATCH: usize = 256;

impl Trainer {
    /// The model after so many steps, if it is time for that: an observer's, or rank 0's once an epoch. The
    /// last is part of the delivery.
    pub(super) fn due(&mut self, steps: Step) -> Option<Evaluation> {
        if self
            .evaluate_every
            .is_some_and(|every| steps.is_multiple_of(every))
        {
            let evaluation = self.evaluate(steps);
            tracing::info!(
                steps,
                loss = format!("{:.4}", evaluation.loss),
                accuracy = format!("{:.2} %", evaluation.accuracy * 100.0),
                "evaluated"
            );
            return Some(evaluation);
        }
        let due = self.evaluates(steps - 1) && steps < self.workload.rules.steps;
        due.then(|| self.evaluate(steps))
    }

    /// Whether this member evaluates, and the cluster has seen the whole training set once more after
    /// `step`.
    fn evaluates(&self, step: Step) -> bool {
        let Some(Seat { view, rank: 0, .. }) = &self.seat else {
            return false;
        };
        let Workload { dataset, rules } = &self.workload;
        let epoch = dataset.train.len() as u64;
        let passed = |step| consumed(&rules.config, view, step) / epoch;
        step >= view.first_step && passed(step + 1) > passed(step)
    }

    fn evaluate(&mut self, steps: Step) -> Evaluation {
        let Workload {
            dataset,
            rules: Rules { model, replica, .. },
        } = &mut self.workload;
        let mut loss = Loss::default();
        let all: Vec<usize> = (0..dataset.test.len()).collect();
        for indices in all.chunks(EVALUATION_BATCH) {
            dataset.test.gather(indices, &mut self.batch);
            loss += model.evaluate(&replica.parameters, &self.batch);
        }
        Evaluation {
            steps,
            loss: loss.mean(),
            accuracy: loss.accuracy(),
        }
    }

    /// Evaluates and packs the final model.
    pub(super) fn finish(&mut self, view: &View) -> Result<Vec<Input>, NodeError> {
        // A view that has nothing left to do was never entered, but whoever recorded before it may have
        // died without the last step.
        self.record(|recorder| recorder.enter(view, 0))?;
        let evaluation = self.evaluate(self.workload.rules.steps);
        let model = self.workload.rules.pack(self.workload.rules.steps)?;
        Ok(vec![Input::Evaluated(evaluation), Input::Packed(model)])
    }
}

/// After how many steps an observer evaluates, where 0 stands for an epoch: as many as the run's nodes
/// take to see every sample once.
pub(super) fn every(steps: Step, workload: &Workload) -> Step {
    let samples = workload.dataset.train.len() as u64;
    let config = &workload.rules.config;
    let epoch = samples.div_ceil(config.samples_per_step(config.nodes));
    if steps == 0 { epoch.max(1) } else { steps }
}
