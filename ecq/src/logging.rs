//! Log lines and complaints, both on standard error.

use std::io::{IsTerminal as _, Write as _};

use tracing_subscriber::EnvFilter;

use crate::cli::LogFormat;

/// Starts logging what `RUST_LOG` selects, by default `info`.
pub(crate) fn start(format: LogFormat) {
    let asked = std::env::var("RUST_LOG")
        .ok()
        .filter(|filter| !filter.is_empty());
    let filter = EnvFilter::new(asked.as_deref().unwrap_or("info"));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false);
    match format {
        LogFormat::Text => logger.init(),
        LogFormat::Json => logger.json().init(),
    }
}

/// The one message of a command that failed.
pub(crate) fn complain(message: &str) {
    let _nobody_reads_it = writeln!(std::io::stderr(), "error: {message}");
}
