//! The samples of a data set in memory, and how they become batches.

use ndarray::{ArrayViewMut2, Axis};

use crate::batch::{Batch, Inputs, SparseRows, Targets};

/// The training or the test samples of a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub(super) samples: Samples,
    /// Those of a text are its own symbols: then there are none here.
    pub(super) targets: Targets,
}

/// Samples in the form that takes least memory.
// Until the data sets that need the other forms are here.
#[allow(dead_code)]
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Samples {
    /// Bytes, a quarter of the memory of floats.
    Bytes(Bytes),
    /// Numbers, one sample after another.
    Dense { values: Vec<f32>, features: usize },
    /// Numbers of which most are zero.
    Sparse(SparseRows),
    /// A text, cut into sequences of this length; the last symbol is no sample's but a target.
    Text { symbols: Vec<u8>, length: usize },
}

/// Samples as bytes, one after another.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bytes {
    pub(super) bytes: Vec<u8>,
    pub(super) features: usize,
    /// Of the channels, which vary fastest.
    pub(super) scales: Vec<Scale>,
}

/// A byte b is seen as `b · factor + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) factor: f32,
    pub(super) offset: f32,
}

impl Scale {
    /// Of a pixel, given mean and standard deviation of pixel/255.
    pub(super) fn of_pixels(mean: f32, deviation: f32) -> Self {
        Self {
            factor: 1.0 / (255.0 * deviation),
            offset: -mean / deviation,
        }
    }

    fn of(self, byte: u8) -> f32 {
        f32::from(byte) * self.factor + self.offset
    }
}

impl Split {
    /// Number of samples.
    pub fn len(&self) -> usize {
        match &self.samples {
            Samples::Text { symbols, length } => symbols.len().saturating_sub(1) / length,
            _ => self.targets.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What is to be found for each sample; none of a text, in which each symbol is to be found from
    /// those before it.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Puts the samples with these indices into `batch`.
    ///
    /// # Panics
    ///
    /// If an index is not below [`Split::len`].
    pub fn gather(&self, indices: &[usize], batch: &mut Batch) {
        let own = std::mem::take(&mut batch.inputs);
        batch.inputs = match &self.samples {
            Samples::Bytes(samples) => {
                let mut rows = own.into_dense(indices.len(), samples.features);
                samples.gather(indices, rows.view_mut());
                Inputs::Dense(rows)
            }
            Samples::Dense { values, features } => {
                let mut rows = own.into_dense(indices.len(), *features);
                for (mut row, index) in rows.axis_iter_mut(Axis(0)).zip(indices) {
                    let values = &values[index * features..(index + 1) * features];
                    row.iter_mut()
                        .zip(values)
                        .for_each(|(to, from)| *to = *from);
                }
                Inputs::Dense(rows)
            }
            Samples::Sparse(samples) => {
                let mut rows = own.into_sparse(samples.width());
                for index in indices {
                    let (columns, values) = samples.row(*index);
                    rows.push(columns, values);
                }
                Inputs::Sparse(rows)
            }
            Samples::Text { symbols, length } => {
                let mut rows = own.into_tokens(indices.len(), *length);
                let mut targets = std::mem::take(&mut batch.targets).into_classes();
                for (mut row, index) in rows.axis_iter_mut(Axis(0)).zip(indices) {
                    let symbols = &symbols[index * length..=(index + 1) * length];
                    row.iter_mut()
                        .zip(symbols)
                        .for_each(|(to, from)| *to = u32::from(*from));
                    targets.extend(symbols[1..].iter().map(|symbol| u32::from(*symbol)));
                }
                batch.targets = Targets::Classes(targets);
                batch.inputs = Inputs::Tokens(rows);
                return;
            }
        };
        batch.targets.gather(&self.targets, indices);
    }

    /// Feeds everything that distinguishes this split from another into `hasher`.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        let mut number = |number: usize| {
            hasher.update(&(number as u64).to_le_bytes());
        };
        number(self.len());
        match &self.samples {
            Samples::Bytes(samples) => {
                number(samples.features);
                for Scale { factor, offset } in &samples.scales {
                    hasher.update(&factor.to_le_bytes());
                    hasher.update(&offset.to_le_bytes());
                }
                hasher.update(&samples.bytes);
            }
            Samples::Dense { values, features } => {
                number(*features);
                floats(values, hasher);
            }
            Samples::Sparse(rows) => {
                number(rows.width());
                for (columns, values) in rows.rows() {
                    hasher.update(&(columns.len() as u64).to_le_bytes());
                    numbers(columns, hasher);
                    floats(values, hasher);
                }
            }
            Samples::Text { symbols, length } => {
                number(symbols.len());
                number(*length);
                hasher.update(symbols);
            }
        }
        match &self.targets {
            Targets::Classes(classes) => numbers(classes, hasher),
            Targets::Values(values) => floats(values, hasher),
        }
    }
}

fn numbers(numbers: &[u32], hasher: &mut blake3::Hasher) {
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
}

fn floats(values: &[f32], hasher: &mut blake3::Hasher) {
    for value in values {
        hasher.update(&value.to_le_bytes());
    }
}

impl Bytes {
    /// Bytes that are seen through one scale, none yet.
    pub(super) fn new(features: usize, scale: Scale) -> Self {
        Self {
            bytes: Vec::new(),
            features,
            scales: vec![scale],
        }
    }

    fn gather(&self, indices: &[usize], mut rows: ArrayViewMut2<'_, f32>) {
        for (mut row, index) in rows.axis_iter_mut(Axis(0)).zip(indices) {
            let bytes = &self.bytes[index * self.features..(index + 1) * self.features];
            let scales = self.scales.iter().cycle();
            for ((to, byte), scale) in row.iter_mut().zip(bytes).zip(scales) {
                *to = scale.of(*byte);
            }
        }
    }
}
