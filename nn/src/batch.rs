//! A mini-batch.

use ndarray::Array2;

/// Samples side by side and what is to be said of them, gathered in place: a batch that is filled
/// again with as much of the same kind allocates nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The samples.
    pub inputs: Inputs,
    /// What a model should find.
    pub targets: Targets,
}

/// The samples of a batch.
#[derive(Clone, Debug, PartialEq)]
pub enum Inputs {
    /// One row a sample. An image is a row of H·W·C, channels last.
    Dense(Array2<f32>),
    /// One row a sample, of which most is zero.
    Sparse(SparseRows),
    /// One row a sequence, each element the number of a symbol.
    Tokens(Array2<u32>),
}

/// Rows of which only the elements that are not zero are stored (compressed sparse rows).
#[derive(Clone, Debug, PartialEq)]
pub struct SparseRows {
    /// Elements of a row, zeros included.
    width: usize,
    /// Row r is at `offsets[r]..offsets[r + 1]` of the next two.
    offsets: Vec<usize>,
    /// Strictly ascending within a row, below `width`.
    columns: Vec<u32>,
    values: Vec<f32>,
}

/// What a model should find.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// A class for each sample or, of sequences, for each position, row by row.
    Classes(Vec<u32>),
    /// A number for each sample.
    Values(Vec<f32>),
}

impl Inputs {
    /// Number of samples.
    pub fn samples(&self) -> usize {
        match self {
            Self::Dense(rows) => rows.nrows(),
            Self::Sparse(rows) => rows.len(),
            Self::Tokens(rows) => rows.nrows(),
        }
    }

    /// The dense rows, for a model that was built for such.
    ///
    /// # Panics
    ///
    /// If they are something else.
    pub fn dense(&self) -> &Array2<f32> {
        match self {
            Self::Dense(rows) => rows,
            _ => panic!("the model was built for dense rows"),
        }
    }

    /// Their memory as dense rows of this size, contents unspecified.
    pub(crate) fn into_dense(self, samples: usize, features: usize) -> Array2<f32> {
        match self {
            Self::Dense(rows) => resized(rows, samples, features),
            _ => Array2::zeros((samples, features)),
        }
    }

    /// Their memory as sparse rows of this width, none yet.
    pub(crate) fn into_sparse(self, width: usize) -> SparseRows {
        match self {
            Self::Sparse(mut rows) => {
                rows.clear(width);
                rows
            }
            _ => SparseRows::new(width),
        }
    }

    /// Their memory as sequences of this length, contents unspecified.
    pub(crate) fn into_tokens(self, samples: usize, length: usize) -> Array2<u32> {
        match self {
            Self::Tokens(rows) => resized(rows, samples, length),
            _ => Array2::zeros((samples, length)),
        }
    }
}

/// `rows` with these dimensions, in the memory that they have if that is enough.
fn resized<T: Clone + Default>(rows: Array2<T>, samples: usize, columns: usize) -> Array2<T> {
    if rows.dim() == (samples, columns) {
        return rows;
    }
    let (mut values, _) = rows.into_raw_vec_and_offset();
    values.resize(samples * columns, T::default());
    Array2::from_shape_vec((samples, columns), values).expect("as many values as the shape has")
}

impl Default for Inputs {
    fn default() -> Self {
        Self::Dense(Array2::default((0, 0)))
    }
}

impl Default for Targets {
    fn default() -> Self {
        Self::Classes(Vec::new())
    }
}

impl Targets {
    /// Number of classes or values.
    pub fn len(&self) -> usize {
        match self {
            Self::Classes(classes) => classes.len(),
            Self::Values(values) => values.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Their memory as classes, none yet.
    pub(crate) fn into_classes(self) -> Vec<u32> {
        match self {
            Self::Classes(mut classes) => {
                classes.clear();
                classes
            }
            Self::Values(_) => Vec::new(),
        }
    }

    /// Their memory as values, none yet.
    pub(crate) fn into_values(self) -> Vec<f32> {
        match self {
            Self::Values(mut values) => {
                values.clear();
                values
            }
            Self::Classes(_) => Vec::new(),
        }
    }

    /// Replaces them by those of `all` with these indices.
    pub(crate) fn gather(&mut self, all: &Self, indices: &[usize]) {
        let own = std::mem::take(self);
        *self = match all {
            Self::Classes(all) => {
                let mut classes = own.into_classes();
                classes.extend(indices.iter().map(|index| all[*index]));
                Self::Classes(classes)
            }
            Self::Values(all) => {
                let mut values = own.into_values();
                values.extend(indices.iter().map(|index| all[*index]));
                Self::Values(values)
            }
        };
    }
}

impl SparseRows {
    /// No rows, of this width.
    pub fn new(width: usize) -> Self {
        Self {
            width,
            offsets: vec![0],
            columns: Vec::new(),
            values: Vec::new(),
        }
    }

    /// Forgets all rows and keeps the memory.
    pub fn clear(&mut self, width: usize) {
        self.width = width;
        self.offsets.truncate(1);
        self.columns.clear();
        self.values.clear();
    }

    /// Adds a row.
    ///
    /// # Panics
    ///
    /// If there are not as many columns as values, or if columns are not strictly ascending and below
    /// the width.
    pub fn push(&mut self, columns: &[u32], values: &[f32]) {
        assert_eq!(columns.len(), values.len(), "a column for each value");
        assert!(
            columns.is_sorted_by(|a, b| a < b)
                && columns
                    .last()
                    .is_none_or(|last| (*last as usize) < self.width),
            "columns ascend and are below the width"
        );
        self.columns.extend_from_slice(columns);
        self.values.extend_from_slice(values);
        self.offsets.push(self.columns.len());
    }

    /// Columns, strictly ascending, and values of a row.
    ///
    /// # Panics
    ///
    /// If there is no such row.
    pub fn row(&self, row: usize) -> (&[u32], &[f32]) {
        let range = self.offsets[row]..self.offsets[row + 1];
        (&self.columns[range.clone()], &self.values[range])
    }

    /// Columns and values, row after row.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = (&[u32], &[f32])> {
        (0..self.len()).map(|row| self.row(row))
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements of a row, zeros included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Elements of all rows that are stored.
    pub fn stored(&self) -> usize {
        self.values.len()
    }
}
