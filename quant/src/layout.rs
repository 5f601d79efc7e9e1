//! How the flat parameter vector is cut: into tensors, buckets and scale groups.

use std::ops::Range;

/// Elements of the largest bucket: 4 MiB of `f32`.
pub const BUCKET_ELEMENTS_MAX: usize = 1 << 20;

/// The tensors that make up the flat vector, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Where each tensor ends.
    ends: Vec<usize>,
}

impl Layout {
    /// A layout of tensors with these numbers of elements.
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut end = 0;
        let ends = lengths.into_iter().map(|length| {
            end += length;
            end
        });
        Self {
            ends: ends.collect(),
        }
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

    /// The scale groups of a bucket: at most `length` elements each (0: no limit), and never of two
    /// tensors, since the gradients of a bias and of the matrix beside it differ by magnitudes.
    pub(crate) fn groups(
        &self,
        bucket: Range<usize>,
        length: usize,
    ) -> impl Iterator<Item = Range<usize>> + '_ {
        let length = if length == 0 { usize::MAX } else { length };
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let tensors = starts.zip(self.ends.iter().copied());
        tensors.flat_map(move |(start, end)| {
            pieces(start.max(bucket.start)..end.min(bucket.end), length)
        })
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
            let groups = layout
                .buckets(bucket)
                .into_iter()
                .flat_map(|bucket| layout.groups(bucket, group).collect::<Vec<_>>());
            let covered: Vec<usize> = groups.flatten().collect();
            prop_assert_eq!(covered, (0..layout.elements()).collect::<Vec<_>>());
        }
    }
}
