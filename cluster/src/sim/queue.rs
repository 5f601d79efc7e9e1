//! What will happen, in the order of time.

use std::collections::BTreeMap;

use crate::id::Millis;

/// When something is planned, and how many things were planned before.
pub(super) type Place = (Millis, u64);

/// Happenings by time; those of the same millisecond keep the order in which they were planned.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    planned: BTreeMap<Place, T>,
    count: u64,
}

impl<T> Queue<T> {
    pub(super) fn new() -> Self {
        Self {
            planned: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn plan(&mut self, time: Millis, happening: T) {
        self.planned.insert((time, self.count), happening);
        self.count += 1;
    }

    /// All that is planned, in its order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Place, &T)> {
        self.planned
            .iter()
            .map(|(place, planned)| (*place, planned))
    }

    /// What is planned at a place.
    pub(super) fn get(&self, place: Place) -> Option<&T> {
        self.planned.get(&place)
    }

    /// Takes what is planned at a place, whatever comes before it.
    pub(super) fn take(&mut self, place: Place) -> Option<T> {
        self.planned.remove(&place)
    }

    /// Forgets what does not satisfy `keep`.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&T) -> bool) {
        self.planned.retain(|_, planned| keep(planned));
    }

    pub(super) fn pop(&mut self) -> Option<(Millis, T)> {
        let ((time, _), happening) = self.planned.pop_first()?;
        Some((time, happening))
    }
}
