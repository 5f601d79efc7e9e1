//! A node on its way to membership: it follows a view, with a snapshot and the contributions since.

use std::collections::BTreeMap;

use super::{Command, Node, Phase};
use crate::id::{Digest, Rank, Step, ViewNumber};
use crate::view::{Member, View};

/// How far a node that follows a view has come.
#[derive(Clone, Debug)]
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

impl Node {
    pub(super) fn observe(&mut self, view: ViewNumber, observer: Member, out: &mut Vec<Command>) {
        match &mut self.phase {
            Phase::Training(place) if place.view.number == view => {
                let first = place.round.step() + Step::from(place.computing);
                out.push(Command::Stream {
                    to: observer,
                    first,
                });
            }
            Phase::Following(place, _) | Phase::Linking(place) | Phase::Training(place)
                if place.announced() == view =>
            {
                place.observers.push(observer);
            }
            _ => {} // A view that is over, or has no steps left.
        }
    }

    /// Asks for the snapshot that `request` says.
    pub(super) fn follow(
        &mut self,
        view: ViewNumber,
        out: &mut Vec<Command>,
        request: impl FnOnce(&mut Follow, &View) -> Option<(Member, Step)>,
    ) {
        if let Phase::Following(place, follow) = &mut self.phase
            && place.view.number == view
            && !follow.fetched
            && let Some((from, at_least)) = request(follow, &place.view)
        {
            out.push(Command::Fetch {
                view,
                from,
                at_least,
            });
        }
    }

    /// Takes over a snapshot, unless it is one that was asked for earlier.
    pub(super) fn adopt(
        &mut self,
        view: ViewNumber,
        next: Step,
        digest: Digest,
        out: &mut Vec<Command>,
    ) {
        if let Phase::Following(place, follow) = &mut self.phase
            && place.view.number == view
            && follow.accept(next)
        {
            // After a broken stream this node may have come farther than the snapshot by itself.
            if next >= place.round.step() {
                out.push(Command::Adopt { next });
                place.round.skip_to(next);
                self.final_digest = (next == self.steps).then_some(digest);
            }
            self.advance(out);
        }
    }
}
