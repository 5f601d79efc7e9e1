//! Metrics on their way to the coordinator: some steps at a time, never in a step's way.

use std::collections::VecDeque;
use std::time::Duration;

use ecq_cluster::{Evaluation, Step, StepReport};

use crate::exchange::Meter;

/// How often collected reports are sent.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Reports that are remembered while no coordinator stores them; the oldest are forgotten first.
const UNSTORED_MAX: usize = 100_000;

/// Reports that wait to be sent, or to be stored.
#[derive(Debug)]
pub(crate) struct Telemetry {
    meter: Meter,
    counted: u64,
    pending: Vec<StepReport>,
    /// What was sent and is not known to be stored.
    unstored: VecDeque<StepReport>,
    evaluations: VecDeque<Evaluation>,
}

impl Telemetry {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            meter,
            counted: 0,
            pending: Vec::new(),
            unstored: VecDeque::new(),
            evaluations: VecDeque::new(),
        }
    }

    /// Completes a step's report with the bytes written since the last one.
    pub(crate) fn push(&mut self, mut report: StepReport) {
        let bytes = self.meter.bytes();
        report.socket_bytes = bytes - self.counted;
        self.counted = bytes;
        self.pending.push(report);
    }

    /// What is to be sent now.
    pub(crate) fn take(&mut self) -> Option<Vec<StepReport>> {
        let taken = (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))?;
        self.unstored.extend(&taken);
        let more = self.unstored.len().saturating_sub(UNSTORED_MAX);
        self.unstored.drain(..more);
        Some(taken)
    }

    /// Remembers an evaluation until it is stored.
    pub(crate) fn evaluated(&mut self, evaluation: Evaluation) {
        self.evaluations.push_back(evaluation);
    }

    /// So many steps' reports, and evaluations after no more, are stored.
    pub(crate) fn stored(&mut self, steps: Step, evaluated: Step) {
        self.unstored.retain(|report| report.step >= steps);
        self.evaluations
            .retain(|evaluation| evaluation.steps > evaluated);
    }

    /// What is to be sent again to a coordinator that has been away.
    pub(crate) fn again(&self) -> (Vec<StepReport>, Vec<Evaluation>) {
        let reports = self.unstored.iter().copied().collect();
        (reports, self.evaluations.iter().copied().collect())
    }
}
