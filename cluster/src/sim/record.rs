//! What an observer who misses nothing has seen.

use std::collections::{BTreeMap, BTreeSet};

use crate::coordinator::Outcome;
use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::Legacy;
use crate::node::Ending;
use crate::quorum::Quorum;
use crate::view::View;

use super::ledger::Ledger;
use super::replica::Frame;
use super::scenario::Scenario;

/// A step that a node has applied.
#[derive(Clone, Debug)]
pub(super) struct Applied {
    pub(super) node: NodeId,
    /// The view in which it was made.
    pub(super) view: ViewNumber,
    pub(super) step: Step,
    /// In the order of summation.
    pub(super) frames: Vec<Frame>,
    /// Of the replica after it.
    pub(super) digest: Digest,
}

/// A replica that a node has taken over from another.
#[derive(Clone, Debug)]
pub(super) struct Fetched {
    pub(super) node: NodeId,
    /// The first step that is not applied to it.
    pub(super) next: Step,
    pub(super) digest: Digest,
    /// How many entries [`Record::applied`] had.
    pub(super) at: usize,
}

/// A contribution that a node has made, applied or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Contribution {
    pub(super) node: NodeId,
    pub(super) view: ViewNumber,
    pub(super) step: Step,
    /// Whether it was its last, with nothing kept back.
    pub(super) whole: bool,
}

/// A residual that a node has taken up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited {
    pub(super) by: NodeId,
    pub(super) of: NodeId,
    /// It is what it was before the contribution to this step.
    pub(super) as_of: Step,
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
    /// Whether it can be a member.
    pub(super) trains: bool,
    /// Since when it is frozen.
    pub(super) frozen: Option<Millis>,
    /// Until when it tries to reach the coordinator, which it has lost.
    pub(super) away: Option<Millis>,
    pub(super) ended: Option<(Millis, Departure)>,
}

impl Life {
    pub(super) fn new(now: Millis, trains: bool) -> Self {
        Self {
            awake: now,
            trains,
            frozen: None,
            away: None,
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
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) now: Millis,
    /// Steps of the run.
    pub(super) steps: Step,
    /// Frames of a contribution.
    pub(super) buckets: u32,
    /// Most members that a view can have.
    pub(super) seats: u32,
    /// When steps go on without late members, if they ever do.
    pub(super) quorum: Option<Quorum>,
    /// Who makes up the steps of a view, as its rank 0 has decided.
    pub(super) decided: BTreeMap<(ViewNumber, Step), Vec<Rank>>,
    /// Whether any fault strikes in this run.
    pub(super) faulty: bool,
    /// When the run must have ended.
    pub(super) end_max: Millis,
    /// Until when faults have their effect.
    pub(super) disturbed: Millis,
    /// When a member was lost last.
    pub(super) lost: Millis,
    /// When a step was applied or a view stored last.
    pub(super) progress: Millis,
    /// Since when members stand still for the next view.
    pub(super) changing: Option<Millis>,
    /// Until when the network is apart.
    pub(super) apart: Millis,
    /// Whether all processes are gone and the run has ended.
    pub(super) over: bool,
    /// Whether nothing more will happen.
    pub(super) idle: bool,
    /// Views on stable storage, as they were stored, and when.
    pub(super) durable: Vec<(Millis, View)>,
    /// Views that a node has acted on.
    pub(super) installed: Vec<(NodeId, View)>,
    pub(super) applied: Vec<Applied>,
    pub(super) fetched: Vec<Fetched>,
    pub(super) ledger: Ledger,
    pub(super) contributions: Vec<Contribution>,
    pub(super) inherited: Vec<Inherited>,
    /// What became of residuals, and with which view.
    pub(super) legacies: Vec<(ViewNumber, Legacy)>,
    /// Nodes that a fault has struck.
    pub(super) struck: BTreeSet<NodeId>,
    /// Nodes that were no members when the coordinator died: it may have stored a view with them.
    pub(super) unannounced: BTreeSet<NodeId>,
    /// Whether somebody ended the run.
    pub(super) stopped: bool,
    pub(super) coordinator: Life,
    /// Until when the coordinator, which was started again, waited for any member to come back, or for nodes to
    /// begin anew.
    pub(super) expectant: Millis,
    /// Whether the coordinator has been started again.
    pub(super) resumed: bool,
    /// Nodes' lives; node 1 comes first.
    pub(super) nodes: Vec<Life>,
    pub(super) outcome: Option<(Millis, Outcome)>,
    /// How many of `installed` and of `applied` have been judged.
    judged: (usize, usize),
}

impl Record {
    pub(super) fn new(scenario: &Scenario) -> Self {
        Self {
            now: 0,
            steps: scenario.steps,
            buckets: scenario.buckets,
            seats: scenario.config.nodes,
            quorum: scenario.config.policy(),
            decided: BTreeMap::new(),
            faulty: !scenario.faults.is_empty(),
            end_max: scenario.end_max(),
            disturbed: 0,
            lost: 0,
            progress: 0,
            changing: None,
            apart: 0,
            over: false,
            idle: false,
            durable: Vec::new(),
            installed: Vec::new(),
            applied: Vec::new(),
            fetched: Vec::new(),
            ledger: Ledger::default(),
            contributions: Vec::new(),
            inherited: Vec::new(),
            legacies: Vec::new(),
            struck: BTreeSet::new(),
            unannounced: BTreeSet::new(),
            stopped: false,
            coordinator: Life::new(0, false),
            expectant: 0,
            resumed: false,
            nodes: Vec::new(),
            outcome: None,
            judged: (0, 0),
        }
    }

