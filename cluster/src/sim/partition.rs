//! A network that falls apart for a while.

use crate::id::{Millis, NodeId};

use super::random::SplitMix64;
use super::timing::{FREEZE, NOTICE};

/// Two groups of sites between which nothing gets through, or nothing in one direction.
///
/// What is sent meanwhile arrives when the partition is healed, as TCP would have it, unless the ends of
/// a connection give it up before.
#[derive(Clone, Debug)]
pub(super) struct Partition {
    /// Bit *s* mod 64 says in which group site *s* is.
    sides: u64,
    /// Whether messages from the sites whose bit is 0 get through.
    one_way: bool,
    pub(super) lasts: Millis,
    /// How long it takes until connections are given up.
    pub(super) noticed: Option<Millis>,
    /// When it is over.
    pub(super) until: Millis,
}

impl Partition {
    pub(super) fn draw(random: &mut SplitMix64) -> Self {
        Self {
            sides: random.next(),
            one_way: random.one_in(2),
            lasts: random.within(&FREEZE),
            noticed: random.one_in(2).then(|| random.within(&NOTICE)),
            until: 0,
        }
    }

    fn side(&self, site: NodeId) -> bool {
        self.sides >> (site % 64) & 1 == 1
    }

    /// Whether messages in one direction or the other do not get through.
    pub(super) fn parts(&self, one: NodeId, other: NodeId) -> bool {
        self.side(one) != self.side(other)
    }

    /// Whether messages in this direction do not get through.
    pub(super) fn holds(&self, from: NodeId, to: NodeId) -> bool {
        self.parts(from, to) && (self.side(from) || !self.one_way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_way_is_from_one_group_to_the_other_and_both_ways_is_symmetric() {
        let mut partition = Partition {
            sides: 0b0110,
            one_way: true,
            lasts: 10,
            noticed: None,
            until: 0,
        };
        assert!(partition.holds(1, 3) && !partition.holds(3, 1));
        assert!(!partition.holds(1, 2) && !partition.parts(0, 3));
        assert!(partition.parts(3, 1));
        partition.one_way = false;
        assert!(partition.holds(3, 1));
    }
}
