//! The nodes that take part, and the ranks that they will have.

use std::collections::BTreeMap;

use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::{Fingerprint, Kept, Refusal, Residual};
use crate::view::{Member, View};

/// A node that has been welcomed.
#[derive(Clone, Debug)]
pub(crate) struct Seat {
    /// The rank it asked for.
    pub(crate) rank: Option<Rank>,
    pub(crate) address: String,
    /// When it last spoke.
    pub(crate) heard: Millis,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) finished: Option<(Step, Digest)>,
    /// The view that the node, which is no member, has caught up with.
    pub(crate) caught_up: Option<ViewNumber>,
    /// Whether it only follows.
    pub(crate) observe: bool,
    /// Its checkpoints of this run.
    pub(crate) kept: Vec<Kept>,
    /// Whether it is a member that has not been heard of since this process began.
    pub(crate) absent: bool,
    /// The residual that its process has.
    pub(crate) residual: Option<Residual>,
    /// Whose residual it goes on with.
    pub(crate) heir_of: Option<NodeId>,
}

/// Bound on nodes that only follow: members send contributions to each.
const OBSERVERS_MAX: u32 = 64;

/// The seats of a run: as many as it has members.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    capacity: u32,
    /// What is known of the run before any node of this process is ready.
    standard: Option<Fingerprint>,
    taken: BTreeMap<NodeId, Seat>,
}

impl Seats {
    pub(crate) fn new(capacity: u32, standard: Option<Fingerprint>) -> Self {
        Self {
            capacity,
            standard,
            taken: BTreeMap::new(),
        }
    }

    /// Whether nobody else can come, to train or to observe.
    pub(crate) fn full(&self, observe: bool) -> bool {
        let taken = self.taken.values().filter(|seat| seat.observe == observe);
        let capacity = if observe {
            OBSERVERS_MAX
        } else {
            self.capacity
        };
        taken.count() >= capacity as usize
    }

    /// Those who train, or will.
    fn trainers(&self) -> impl Iterator<Item = (&NodeId, &Seat)> {
        self.taken.iter().filter(|(_, seat)| !seat.observe)
    }

    /// Why a node cannot have `rank`.
    pub(crate) fn objection(&self, rank: Rank) -> Option<Refusal> {
        let why = if rank >= self.capacity {
            "does not exist in this run"
        } else if self.taken.values().any(|seat| seat.rank == Some(rank)) {
            "is taken"
        } else {
            return None;
        };
        Some(Refusal::Rank {
            rank,
            why: why.to_owned(),
            last: self.capacity - 1,
        })
    }

    /// Why a node with this fingerprint cannot train with the others. The first node that is ready
    /// sets the standard.
    pub(crate) fn mismatch(&self, found: &Fingerprint) -> Option<Refusal> {
        let mut ready = self.taken.values().filter_map(|seat| seat.fingerprint);
        let expected = self.standard.or_else(|| ready.next())?;
        if expected.data != found.data || expected.samples != found.samples {
            Some(Refusal::Data {
                expected: expected.data,
                found: found.data,
            })
        } else if expected != *found {
            Some(Refusal::Replica {
                expected: expected.replica,
                found: found.replica,
            })
        } else {
            None
        }
    }

    pub(crate) fn take(&mut self, node: NodeId, rank: Option<Rank>, address: String, now: Millis) {
        let seat = Seat {
            rank,
            address,
            heard: now,
            fingerprint: None,
            finished: None,
            caught_up: None,
            observe: false,
            kept: Vec::new(),
            absent: false,
            residual: None,
            heir_of: None,
        };
        self.taken.insert(node, seat);
    }

    /// Gives the members of a view their seats, from which they have not been heard.
    pub(crate) fn expect(&mut self, view: &View, now: Millis) {
        let standard = self.standard;
        for member in &view.members {
            self.take(member.node, None, member.address.clone(), now);
            if let Some(seat) = self.get_mut(member.node) {
                (seat.absent, seat.fingerprint) = (true, standard);
            }
        }
    }

    /// Notes that a node is ready.
    pub(crate) fn prepared(&mut self, node: NodeId, found: Fingerprint, kept: Vec<Kept>) {
        if let Some(seat) = self.get_mut(node) {
            seat.fingerprint = Some(found);
            seat.kept = kept;
        }
    }

    /// Whether there was a seat to free.
    pub(crate) fn free(&mut self, node: NodeId) -> bool {
        self.taken.remove(&node).is_some()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Seat> {
        self.taken.get(&node)
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Seat> {
        self.taken.get_mut(&node)
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.taken.keys().copied()
    }

    pub(crate) fn joined(&self) -> usize {
        self.trainers().count()
    }

    pub(crate) fn ready(&self) -> usize {
        let ready = |(_, seat): &(&NodeId, &Seat)| seat.fingerprint.is_some();
        self.trainers().filter(ready).count()
    }

    /// Nodes that are ready and not among `members`.
    pub(crate) fn waiting(&self, members: &View) -> Vec<NodeId> {
        let ready = self
            .taken
            .iter()
            .filter(|(_, seat)| seat.fingerprint.is_some());
        let nodes = ready.map(|(node, _)| *node);
        nodes
            .filter(|node| members.rank_of(*node).is_none())
            .collect()
    }

    /// The node as a member of a view.
    pub(crate) fn member(&self, node: NodeId) -> Option<Member> {
        let address = self.get(node)?.address.clone();
        Some(Member { node, address })
    }

    /// Whether every seat is taken by a node that is ready.
    pub(crate) fn complete(&self) -> bool {
        self.ready() == self.capacity as usize
    }

    /// When the first lease runs out.
    pub(crate) fn deadline(&self, lease: Millis) -> Option<Millis> {
        let deadline = |seat: &Seat| seat.heard.saturating_add(lease);
        self.taken.values().map(deadline).min()
    }

    /// Begins all leases anew.
    pub(crate) fn forgive(&mut self, now: Millis) {
        self.taken.values_mut().for_each(|seat| seat.heard = now);
    }

    /// Nodes whose lease has run out.
    pub(crate) fn silent(&self, now: Millis, lease: Millis) -> Vec<NodeId> {
        let silent = |(_, seat): &(&NodeId, &Seat)| now >= seat.heard.saturating_add(lease);
        let silent = self.taken.iter().filter(silent);
        silent.map(|(node, _)| *node).collect()
    }

    /// Members in rank order: whoever asked for a rank has it, the others fill the gaps as they
    /// came.
    pub(crate) fn members(&self) -> Vec<Member> {
        let member = |(node, seat): (&NodeId, &Seat)| Member {
            node: *node,
            address: seat.address.clone(),
        };
        let mut undemanding = self.trainers().filter(|(_, seat)| seat.rank.is_none());
        (0..self.capacity)
            .filter_map(|rank| {
                let mut asked = self.trainers();
                let asked = asked.find(|(_, seat)| seat.rank == Some(rank));
                asked.or_else(|| undemanding.next()).map(member)
            })
            .collect()
    }
}
