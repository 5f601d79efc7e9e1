//! What an observer who misses nothing has seen.

use crate::coordinator::Outcome;
use crate::id::{Digest, Millis, NodeId, Step};
use crate::node::Ending;
use crate::view::View;

use super::replica::Frame;

/// A step that a node has applied.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub(super) node: NodeId,
    pub(super) step: Step,
    /// In the order of summation.
    pub(super) frames: Vec<Frame>,
    /// Of the replica after it.
    pub(super) digest: Digest,
}

/// How a process came to its end.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Departure {
    /// Its connections broke, and the others hear of that.
    Crashed,
    /// So did its machine; nobody hears of it.
    Vanished,
    Exited(Result<Step, Ending>),
}

/// The life of a process.
#[derive(Clone, Debug)]
pub(super) struct Life {
    /// When it started or, if later, was last thawed.
    pub(super) awake: Millis,
    /// Since when it is frozen.
    pub(super) frozen: Option<Millis>,
    pub(super) ended: Option<(Millis, Departure)>,
}

impl Life {
    pub(super) fn new(now: Millis) -> Self {
        Self {
            awake: now,
            frozen: None,
            ended: None,
        }
    }

    /// Since when nothing can be heard from it.
    pub(super) fn silent(&self) -> Option<Millis> {
        let ended = self.ended.as_ref().map(|(time, _)| *time);
        ended.or(self.frozen)
    }
}

/// The whole history of a simulation, from which the invariants are judged.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) now: Millis,
    /// Steps of the run.
    pub(super) steps: Step,
    /// Frames of a contribution.
    pub(super) buckets: u32,
    /// Whether any fault strikes in this run.
    pub(super) faulty: bool,
    /// When the run must have ended.
    pub(super) end_max: Millis,
    /// Whether all processes are gone and the run has ended.
    pub(super) over: bool,
    /// Whether nothing more will happen.
    pub(super) idle: bool,
    /// Views on stable storage, as they were stored, and when.
    pub(super) durable: Vec<(Millis, View)>,
    /// Views that a node has acted on.
    pub(super) installed: Vec<(NodeId, View)>,
    pub(super) applied: Vec<Applied>,
    pub(super) coordinator: Life,
    /// Nodes' lives; node 1 comes first.
    pub(super) nodes: Vec<Life>,
    pub(super) outcome: Option<(Millis, Outcome)>,
    /// How many of `installed` and of `applied` have been judged.
    judged: (usize, usize),
}

impl Record {
    pub(super) fn new(steps: Step, buckets: u32, faulty: bool, end_max: Millis) -> Self {
        Self {
            now: 0,
            steps,
            buckets,
            faulty,
            end_max,
            over: false,
            idle: false,
            durable: Vec::new(),
            installed: Vec::new(),
            applied: Vec::new(),
            coordinator: Life::new(0),
            nodes: Vec::new(),
            outcome: None,
            judged: (0, 0),
        }
    }

    /// The life at a site: 0 is the coordinator.
    pub(super) fn life(&self, site: NodeId) -> Option<&Life> {
        match site.checked_sub(1) {
            None => Some(&self.coordinator),
            Some(index) => self.nodes.get(index as usize),
        }
    }

    pub(super) fn life_mut(&mut self, site: NodeId) -> Option<&mut Life> {
        match site.checked_sub(1) {
            None => Some(&mut self.coordinator),
            Some(index) => self.nodes.get_mut(index as usize),
        }
    }

    /// The view in which `node` trains.
    pub(super) fn view_of(&self, node: NodeId) -> Option<&View> {
        let mut installed = self.installed.iter().rev();
        let (_, view) = installed.find(|(member, _)| *member == node)?;
        Some(view)
    }

    /// Installations since the last judgement.
    pub(super) fn fresh_installed(&self) -> &[(NodeId, View)] {
        &self.installed[self.judged.0..]
    }

    /// Applied steps since the last judgement, each with all that came before it.
    pub(super) fn fresh_applied(&self) -> impl Iterator<Item = (&Applied, &[Applied])> {
        let fresh = self.judged.1..self.applied.len();
        fresh.map(|i| (&self.applied[i], &self.applied[..i]))
    }

    /// Everything up to here has been judged.
    pub(super) fn settle(&mut self) {
        self.judged = (self.installed.len(), self.applied.len());
    }
}
