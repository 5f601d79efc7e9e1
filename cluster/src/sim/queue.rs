//! What will happen, in the order of time.

use std::collections::BTreeMap;

use crate::id::Millis;

/// Happenings by time; those of the same millisecond keep the order in which they were planned.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    planned: BTreeMap<(Millis, u64), T>,
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

    pub(super) fn pop(&mut self) -> Option<(Millis, T)> {
        let ((time, _), happening) = self.planned.pop_first()?;
        Some((time, happening))
    }
}
