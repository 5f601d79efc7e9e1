//! Data sets: what there is, where it is looked for, and how samples become batches.

mod digits;
mod error;
mod idx;
mod shape;
mod split;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

pub use error::DataError;
pub use shape::{Shape, Task};
pub use split::Split;

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
    /// What a sample is.
    pub shape: Shape,
    /// What is to be said of it.
    pub task: Task,
    /// What is trained on.
    pub train: Split,
    /// What is evaluated on, never trained on.
    pub test: Split,
}

impl Dataset {
    /// BLAKE3 of name, shape and contents: equal if and only if two nodes train on the same data.
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        for text in [
            self.name.to_string(),
            self.shape.to_string(),
            format!("{:?}", self.task),
        ] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        self.train.hash(&mut hasher);
        self.test.hash(&mut hasher);
        hasher.finalize().into()
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
