//! Metrics on their way to the coordinator: some steps at a time, never in a step's way.

use std::time::Duration;

use ecq_cluster::StepReport;

use crate::exchange::Meter;

/// How often collected reports are sent.
pub(crate) const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// Reports that wait to be sent.
#[derive(Debug)]
pub(crate) struct Telemetry {
    meter: Meter,
    counted: u64,
    pending: Vec<StepReport>,
}

impl Telemetry {
    pub(crate) fn new(meter: Meter) -> Self {
        Self {
            meter,
            counted: 0,
            pending: Vec::new(),
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
        (!self.pending.is_empty()).then(|| std::mem::take(&mut self.pending))
    }
}
