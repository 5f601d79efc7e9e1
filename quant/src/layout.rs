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
    /// order. A bucket is what one frame carries. Where one ends within a matrix it ends with a row, unless
    /// rows are longer than buckets: low-rank factors need whole ones.
    pub fn buckets(&self, elements_max: usize) -> Vec<Range<usize>> {
        let (mut start, mut buckets) = (0, Vec::new());
        while start < self.elements() {
            let limit = start.saturating_add(elements_max.max(1));
            let end = self
                .last_row(limit, elements_max)
                .filter(|end| *end > start);
            let end = end.unwrap_or(limit).min(self.elements());
            buckets.push(start..end);
            start = end;
        }
        buckets
    }

    /// Where the last whole row before `limit` ends, if that is within a matrix of no longer rows than these.
    fn last_row(&self, limit: usize, longest: usize) -> Option<usize> {
        let tensor = self.ends.partition_point(|end| *end <= limit);
        let columns = self.columns.get(tensor);
        let columns = columns.filter(|columns| (1..=longest).contains(*columns))?;
        let start = tensor.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(limit - (limit - start) % columns)
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

/// Whether each bucket begins where the one before it ends, from the first element to the last.
pub(crate) fn cover(buckets: &[Range<usize>], elements: usize) -> bool {
    let end = buckets.iter().try_fold(0, |end, bucket| {
        (bucket.start == end && bucket.end >= end).then_some(bucket.end)
    });
    end == Some(elements)
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
    fn buckets_end_with_rows_where_they_can() {
        let layout = Layout::of_shapes([vec![10], vec![3, 4], vec![2, 5, 5], vec![9]]);
        let starts = |size: usize| -> Vec<usize> {
            let buckets = layout.buckets(size).into_iter();
            buckets.map(|bucket| bucket.start).collect()
        };
        // Rows end at 14, 18 and 22; at 47 and 72, which are too long for the first two sizes.
        assert_eq!(starts(7), [0, 7, 14, 18, 25, 32, 39, 46, 53, 60, 67, 74]);
        assert_eq!(starts(20), [0, 18, 38, 58, 78]);
        assert_eq!(starts(50), [0, 47]);
    }

    #[test]
    fn a_model_of_3_gib_has_ordinary_buckets() {
        let layout = Layout::new([3 << 28, 3]);
        let buckets = layout.buckets(BUCKET_ELEMENTS_MAX);
        assert_eq!(buckets.len(), 769);
        assert_eq!(buckets.last(), Some(&(3 << 28..(3 << 28) + 3)));
        assert!(u32::try_from(layout.elements()).is_ok());
    }

    #[test]
    fn buckets_cover_only_in_order_and_without_gaps() {
        let covers = |buckets: &[Range<usize>]| cover(buckets, 3);
        assert!(covers(&[0..1, 1..3]) && covers(&[0..0, 0..3]) && cover(&[], 0));
        // They have the right number of elements, all of them.
        assert!(!covers(&[1..3, 0..1]) && !covers(&[0..1, 2..4]) && !covers(&[1..3, 3..4]));
        assert!(!covers(&[0..1, 1..2]) && !covers(&[0..2, 1..3]) && !covers(&[]));
    }

    proptest! {
        #[test]
        fn buckets_and_groups_cover_every_element_once(
            shapes in proptest::collection::vec((0usize..9, prop::option::of(0usize..9)), 0..8),
            size in 1usize..40,
            group in 0usize..20,
        ) {
            let shape = |(rows, columns): (usize, Option<usize>)| [vec![rows], Vec::from_iter(columns)].concat();
            let layout = Layout::of_shapes(shapes.into_iter().map(shape));
            let mut covered = Vec::new();
            for bucket in layout.buckets(size) {
                prop_assert!(bucket.len() <= size);
                let groups: Vec<_> = layout.groups(bucket.clone(), group).collect();
                prop_assert_eq!(layout.count_groups(bucket, group), groups.len());
                covered.extend(groups.into_iter().flatten());
            }
            prop_assert_eq!(covered, (0..layout.elements()).collect::<Vec<_>>());
        }
    }
}
