//! The directory of a run: what is in it, and how files get there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::CoordinatorError;

/// The directory that belongs to one run and no other.
#[derive(Clone, Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    /// Whether it was made for this run.
    made: bool,
}

pub(crate) const CONFIG: &str = "config.toml";
pub(crate) const DIFFERENCES: &str = "differences.jsonl";
pub(crate) const HISTORY: &str = "history.jsonl";
pub(crate) const METRICS: &str = "metrics.jsonl";
pub(crate) const MODEL: &str = "model.safetensors";
pub(crate) const SUMMARY: &str = "summary.json";
pub(crate) const STORE: &str = "run.sqlite";
/// How the name of a TensorBoard event file begins.
pub(crate) const EVENTS: &str = "events.out.tfevents.";

impl RunDir {
    /// Takes the directory for a run, making it if need be, and leaves the configuration in it.
    /// Other files may be there already, such as a launcher's logs, but none of another run.
    pub(crate) fn take(path: &Path, config: &str) -> Result<Self, CoordinatorError> {
        let failed = |source| CoordinatorError::RunDir {
            path: path.to_owned(),
            source,
        };
        let made = !path.exists();
        fs::create_dir_all(path).map_err(failed)?;
        let dir = Self {
            path: path.to_owned(),
            made,
        };
        if !dir.files_of_a_run().map_err(failed)?.is_empty() {
            return Err(dir.occupied());
        }
        // Only one of several coordinators creates this file: the directory is its.
        let mut file = dir.create(CONFIG)?;
        let written = file
            .write_all(config.as_bytes())
            .and_then(|()| file.sync_all());
        written.map_err(|error| {
            dir.abandon();
            unwritable(&dir.path(CONFIG), error)
        })?;
        Ok(dir)
    }

    /// Takes the directory of a run that is to go on; nothing if it holds none.
    pub(crate) fn retake(path: &Path) -> Option<Self> {
        let dir = Self {
            path: path.to_owned(),
            made: false,
        };
        dir.path(STORE).is_file().then_some(dir)
    }

    /// Replaces a file by these contents, durably.
    pub(crate) fn replace(&self, name: &str, contents: &[u8]) -> Result<(), CoordinatorError> {
        let path = self.path(name);
        let removed = match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed.map_err(|error| unwritable(&path, error))?;
        self.put(name, contents)
    }

    /// Removes what a process that died has begun, or what is to be made anew.
    pub(crate) fn discard(&self, name: &str) {
        let _not_there = fs::remove_file(self.path(name));
    }

    /// A file to append to, made if it is not there.
    pub(crate) fn append(&self, name: &str) -> Result<File, CoordinatorError> {
        let path = self.path(name);
        let file = File::options().create(true).append(true).open(&path);
        file.map_err(|error| unwritable(&path, error))
    }

    /// Leaves the directory as it was found, after a start that failed. None of the files removed
    /// was there when it was taken.
    pub(crate) fn abandon(&self) {
        for path in self.files_of_a_run().unwrap_or_default() {
            let _gone_already = fs::remove_file(path);
        }
        if self.made {
            let _not_empty = fs::remove_dir(&self.path);
        }
    }

    fn files_of_a_run(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let known =
                [CONFIG, DIFFERENCES, HISTORY, METRICS, MODEL, SUMMARY].map(|known| name == known);
            // SQLite keeps a log beside a store in use.
            let store = name.to_string_lossy().starts_with(STORE);
            if store || known.contains(&true) || name.to_string_lossy().starts_with(EVENTS) {
                found.push(self.path.join(name));
            }
        }
        Ok(found)
    }

    fn occupied(&self) -> CoordinatorError {
        CoordinatorError::Occupied {
            path: self.path.clone(),
        }
    }

    /// A file's place in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves a file, whole and durable, or none.
    pub(crate) fn put(&self, name: &str, contents: &[u8]) -> Result<(), CoordinatorError> {
        let path = self.path(name);
        let written = Partial::create(&path).and_then(|mut partial| {
            partial.file.write_all(contents)?;
            partial.complete()
        });
        written.map_err(|error| unwritable(&path, error))
    }

    /// A new file to append to.
    pub(crate) fn create(&self, name: &str) -> Result<File, CoordinatorError> {
        let path = self.path(name);
        let file = File::options().create_new(true).append(true).open(&path);
        file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => self.occupied(),
            _ => unwritable(&path, error),
        })
    }
}

/// The error of a file that could not be written.
pub(crate) fn unwritable(path: &Path, source: io::Error) -> CoordinatorError {
    CoordinatorError::Io {
        path: path.to_owned(),
        source,
    }
}

/// A file that is not yet complete; it goes away unless it becomes so.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) file: File,
    partial: PathBuf,
    path: PathBuf,
    complete: bool,
}

impl Partial {
    /// Begins the file that will be `path`.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AlreadyExists`] if it is there, or somebody else has begun it.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::options()
            .create_new(true)
            .write(true)
            .open(&partial)?;
        let begun = Self {
            file,
            partial,
            path: path.to_owned(),
            complete: false,
        };
        // Asked only now: whoever has the partial file is the only one who can complete it.
        if path.exists() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(begun)
    }

    /// Makes the contents durable and gives the file its name.
    pub(crate) fn complete(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.partial, &self.path)?;
        self.complete = true;
        // The name is durable when the directory is.
        File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.complete {
            let _gone_already = fs::remove_file(&self.partial);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_directory_is_as_it_was_found() {
        let temporary = tempfile::tempdir().expect("there is room");
        let (new, old) = (temporary.path().join("new"), temporary.path().join("old"));
        fs::create_dir_all(old.join("logs")).expect("there is room");
        for path in [&new, &old] {
            let dir = RunDir::take(path, "name = 'x'").expect("it is free");
            for name in [METRICS, "events.out.tfevents.1"] {
                dir.create(name).expect("it is new");
            }
            dir.abandon();
        }
        assert!(!new.exists());
        let left: Vec<_> = fs::read_dir(&old).expect("it stays").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn a_file_is_complete_or_absent_and_never_replaced() {
        let temporary = tempfile::tempdir().expect("there is room");
        let path = temporary.path().join("file");
        drop(Partial::create(&path).expect("it is new"));
        let mut partial = Partial::create(&path).expect("nothing was left");
        let second = Partial::create(&path).expect_err("it is begun");
        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        partial.file.write_all(b"whole").expect("there is room");
        assert!(!path.exists());
        partial.complete().expect("there is room");
        assert_eq!(fs::read(&path).ok().as_deref(), Some(&b"whole"[..]));
        let third = Partial::create(&path).expect_err("it is there");
        assert_eq!(third.kind(), io::ErrorKind::AlreadyExists);
        let left: Vec<_> = fs::read_dir(temporary.path()).expect("it stays").collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