    /// Notes that a view is on stable storage.
    pub(super) fn store(&mut self, view: View) {
        self.progress = self.now;
        self.durable.push((self.now, view));
    }

    /// Notes that a node has applied a step.
    pub(super) fn apply(&mut self, applied: Applied) {
        self.progress = self.now;
        self.applied.push(applied);
    }

    /// Notes that a process has come to its end.
    pub(super) fn end(&mut self, site: NodeId, departure: Departure) {
        let now = self.now;
        if let Some(life) = self.life_mut(site) {
            life.ended = Some((now, departure));
        }
        let last = self.durable.last();
        if last.is_some_and(|(_, view)| view.rank_of(site).is_some()) {
            self.lost = now;
            self.disturb(now);
        }
    }

    /// Notes that a fault has its effect until then.
    pub(super) fn disturb(&mut self, until: Millis) {
        self.disturbed = self.disturbed.max(until);
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

    /// The view with this number, if it is durable.
    pub(super) fn view(&self, number: ViewNumber) -> Option<&View> {
        let views = self.durable.iter().map(|(_, view)| view);
        views.rev().find(|view| view.number == number)
    }

    /// Who makes up a step of a view, if that is settled.
    pub(super) fn ranks(&self, view: &View, step: Step) -> Option<Vec<Rank>> {
        match self.quorum {
            Some(_) => self.decided.get(&(view.number, step)).cloned(),
            None => Some((0..view.size()).collect()),
        }
    }

    /// The first step that `node` had not applied, before the last `fresh` entries of `applied`.
    pub(super) fn next_of(&self, node: NodeId, applied: &[Applied]) -> Step {
        self.stand_of(node, applied).map_or(0, |(next, _)| next)
    }

    /// The same, and the replica's digest, if it is not the first.
    pub(super) fn stand_of(&self, node: NodeId, applied: &[Applied]) -> Option<(Step, Digest)> {
        let last = applied.iter().rposition(|applied| applied.node == node);
        let of_node = |fetched: &&Fetched| fetched.node == node && fetched.at <= applied.len();
        let fetched = self.fetched.iter().rev().find(of_node);
        match (last, fetched) {
            (last, Some(fetched)) if last.is_none_or(|last| last < fetched.at) => {
                Some((fetched.next, fetched.digest))
            }
            (last, _) => last.map(|last| (applied[last].step + 1, applied[last].digest)),
        }
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
        self.ledger.settle();
    }
}
