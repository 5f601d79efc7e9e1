//! MNIST and its look-alikes: four files in IDX format, compressed or not, as people download them.
//!
//! ```text
//! images   u32 2051, u32 count, u32 rows, u32 columns, then a byte a pixel     (big-endian)
//! labels   u32 2049, u32 count, then a byte a label
//! ```

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::split::{Bytes, Samples, Scale};
use super::{DataError, DataName, Dataset, Shape, Split, Task};
use crate::batch::Targets;

/// A data set in this format.
pub(super) struct Source {
    name: DataName,
    /// Folders below the data directory, the directory itself last.
    folders: [&'static str; 3],
    origin: &'static str,
    /// Of pixel/255 over the training images, as their authors publish them.
    mean: f32,
    deviation: f32,
}

pub(super) const MNIST: Source = Source {
    name: DataName::Mnist,
    folders: ["mnist", "MNIST/raw", ""],
    origin: "https://ossci-datasets.s3.amazonaws.com/mnist/ (originally yann.lecun.com/exdb/mnist)",
    mean: 0.1307,
    deviation: 0.3081,
};

pub(super) const FASHION_MNIST: Source = Source {
    name: DataName::FashionMnist,
    folders: ["fashion-mnist", "FashionMNIST/raw", ""],
    origin: "https://github.com/zalandoresearch/fashion-mnist (in Debian: dataset-fashion-mnist)",
    mean: 0.2860,
    deviation: 0.3530,
};

const SIDE: u32 = 28;
const CLASSES: u8 = 10;
const IMAGES_MAGIC: u32 = 2051;
const LABELS_MAGIC: u32 = 2049;
/// No file of this family has more; a header that says so lies.
const SAMPLES_MAX: u32 = 1 << 20;

const TRAIN: [&str; 2] = ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"];
const TEST: [&str; 2] = ["t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"];

pub(super) fn load(source: &Source, dir: Option<&Path>) -> Result<Dataset, DataError> {
    let Some(dir) = dir else {
        return Err(DataError::NoDirectory {
            name: source.name.to_string(),
            files: files(),
            origin: source.origin,
        });
    };
    let [images, labels, test_images, test_labels] = find(source, dir)?;
    Ok(Dataset {
        name: source.name,
        shape: Shape::Image {
            height: SIDE as usize,
            width: SIDE as usize,
            channels: 1,
        },
        task: Task::Classes(usize::from(CLASSES)),
        train: split(source, images, labels)?,
        test: split(source, test_images, test_labels)?,
    })
}

fn files() -> String {
    let names = TRAIN
        .into_iter()
        .chain(TEST)
        .map(|name| format!("{name}.gz"));
    names.collect::<Vec<_>>().join(", ")
}

fn split(source: &Source, images: PathBuf, labels: PathBuf) -> Result<Split, DataError> {
    let mut images = Idx::open(images)?;
    let count = images.header(IMAGES_MAGIC, "images")?;
    for what in ["rows", "columns"] {
        let side = images.number()?;
        if side != SIDE {
            return Err(images.malformed(format!("images of {side} {what}, expected {SIDE}")));
        }
    }
    let pixels = images.bytes(u64::from(count) * u64::from(SIDE * SIDE), "pixels")?;
    let mut labels = Idx::open(labels)?;
    let found = labels.header(LABELS_MAGIC, "labels")?;
    if found != count {
        let images = images.path.display();
        return Err(labels.malformed(format!("{found} labels, but {images} has {count} images")));
    }
    let values = labels.bytes(u64::from(found), "labels")?;
    if let Some(position) = values.iter().position(|label| *label >= CLASSES) {
        labels.offset = 8 + position as u64;
        return Err(labels.malformed(format!("label {}, expected 0 to 9", values[position])));
    }
    Ok(Split {
        samples: Samples::Bytes(Bytes {
            bytes: pixels,
            features: (SIDE * SIDE) as usize,
            scales: vec![Scale::of_pixels(source.mean, source.deviation)],
        }),
        targets: Targets::Classes(values.into_iter().map(u32::from).collect()),
    })
}

/// The four files, all in one folder: images of one data set must not meet the labels of another.
fn find(source: &Source, dir: &Path) -> Result<[PathBuf; 4], DataError> {
    let folders = source.folders.map(|folder| dir.join(folder));
    let [a, b] = TRAIN;
    let [c, d] = TEST;
    let files = [a, b, c, d];
    let found = folders
        .each_ref()
        .map(|folder| files.map(|file| place(folder, file)));
    if let Some([Some(a), Some(b), Some(c), Some(d)]) =
        found.iter().find(|found| found.iter().all(Option::is_some))
    {
        return Ok([a, b, c, d].map(Clone::clone));
    }
    // What is said is what is missing where most of them are, of equal folders the first.
    let count = |found: &[Option<PathBuf>; 4]| found.iter().flatten().count();
    let most = found.iter().rev().max_by_key(|found| count(found));
    let missing = most.and_then(|found| found.iter().position(Option::is_none));
    let searched = folders.map(|folder| folder.display().to_string());
    Err(DataError::Missing {
        name: source.name.to_string(),
        file: format!("{}.gz", files[missing.unwrap_or(0)]),
        searched: searched.join(", "),
        files: self::files(),
        origin: source.origin,
    })
}

/// Where a folder has a file, compressed or not.
fn place(folder: &Path, file: &str) -> Option<PathBuf> {
    let places = [folder.join(format!("{file}.gz")), folder.join(file)];
    places.into_iter().find(|path| path.is_file())
}

/// A file under way.
struct Idx {
    path: PathBuf,
    reader: Box<dyn Read>,
    offset: u64,
}

impl Idx {
    fn open(path: PathBuf) -> Result<Self, DataError> {
        let file = File::open(&path);
        let file = file.map_err(|source| DataError::Read {
            path: path.clone(),
            source,
        })?;
        let file = std::io::BufReader::new(file);
        let gz = path.extension().is_some_and(|extension| extension == "gz");
        let reader: Box<dyn Read> = if gz {
            Box::new(MultiGzDecoder::new(file))
        } else {
            Box::new(file)
        };
        Ok(Self {
            path,
            reader,
            offset: 0,
        })
    }

