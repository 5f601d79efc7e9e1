//! The log of frames that a run leaves with `record = true`: written by [`Recorder`], read by [`Log`].
//!
//! `RECORD.md` describes the files and what writer and reader promise.

mod error;
mod format;
mod log;
mod recorder;
mod segment;

#[cfg(test)]
mod format_test;
#[cfg(test)]
mod log_test;

pub use error::{Defect, LogError, RecordError};
pub(crate) use format::{Entry, RunFacts};
pub(crate) use log::{Log, Logged, Steps};
pub(crate) use recorder::Recorder;
