//! Data sets: what there is, where it is looked for, and how samples become batches.

mod digits;
mod error;
mod idx;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use error::DataError;

use crate::batch::Batch;
use crate::model::UnknownName;

/// The data sets there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataName {
    /// 8×8 digits, embedded in the program: 1,438 training and 359 test images.
    Digits,
    /// MNIST: 60,000 and 10,000 images of 28×28.
    Mnist,
    /// Fashion-MNIST: as MNIST, with clothes.
    FashionMnist,
}

/// Loads a data set; `dir` is where the files of those that are not embedded are looked for.
pub fn load(name: DataName, dir: Option<&Path>) -> Result<Dataset, DataError> {
    match name {
        DataName::Digits => digits::load(),
        DataName::Mnist => idx::load(&idx::MNIST, dir),
        DataName::FashionMnist => idx::load(&idx::FASHION_MNIST, dir),
    }
}

/// A data set in memory.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Its name.
    pub name: DataName,
    /// Length of a sample.
    pub features: usize,
    /// Number of classes.
    pub classes: usize,
    /// What is trained on.
    pub train: Split,
    /// What is evaluated on, never trained on.
    pub test: Split,
}

impl Dataset {
    /// BLAKE3 of name, shape and contents: equal if and only if two nodes train on the same data.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.name.to_string().as_bytes());
        for number in [
            self.features,
            self.classes,
            self.train.len(),
            self.test.len(),
        ] {
            hasher.update(&(number as u64).to_le_bytes());
        }
        for split in [&self.train, &self.test] {
            hasher.update(&split.pixels);
            hasher.update(&split.labels);
        }
        hasher.finalize().into()
    }
}

/// Samples as bytes, one after another, and their classes. A quarter of the memory of floats.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    features: usize,
    /// A pixel p is seen as `p · factor + offset`.
    factor: f32,
    offset: f32,
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The class of each sample.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// Puts the samples with these indices into `batch`.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Split::len`].
    pub fn gather(&self, indices: &[usize], batch: &mut Batch) {
        batch.resize(indices.len(), self.features);
        for ((mut row, label), index) in batch
            .inputs
            .rows_mut()
            .into_iter()
            .zip(&mut batch.labels)
            .zip(indices)
        {
            let pixels = &self.pixels[index * self.features..(index + 1) * self.features];
            for (input, pixel) in row.iter_mut().zip(pixels) {
                *input = f32::from(*pixel) * self.factor + self.offset;
            }
            *label = self.labels[*index];
        }
    }
}

impl FromStr for DataName {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        match text {
            "digits" => Ok(Self::Digits),
            "mnist" => Ok(Self::Mnist),
            "fashion-mnist" => Ok(Self::FashionMnist),
            _ => Err(UnknownName {
                kind: "data set",
                found: text.to_owned(),
                known: "digits, mnist, fashion-mnist",
            }),
        }
    }
}

impl fmt::Display for DataName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Digits => "digits",
            Self::Mnist => "mnist",
            Self::FashionMnist => "fashion-mnist",
        })
    }
}
