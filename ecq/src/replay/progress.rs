//! How far a replay is, on a terminal.

use std::io::IsTerminal as _;

use ecq_cluster::Step;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on standard error, if that is a terminal.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn new(steps: Step) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let template = "{bar:20} {pos}/{len} steps  {elapsed} + {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("━╸─"));
        }
        Self(Some(bar))
    }

    pub(super) fn at(&self, step: Step) {
        if let Some(bar) = &self.0 {
            bar.set_position(step);
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    /// An error does not stand beside a bar.
    fn drop(&mut self) {
        self.finish();
    }
}
