//! The frames that a node holds: those of the step under way and later ones, and those of the last steps
//! that were applied, which others may lack when the view changes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Range;

use bytes::Bytes;
use ecq_cluster::{FrameKey, Rank, Step, ViewNumber};

/// Frames by identity, the own ones too.
#[derive(Debug, Default)]
pub(crate) struct Frames(BTreeMap<FrameKey, Bytes>);

impl Frames {
    /// Holds a frame; the first with its identity counts. Says whether this is it.
    pub(crate) fn insert(&mut self, key: FrameKey, frame: Bytes) -> bool {
        match self.0.entry(key) {
            Entry::Vacant(place) => {
                place.insert(frame);
                true
            }
            Entry::Occupied(_) => false,
        }
    }

    pub(crate) fn remove(&mut self, key: FrameKey) {
        self.0.remove(&key);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// The contributions of a view's members of `ranks`, ascending, to `step`. What belongs to steps that
    /// nobody lacks who is at most `reach` steps behind it is forgotten.
    pub(crate) fn of_step(
        &mut self,
        view: ViewNumber,
        step: Step,
        ranks: &[Rank],
        reach: Step,
    ) -> BTreeMap<(Rank, u32), Bytes> {
        self.0
            .retain(|key, _| key.step.saturating_add(reach) > step);
        let of_step = |key: &FrameKey| {
            key.step == step && key.view == view && ranks.binary_search(&key.rank).is_ok()
        };
        let held = self.0.iter();
        held.filter(|(key, _)| of_step(key))
            .map(|(key, frame)| ((key.rank, key.bucket), frame.clone()))
            .collect()
    }

    /// All that is held of these steps, by the views that were in force.
    pub(crate) fn held(&self, steps: Range<Step>) -> BTreeMap<ViewNumber, Vec<(FrameKey, Bytes)>> {
        let mut held: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (key, frame) in self.0.iter().filter(|(key, _)| steps.contains(&key.step)) {
            held.entry(key.view)
                .or_default()
                .push((*key, frame.clone()));
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_step_applied_last_stays_until_the_next_is() {
        let key = |view, step, rank| FrameKey {
            view,
            step,
            rank,
            bucket: 0,
        };
        let mut frames = Frames::default();
        for (view, step, rank) in [(1, 4, 0), (1, 4, 1), (1, 5, 1), (2, 5, 0)] {
            frames.insert(key(view, step, rank), Bytes::from(vec![rank as u8]));
        }
        assert!(!frames.insert(key(1, 4, 1), Bytes::from_static(b"another")));
        let ranks = |found: BTreeMap<(Rank, u32), Bytes>| -> Vec<Rank> {
            found.keys().map(|(rank, _)| *rank).collect()
        };
        assert_eq!(ranks(frames.of_step(1, 4, &[0, 1], 1)), [0, 1]);
        assert_eq!(ranks(frames.of_step(1, 4, &[1], 1)), [1], "0 is left out");
        assert_eq!(
            frames.held(4..5)[&1][1],
            (key(1, 4, 1), Bytes::from(vec![1]))
        );
        assert_eq!(
            ranks(frames.of_step(2, 5, &[0, 1], 2)),
            [0],
            "not of the view before"
        );
        assert_eq!(
            frames.held(4..5).len(),
            1,
            "who is two steps behind lacks it"
        );
        frames.of_step(2, 5, &[0, 1], 1);
        assert!(frames.held(4..5).is_empty());
    }
}
