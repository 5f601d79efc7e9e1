//! The launcher's share of standard error: the children's lines, and below them the progress.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use ecq_proto::v1::RunStatus;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often progress is told where it cannot be drawn.
const TOLD_EVERY: Duration = Duration::from_secs(2);

/// Where lines and progress go.
#[derive(Clone, Debug)]
pub(super) enum Output {
    /// A terminal: a bar that stays below the lines.
    Bar(ProgressBar),
    /// Anything else: a line now and then.
    Plain(Arc<Mutex<Told>>),
    /// Nobody watches.
    Silent,
}

/// What was last told.
#[derive(Debug, Default)]
pub(super) struct Told {
    when: Option<Instant>,
    steps: u64,
}

impl Output {
    pub(super) fn new(shown: bool) -> Self {
        if !shown {
            return Self::Silent;
        }
        if !std::io::stderr().is_terminal() {
            return Self::Plain(Arc::default());
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template = "{bar:20} {pos}/{len} steps  {msg}  {elapsed} + {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self::Bar(bar)
    }

    /// Shows a line.
    pub(super) fn line(&self, line: &str) {
        match self {
            Self::Bar(bar) => bar.println(line),
            Self::Plain(_) => {
                let _nobody_reads_it = writeln!(std::io::stderr(), "{line}");
            }
            Self::Silent => {}
        }
    }

    /// Shows how far the run is.
    pub(super) fn progress(&self, status: &RunStatus) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(status.steps_total);
                bar.set_position(status.steps_done);
                bar.set_message(measures(status));
            }
            Self::Plain(told) => {
                let Ok(mut told) = told.lock() else { return };
                let due = told.when.is_none_or(|when| when.elapsed() >= TOLD_EVERY);
                let last = status.steps_done == status.steps_total;
                if status.steps_done > told.steps && (due || last) {
                    *told = Told {
                        when: Some(Instant::now()),
                        steps: status.steps_done,
                    };
                    drop(told);
                    let (done, total) = (status.steps_done, status.steps_total);
                    self.line(&format!("step {done}/{total}  {}", measures(status)));
                }
            }
            Self::Silent => {}
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

fn measures(status: &RunStatus) -> String {
    let parts = [
        status.train_loss.map(|loss| format!("loss {loss:.4}")),
        status
            .test_accuracy
            .map(|accuracy| format!("test {:.2} %", accuracy * 100.0)),
        status
            .bits_per_element
            .map(|bits| format!("{bits:.2} bits/element")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() {
        status.reason.clone()
    } else {
        parts.join("  ")
    }
}
