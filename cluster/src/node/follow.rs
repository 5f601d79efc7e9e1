//! A node on its way to membership: it follows a view, with a snapshot and the contributions since.

use std::collections::BTreeMap;

use crate::id::{Rank, Step};
use crate::view::{Member, View};

/// How far a node that follows a view has come.
#[derive(Debug)]
pub(super) struct Follow {
    /// The member that is asked for the snapshot.
    donor: Rank,
    /// The first step to which each member's contribution comes.
    opened: BTreeMap<Rank, Step>,
    /// The least step of the snapshot that was asked for.
    asked: Option<Step>,
    /// Whether the replica is one of the run's.
    pub(super) adopted: bool,
    /// Whether nothing is missing between the replica and what the streams bring.
    pub(super) fetched: bool,
    /// Whether the coordinator knows that this node has caught up.
    pub(super) told: bool,
}

impl Follow {
    pub(super) fn new(donor: Rank) -> Self {
        Self {
            donor,
            opened: BTreeMap::new(),
            asked: None,
            adopted: false,
            fetched: false,
            told: false,
        }
    }

    /// Notes a member's stream; says from where to get which snapshot, once all have opened theirs.
    pub(super) fn open(&mut self, view: &View, rank: Rank, first: Step) -> Option<(Member, Step)> {
        if rank >= view.size() {
            return None;
        }
        self.opened.insert(rank, first);
        self.request(view)
    }

    /// A member's stream broke: another snapshot will have what is missing of it.
    pub(super) fn close(&mut self, rank: Rank) {
        self.opened.remove(&rank);
        (self.asked, self.fetched, self.told) = (None, false, false);
    }

    /// The same from the next member.
    pub(super) fn retry(&mut self, view: &View) -> Option<(Member, Step)> {
        self.donor = (self.donor + 1) % view.size();
        self.request(view)
    }

    /// Whether a snapshot is the one that was asked for.
    pub(super) fn accept(&mut self, next: Step) -> bool {
        let fits = !self.fetched && self.asked.is_some_and(|asked| next >= asked);
        self.fetched |= fits;
        self.adopted |= fits;
        fits
    }

    fn request(&mut self, view: &View) -> Option<(Member, Step)> {
        if self.opened.len() < view.members.len() {
            return None;
        }
        let donor = view.members.get(self.donor as usize)?.clone();
        self.asked = self.opened.values().max().copied();
        Some((donor, self.asked?))
    }
}