    fn malformed(&self, reason: String) -> DataError {
        DataError::Malformed {
            path: self.path.clone(),
            offset: self.offset,
            reason,
        }
    }

    /// Reads magic and count.
    fn header(&mut self, magic: u32, what: &str) -> Result<u32, DataError> {
        let found = self.number()?;
        if found != magic {
            let reason = format!("magic number {found}, expected {magic}: no file of {what}");
            return Err(self.malformed(reason));
        }
        let count = self.number()?;
        if !(1..=SAMPLES_MAX).contains(&count) {
            let reason = format!("{count} {what}, expected 1 to {SAMPLES_MAX}");
            return Err(self.malformed(reason));
        }
        Ok(count)
    }

    fn number(&mut self) -> Result<u32, DataError> {
        let mut bytes = [0; 4];
        self.fill(&mut bytes, "header")?;
        Ok(u32::from_be_bytes(bytes))
    }

    /// Reads what is left, which must be `count` bytes. Memory grows with what is there, not with
    /// what the header says.
    fn bytes(&mut self, count: u64, what: &str) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(count + 1).read_to_end(&mut bytes);
        let start = self.offset;
        self.offset += bytes.len() as u64;
        match read {
            Ok(_) if bytes.len() as u64 == count => Ok(bytes),
            Ok(_) if bytes.len() as u64 > count => {
                self.offset = start + count;
                Err(self.malformed(format!("bytes after the last of {count} {what}")))
            }
            Ok(_) => Err(self.truncated(count, what)),
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn fill(&mut self, bytes: &mut [u8], what: &str) -> Result<(), DataError> {
        match self.reader.read_exact(bytes) {
            Ok(()) => {
                self.offset += bytes.len() as u64;
                Ok(())
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.truncated(bytes.len() as u64, what))
            }
            Err(source) => Err(self.unreadable(source)),
        }
    }

    fn truncated(&self, count: u64, what: &str) -> DataError {
        self.malformed(format!(
            "the file is truncated: it ends inside its {count} bytes of {what}"
        ))
    }

    /// A compressed stream that ends too early is an error of reading; say which file it is.
    fn unreadable(&self, source: std::io::Error) -> DataError {
        if source.kind() == std::io::ErrorKind::UnexpectedEof {
            return self
                .malformed("the file is truncated: its compressed stream has no end".into());
        }
        DataError::Read {
            path: self.path.clone(),
            source,
        }
    }
}
