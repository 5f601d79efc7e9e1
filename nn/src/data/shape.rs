//! What a model must know of its data.

use std::fmt;

/// What a sample is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// That many numbers: [`Inputs::Dense`](crate::Inputs).
    Flat(usize),
    /// That many numbers, most of them zero: [`Inputs::Sparse`](crate::Inputs).
    Sparse(usize),
    /// Pixels of several channels, which vary fastest: [`Inputs::Dense`](crate::Inputs).
    Image {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// Numbers a pixel.
        channels: usize,
    },
    /// Symbols, each below the size of a vocabulary: [`Inputs::Tokens`](crate::Inputs).
    Sequence {
        /// Symbols a sample.
        length: usize,
        /// How many different symbols there are.
        vocabulary: usize,
    },
}

impl Shape {
    /// Numbers, or symbols, of a sample. A product beyond all memory is `usize::MAX`.
    pub fn features(self) -> usize {
        match self {
            Self::Flat(features) | Self::Sparse(features) => features,
            Self::Image {
                height,
                width,
                channels,
            } => height.saturating_mul(width).saturating_mul(channels),
            Self::Sequence { length, .. } => length,
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flat(features) => write!(f, "rows of {features} numbers"),
            Self::Sparse(features) => write!(f, "sparse rows of {features} numbers"),
            Self::Image {
                height,
                width,
                channels,
            } => write!(f, "images of {height}×{width}×{channels}"),
            Self::Sequence { length, vocabulary } => {
                write!(f, "sequences of {length} symbols out of {vocabulary}")
            }
        }
    }
}

/// What is to be said of a sample, or of each position of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Which of so many classes.
    Classes(usize),
    /// A number.
    Regression,
}

impl Task {
    /// Scores that a model gives: one a class, or the number itself.
    pub fn outputs(self) -> usize {
        match self {
            Self::Classes(classes) => classes,
            Self::Regression => 1,
        }
    }
}
