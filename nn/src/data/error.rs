//! Why a data set cannot be loaded.

use std::path::PathBuf;

/// A data set that is not there or not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Nobody said where the files are.
    #[error(
        "{name} is not embedded in ecq: put {files} into a folder and name it with --data-dir or \
         ECQ_DATA_DIR. The files are at {origin}"
    )]
    NoDirectory {
        /// The data set.
        name: String,
        /// The canonical file names.
        files: String,
        /// Where people get them.
        origin: &'static str,
    },
    /// A file is in none of the folders where it is looked for.
    #[error(
        "{name}: no {file} (nor without .gz) in {searched}; {name} consists of {files}, all in one \
         folder, which are at {origin}"
    )]
    Missing {
        /// The data set.
        name: String,
        /// The file.
        file: String,
        /// Where it was looked for.
        searched: String,
        /// The canonical file names.
        files: String,
        /// Where people get them.
        origin: &'static str,
    },
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system or the decompressor says.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{}, byte {offset}: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Offset in the uncompressed contents.
        offset: u64,
        /// What is there and what was expected.
        reason: String,
    },
}
