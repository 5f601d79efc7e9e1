//! What can be the matter with a log.

use std::io;
use std::path::PathBuf;

use ecq_cluster::{Step, ViewNumber};

/// The log cannot be written, so that the node must not go on.
#[derive(Debug, thiserror::Error)]
#[error("cannot record to {}: {source}", path.display())]
pub struct RecordError {
    /// The segment, or the directory.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// What is the matter with the bytes of a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// It does not begin as a segment does.
    #[error("this is no log of frames")]
    Magic,
    /// Another version of the format.
    #[error("it is a log of version {0}, and this program reads version 2")]
    Version(u32),
    /// Tag and length are not what was written.
    #[error("tag and length have a wrong checksum")]
    Head,
    /// The body is not what was written.
    #[error("a wrong checksum")]
    Body,
    /// A tag that does not belong here.
    #[error("{0:?} does not belong here")]
    Tag(String),
    /// A length that no block of this tag has.
    #[error("{0} bytes are more than it can have")]
    Length(u64),
    /// A body that ends early or too late, or contradicts itself.
    #[error("it is malformed: {0}")]
    Structure(&'static str),
}

/// A log that cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A file or directory that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No segment in the directory.
    #[error("{} holds no log of frames; was the run started with --record?", .0.display())]
    Empty(PathBuf),
    /// Bytes that nobody has written so.
    #[error("{}, byte {offset}: {defect}", path.display())]
    Malformed {
        /// The segment.
        path: PathBuf,
        /// Where the block begins.
        offset: u64,
        /// What is wrong with it.
        defect: Defect,
    },
    /// A segment that does not belong to the others, or not under this name.
    #[error("{} does not belong here: {reason}", path.display())]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// In what it differs.
        reason: String,
    },
    /// A configuration that this program cannot carry out.
    #[error("{}: {reason}", path.display())]
    Unsupported {
        /// The segment.
        path: PathBuf,
        /// What it cannot do.
        reason: String,
    },
    /// A step is missing.
    #[error(
        "{}, byte {offset}: step {missing} is missing from the log; what comes next is step {found}",
        path.display()
    )]
    Gap {
        /// The segment that goes on too late.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The first step that is missing.
        missing: Step,
        /// The step that is there.
        found: Step,
    },
    /// A step that stands in the log twice, and not the same.
    #[error("{}, byte {offset}: step {step} is not what was recorded of it before", path.display())]
    Contradiction {
        /// The later segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The step.
        step: Step,
    },
    /// A step made in a view that cannot have made it.
    #[error("{}, byte {offset}: view {view} has not made step {step}", path.display())]
    View {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The step.
        step: Step,
        /// The view that the log says.
        view: ViewNumber,
    },
    /// Frames that do not make up a step.
    #[error("{}, byte {offset}: step {step} cannot be applied: {reason}", path.display())]
    Frames {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// The step.
        step: Step,
        /// Why.
        reason: String,
    },
}
