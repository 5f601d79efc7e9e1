//! A file that tells others where a coordinator listens.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Failed;

/// A place that is known to be writable. The file appears whole or not at all, for somebody waits
/// for it to appear.
#[derive(Debug)]
pub(crate) struct AddressFile {
    path: PathBuf,
    partial: PathBuf,
}

impl AddressFile {
    /// Makes sure of the place before anything else is made.
    pub(crate) fn reserve(path: &Path) -> Result<Self, Failed> {
        let partial = path.with_extension("partial");
        fs::write(&partial, "").map_err(|error| unwritable(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            partial,
        })
    }

    /// Lets the file appear.
    pub(crate) fn publish(self, address: &str) -> Result<(), Failed> {
        fs::write(&self.partial, address)
            .and_then(|()| fs::rename(&self.partial, &self.path))
            .map_err(|error| unwritable(&self.path, &error))
    }
}

impl Drop for AddressFile {
    fn drop(&mut self) {
        // It is gone already where the file has appeared.
        let _gone = fs::remove_file(&self.partial);
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failed {
    Failed::io(format!("cannot write {}: {error}", path.display()))
}
