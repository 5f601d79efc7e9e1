//! How the flat parameter vector is cut: into tensors, buckets and scale groups.

use std::ops::Range;

/// Elements of the largest bucket: 4 MiB of `f32`.
pub const BUCKET_ELEMENTS_MAX: usize = 1 << 20;

/// The tensors that make up the flat vector, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where each tensor ends.
    ends: Vec<usize>,
    /// Elements of a row of each tensor as a matrix; 0 for vectors.
    columns: Vec<usize>,
}

/// The part of a tensor that lies in a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Index of the tensor.
    pub(crate) tensor: usize,
    /// Elements of the flat vector.
    pub(crate) range: Range<usize>,
    /// Elements of a row of the tensor; 0 for vectors.
    pub(crate) columns: usize,
}

impl Layout {
    /// A layout of vectors with these numbers of elements.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        Self::of_shapes(lengths.into_iter().map(|length| [length]))
    }

    /// A layout of tensors with these shapes. As matrices, their first axis is that of the rows.
    pub fn of_shapes<S: AsRef<[usize]>>(shapes: impl IntoIterator<Item = S>) -> Self {
        let (mut end, mut ends, mut columns) = (0, Vec::new(), Vec::new());
        for shape in shapes {
            let shape = shape.as_ref();
            end += shape.iter().product::<usize>();
            ends.push(end);
            columns.push(match shape {
                [_, rest @ ..] if !rest.is_empty() => rest.iter().product(),
                _ => 0,
            });
        }
        Self { ends, columns }
    }

    /// Length of the flat vector.
    pub fn elements(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// The buckets: contiguous ranges of at most `elements_max` that cover the vector in ascending
    /// order. A bucket is what one frame carries.
    pub fn buckets(&self, elements_max: usize) -> Vec<Range<usize>> {
        pieces(0..self.elements(), elements_max).collect()
    }

    /// The parts of tensors that make up a bucket; none is empty.
    pub(crate) fn parts(&self, bucket: Range<usize>) -> impl Iterator<Item = Part> + '_ {
        let first = self.ends.partition_point(|end| *end <= bucket.start);
        let mut start = bucket.start;
        let tensors = self.ends.iter().zip(&self.columns).enumerate().skip(first);
        let parts = tensors.map(move |(tensor, (end, columns))| {
            let range = start..(*end).min(bucket.end);
            start = range.end;
            Part {
                tensor,
                range,
                columns: *columns,
            }
        });
        parts
            .take_while(move |part| part.range.start < bucket.end)
            .filter(|part| !part.range.is_empty())
    }

    /// The scale groups of a bucket: at most `length` elements each (0: no limit), and never of two
    /// tensors, since the gradients of a bias and of the matrix beside it differ by magnitudes.
    pub(crate) fn groups(
        &self,
        bucket: Range<usize>,
        length: usize,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        self.parts(bucket).flat_map(move |part| part.groups(length))
    }

    /// How many [`Layout::groups`] there are.
    pub(crate) fn count_groups(&self, bucket: Range<usize>, length: usize) -> usize {
        let parts = self.parts(bucket);
        parts.map(|part| part.count_groups(length)).sum()
    }
}

impl Part {
    /// The scale groups of the part.
    pub(crate) fn groups(&self, length: usize) -> impl Iterator<Item = Range<usize>> + use<> {
        let length = if length == 0 { usize::MAX } else { length };
        pieces(self.range.clone(), length)
    }

    /// How many there are.
    pub(crate) fn count_groups(&self, length: usize) -> usize {
        match length {
            0 => usize::from(!self.range.is_empty()),
            _ => self.range.len().div_ceil(length),
        }
    }
}

/// `range` in consecutive pieces of `length`, the last one shorter.
fn pieces(range: Range<usize>, length: usize) -> impl Iterator<Item = Range<usize>> {
    let mut rest = range;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.start.saturating_add(length.max(1)).min(rest.end);
        let piece = rest.start..end;
        rest.start = end;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_end_with_their_tensor() {
        let layout = Layout::new([5, 0, 3]);
        let groups: Vec<_> = layout.groups(0..8, 4).collect();
        assert_eq!(groups, [0..4, 4..5, 5..8]);
        let groups: Vec<_> = layout.groups(3..7, 0).collect();
        assert_eq!(groups, [3..5, 5..7]);
    }

    #[test]
    fn a_model_of_3_gib_has_ordinary_buckets() {
        let layout = Layout::new([3 << 28, 3]);
        let buckets = layout.buckets(BUCKET_ELEMENTS_MAX);
        assert_eq!(buckets.len(), 769);
        assert_eq!(buckets.last(), Some(&(3 << 28..(3 << 28) + 3)));
        assert!(u32::try_from(layout.elements()).is_ok());
    }

    proptest! {
        #[test]
        fn buckets_and_groups_cover_every_element_once(
            lengths in proptest::collection::vec(0usize..50, 0..8),
            bucket in 1usize..40,
            group in 0usize..20,
        ) {
            let layout = Layout::new(lengths);
            let mut covered = Vec::new();
            for bucket in layout.buckets(bucket) {
                let groups: Vec<_> = layout.groups(bucket.clone(), group).collect();
                prop_assert_eq!(layout.count_groups(bucket, group), groups.len());
                covered.extend(groups.into_iter().flatten());
            }
            prop_assert_eq!(covered, (0..layout.elements()).collect::<Vec<_>>());
        }
    }
}
