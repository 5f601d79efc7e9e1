//! The directory of a run: what is in it, and how files get there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::error::CoordinatorError;

/// The directory that belongs to one run and no other.
#[derive(Clone, Debug)]
pub(crate) struct RunDir(PathBuf);

const CONFIG: &str = "config.toml";

impl RunDir {
    /// Takes the directory for a run, making it if need be, and leaves the configuration in it.
    /// Other files may be there already, such as a launcher's logs, but none of another run.
    pub(crate) fn take(path: &Path, config: &str) -> Result<Self, CoordinatorError> {
        if path.join(CONFIG).exists() {
            return Err(CoordinatorError::Occupied {
                path: path.to_owned(),
            });
        }
        let made = fs::create_dir_all(path);
        made.map_err(|source| CoordinatorError::RunDir {
            path: path.to_owned(),
            source,
        })?;
        let dir = Self(path.to_owned());
        dir.put(CONFIG, config.as_bytes())?;
        Ok(dir)
    }

    /// A file's place in the directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Leaves a file, whole and durable, or none.
    pub(crate) fn put(&self, name: &str, contents: &[u8]) -> Result<(), CoordinatorError> {
        let path = self.path(name);
        let mut partial = Partial::create(&path).map_err(|e| unwritable(&path, e))?;
        let written = partial
            .file
            .write_all(contents)
            .and_then(|()| partial.complete());
        written.map_err(|error| unwritable(&path, error))
    }

    /// A new file to append to.
    pub(crate) fn create(&self, name: &str) -> Result<File, CoordinatorError> {
        let path = self.path(name);
        let file = File::options().create_new(true).append(true).open(&path);
        file.map_err(|error| unwritable(&path, error))
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
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = File::create(&partial)?;
        Ok(Self {
            file,
            partial,
            path: path.to_owned(),
            complete: false,
        })
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
