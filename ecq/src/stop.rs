//! When to stop: signals, and the lifeline of a launcher.

use std::io::Read as _;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::exit::{Code, Failed};

/// Why to stop, once there is a reason.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    /// Cancelled by the first reason to stop.
    pub(crate) token: CancellationToken,
    /// Cancelled by the second.
    pub(crate) again: CancellationToken,
    code: Arc<OnceLock<Code>>,
}

impl Stop {
    /// Listens for SIGINT and SIGTERM.
    pub(crate) fn on_signals() -> Result<Self, Failed> {
        let stop = Self::default();
        for (kind, code) in [
            (SignalKind::interrupt(), Code::Interrupted),
            (SignalKind::terminate(), Code::Terminated),
            // A terminal that goes away.
            (SignalKind::hangup(), Code::Terminated),
        ] {
            let mut signals = signal(kind).map_err(|error| {
                Failed::new(
                    Code::Internal,
                    format!("cannot listen for signals: {error}"),
                )
            })?;
            let stop = stop.clone();
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    stop.ask(code);
                }
            });
        }
        Ok(stop)
    }

    /// Takes the end of standard input as the order to stop as well. Whoever holds the other end
    /// gives it by closing the pipe, and by dying of whatever cause.
    pub(crate) fn on_lifeline(&self) {
        let stop = self.clone();
        // A thread of its own: reading from standard input cannot be cancelled, and a runtime
        // would wait for it.
        std::thread::spawn(move || {
            let mut stdin = std::io::stdin().lock();
            let mut ignored = [0; 64];
            while stdin.read(&mut ignored).is_ok_and(|read| read > 0) {}
            stop.ask(Code::Terminated);
        });
    }

    fn ask(&self, code: Code) {
        if self.code.set(code).is_err() {
            self.again.cancel();
        }
        self.token.cancel();
    }

    /// The failure of a command that was stopped, if it was.
    pub(crate) fn cause(&self) -> Option<Failed> {
        let code = *self.code.get()?;
        let how = if code == Code::Interrupted {
            "interrupted"
        } else {
            "told to end"
        };
        Some(Failed::new(code, how))
    }

    /// The failure of a command that ended with `failed`: its cause, if it is that we stopped it,
    /// and not what happened before we did.
    pub(crate) fn explain(&self, failed: Failed, stopped: bool) -> Failed {
        if stopped {
            self.cause().unwrap_or(failed)
        } else {
            failed
        }
    }
}
