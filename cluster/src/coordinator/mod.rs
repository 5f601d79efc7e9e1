//! The coordinator's side of the protocol: who takes part, which view is in force, who is lost.

mod change;
mod changing;
mod interface;
mod links;
mod reason;
mod recovering;
mod residuals;
mod seats;
mod vote;

use std::collections::BTreeMap;

use crate::config::RunConfig;
use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::{Failure, Fingerprint, Hello, Kept, Refusal, ToCoordinator, ToNode};
use crate::view::View;
use change::{Change, History};
pub use interface::{Command, Event, Outcome};
use links::Links;
use seats::Seats;
use vote::{Tally, Vote};

#[derive(Clone, Debug)]
enum Phase {
    /// Seats are filled and nodes prepare.
    Gathering,
    /// This process begins in the middle of a run, or the last member of this view is lost: members come
    /// back, or as many nodes as it takes go on from their checkpoints. If none were to be kept, nobody is
    /// known to have made a step.
    Recovering(View),
    /// The view is being stored; it follows from the change.
    Storing(View, Change),
    /// Members step without asking.
    Training(View),
    /// The members of the view stand still and say where.
    Changing(View, Change),
    /// Concluded.
    Over,
}

/// The coordinator's state machine.
#[derive(Clone, Debug)]
pub struct Coordinator {
    config: RunConfig,
    version: String,
    text: String,
    phase: Phase,
    seats: Seats,
    history: History,
    vote: Vote,
    links: Links,
    /// Members that have made their last contribution, and to which step; until there is a view without them.
    departures: BTreeMap<NodeId, Step>,
    /// Who takes up which rank's checkpoint in the view that is being stored.
    restores: BTreeMap<NodeId, Rank>,
    /// Who supplies members of the view with what they lack, and leaves.
    donor: Option<NodeId>,
    /// Why the last member was lost.
    loss: Option<Failure>,
    /// When an event was handled last.
    awake: Millis,
    reason: String,
}

impl Coordinator {
    /// A coordinator of the run `config`, whose text as `config.toml` is `text`; nodes must run
    /// `version` too.
    pub fn new(config: &RunConfig, text: String, version: String) -> Self {
        Self {
            config: config.clone(),
            version,
            text,
            phase: Phase::Gathering,
            seats: Seats::new(config.nodes, None),
            history: History::default(),
            vote: Vote::default(),
            links: Links::default(),
            departures: BTreeMap::new(),
            restores: BTreeMap::new(),
            donor: None,
            loss: None,
            awake: 0,
            reason: String::new(),
        }
    }

    /// The view that was announced last, if there is one.
    pub fn view(&self) -> Option<&View> {
        match &self.phase {
            Phase::Training(view) | Phase::Changing(view, _) => Some(view),
            Phase::Gathering | Phase::Recovering(_) | Phase::Storing(..) | Phase::Over => None,
        }
    }

    /// When the next lease runs out, or it is time to see that this process is not frozen itself.
    pub fn deadline(&self) -> Option<Millis> {
        if matches!(self.phase, Phase::Over) {
            return None;
        }
        let lease = self.config.lease();
        let first = self.seats.deadline(lease)?;
        let answers = match &self.phase {
            Phase::Changing(_, change) => change.deadline(lease),
            _ => None,
        };
        let first = answers.map_or(first, |answers| answers.min(first));
        Some(first.min(self.awake.saturating_add(lease / 4)))
    }

    /// Takes an event and appends what is to be done about it.
    pub fn handle(&mut self, now: Millis, event: Event, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        // It should have been here before: it is this process that stood still, and what the nodes
        // said meanwhile is still to be heard.
        if now > self.awake.saturating_add(self.config.lease() / 2) {
            self.seats.forgive(now);
            if let Phase::Changing(_, change) = &mut self.phase {
                change.forgive(now);
            }
        }
        self.awake = now;
        match event {
            Event::Message { from, message } => self.message(now, from, message, out),
            Event::Disconnected(node) => {
                let text = format!("{} is lost: its connection closed", self.name(node));
                self.lose(node, Failure::MemberLost(text), out);
            }
            Event::Persisted(number) => self.persisted(number, out),
            Event::Stop(reason) => self.fail(Failure::Stopped(reason), out),
            Event::Tick => self.expire(now, out),
        }
        self.explain(out);
    }

    fn message(
        &mut self,
        now: Millis,
        from: NodeId,
        message: ToCoordinator,
        out: &mut Vec<Command>,
    ) {
        if let ToCoordinator::Hello(hello) = message {
            return self.hello(now, from, hello, out);
        }
        if let ToCoordinator::Return { view, frozen, .. } = message {
            return self.returned(now, from, view, frozen, out);
        }
        let Some(seat) = self.seats.get_mut(from) else {
            return; // It was refused or is lost already: its words no longer count.
        };
        seat.heard = now;
        match message {
            ToCoordinator::Hello(_) | ToCoordinator::Return { .. } | ToCoordinator::Heartbeat => {}
            ToCoordinator::Prepared { .. } if seat.fingerprint.is_some() => {}
            ToCoordinator::Prepared { fingerprint, kept } => {
                self.prepared(from, fingerprint, kept, out);
            }
            ToCoordinator::Frozen { view, next } => self.frozen(from, view, next, out),
            ToCoordinator::CaughtUp { view } => {
                seat.caught_up = Some(view);
                self.admit(out);
            }
            ToCoordinator::Digest { step, digest } => self.compare(from, step, digest, out),
            ToCoordinator::PeerLost { view, rank, reason } => {
                self.peer_lost(from, view, rank, &reason, out);
            }
            ToCoordinator::Finished {
                view,
                steps,
                digest,
            } => self.finished(from, view, (steps, digest), out),
            ToCoordinator::Leave(failure) => self.leave(from, failure, out),
            ToCoordinator::Depart { step, failure } => self.depart(from, step, failure, out),
        }
    }

    fn hello(&mut self, now: Millis, from: NodeId, hello: Hello, out: &mut Vec<Command>) {
        if self.seats.get(from).is_some() {
            return; // It has its seat; asking again must not cost it.
        }
        if let Some(refusal) = self.objection(&hello) {
            out.push(Command::Send {
                to: from,
                message: ToNode::Refused(refusal),
            });
            return;
        }
        let Hello {
            rank,
            address,
            observe,
            residual,
            ..
        } = hello;
        self.seats
            .take(from, rank.filter(|_| !observe), address, now);
        if let Some(seat) = self.seats.get_mut(from) {
            (seat.observe, seat.residual) = (observe, residual);
        }
        let message = ToNode::Welcome {
            node: from,
            config: self.text.clone(),
            begun: self.history.last() > 0,
        };
        out.push(Command::Send { to: from, message });
    }

    fn objection(&self, hello: &Hello) -> Option<Refusal> {
        let running = &self.config.name;
        if let Some(asked) = hello.run.as_ref().filter(|asked| *asked != running) {
            return Some(Refusal::WrongRun {
                running: running.clone(),
                asked: asked.clone(),
            });
        }
        if hello.version != self.version {
            let (expected, found) = (self.version.clone(), hello.version.clone());
            return Some(Refusal::Version { expected, found });
        }
        if self.seats.full(hello.observe) {
            let nodes = self.config.nodes;
            return Some(Refusal::Full { nodes });
        }
        // Once training has begun, ranks are given in the order in which nodes come back.
        let asked = hello
            .rank
            .filter(|rank| self.gathers() || *rank >= self.config.nodes)
            .filter(|_| !hello.observe);
        self.seats.objection(asked?)
    }

    /// Whether nodes wait for each other to begin.
    fn gathers(&self) -> bool {
        matches!(self.phase, Phase::Gathering | Phase::Recovering(_))
    }

    fn prepared(
        &mut self,
        from: NodeId,
        found: Fingerprint,
        kept: Vec<Kept>,
        out: &mut Vec<Command>,
    ) {
        if let Some(refusal) = self.seats.mismatch(&found) {
            self.seats.free(from);
            out.push(Command::Send {
                to: from,
                message: ToNode::Refused(refusal),
            });
            return;
        }
        self.seats.prepared(from, found, kept);
        match &self.phase {
            Phase::Recovering(_) if self.seats.complete() => self.recover(out),
            Phase::Gathering if self.seats.complete() => {
                let view = View {
                    number: 1,
                    first_step: 0,
                    consumed: 0,
                    members: self.seats.members(),
                };
                let change = Change::at(&view, 0);
                self.store(view, change, out);
            }
            Phase::Training(view) => self.follow(&view.clone(), from, out),
            _ => {}
        }
    }

    fn compare(&mut self, from: NodeId, step: Step, digest: Digest, out: &mut Vec<Command>) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let Some(rank) = view.rank_of(from) else {
            return;
        };
        match self.vote.cast(step, rank, digest, view.size()) {
            Tally::Open => {}
            Tally::Agreed => self.links.heal(),
            Tally::Odd { ranks, who } => {
                let members = ranks
                    .iter()
                    .filter_map(|rank| view.members.get(*rank as usize));
                let nodes: Vec<NodeId> = members.map(|member| member.node).collect();
                for node in nodes {
                    self.exclude(node, Failure::ReplicasDiffer(who.clone()), out);
                }
            }
            Tally::Split(who) => self.fail(Failure::ReplicasDiffer(who), out),
        }
    }

    fn peer_lost(
        &mut self,
        from: NodeId,
        number: ViewNumber,
        rank: Rank,
        reason: &str,
        out: &mut Vec<Command>,
    ) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let Some(lost) = view
            .members
            .get(rank as usize)
            .filter(|_| number == view.number)
        else {
            return;
        };
        let Some(witness) = view.rank_of(from) else {
            let (view, to) = (view.number, lost.node);
            return self.observe(view, to, from, out);
        };
        if rank == witness {
            return;
        }
        let text = format!("rank {witness} cannot reach rank {rank} ({reason})");
        out.push(Command::Explain(format!(
            "{text}: their streams are opened anew"
        )));
        match self.links.strike(view, from, lost.node) {
            Some(node) => self.exclude(node, Failure::MemberLost(text), out),
            None => self.change(out),
        }
    }

    fn finished(
        &mut self,
        from: NodeId,
        number: ViewNumber,
        result: (Step, Digest),
        out: &mut Vec<Command>,
    ) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let Some(seat) = self.seats.get_mut(from).filter(|_| view.number == number) else {
            return;
        };
        seat.finished = Some(result);
        let results: Vec<_> = view
            .members
            .iter()
            .filter_map(|member| self.seats.get(member.node)?.finished)
            .collect();
        if results.len() < view.members.len() {
            return;
        }
        let (steps, digest) = result;
        if results.iter().any(|other| *other != result) {
            let held: Vec<String> = results
                .iter()
                .enumerate()
                .map(|(rank, (steps, digest))| format!("rank {rank} holds {digest} after {steps}"))
                .collect();
            let text = format!("final replicas differ: {} steps", held.join(", "));
            return self.fail(Failure::ReplicasDiffer(text), out);
        }
        self.send_all(&ToNode::End, out);
        self.conclude(Outcome::Completed { steps, digest }, out);
    }

    /// A member that stops or fails costs the run only its own part; that training diverges is true
    /// for all.
    fn leave(&mut self, from: NodeId, failure: Failure, out: &mut Vec<Command>) {
        let failure = failure.by(&self.name(from));
        let trains = !self.gathers();
        if trains && matches!(failure, Failure::Diverged(_)) {
            return self.fail(failure, out);
        }
        self.lose(from, failure, out);
    }

    /// A silent node may only be frozen. It is told, so that it never waits for a run that goes on,
    /// or has ended, without it.
    fn expire(&mut self, now: Millis, out: &mut Vec<Command>) {
        let lease = self.config.lease();
        for node in self.seats.silent(now, lease) {
            let failure = Failure::MemberLost(format!(
                "{} is lost: nothing was heard from it for {:.1} s",
                self.name(node),
                lease as f64 / 1e3
            ));
            self.exclude(node, failure, out);
        }
        let Phase::Changing(_, change) = &self.phase else {
            return;
        };
        if change.deadline(lease).is_none_or(|deadline| now < deadline) {
            return;
        }
        for node in change.missing() {
            let failure = Failure::MemberLost(format!(
                "{} is lost: it did not stand still for the next view within {:.1} s",
                self.name(node),
                lease as f64 / 1e3
            ));
            self.exclude(node, failure, out);
        }
    }

    /// Leaves a node out that may be alive: it may come back as a new one.
    fn exclude(&mut self, node: NodeId, failure: Failure, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Over) {
            return; // It was the last member that went before.
        }
        if self.seats.get(node).is_some() {
            let message = ToNode::Excluded(failure.clone());
            out.push(Command::Send { to: node, message });
        }
        self.lose(node, failure, out);
    }

    /// Frees a node's seat. If it was a member, the others agree on how to go on without it.
    fn lose(&mut self, node: NodeId, failure: Failure, out: &mut Vec<Command>) {
        if !self.seats.free(node) {
            return;
        }
        let matters = match &mut self.phase {
            Phase::Gathering | Phase::Recovering(_) | Phase::Over => false,
            Phase::Training(view) => {
                let supplied = self.donor.take_if(|donor| *donor == node);
                view.rank_of(node).is_some() || supplied.is_some()
            }
            Phase::Changing(_, change) | Phase::Storing(_, change) => change.lose(node),
        };
        if !matters {
            return;
        }
        out.push(Command::Explain(failure.to_string()));
        self.loss = Some(failure);
        self.change(out);
        self.decide(out);
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Command>) {
        self.send_all(&ToNode::Abort(failure.clone()), out);
        self.conclude(Outcome::Failed(failure), out);
    }

    fn conclude(&mut self, outcome: Outcome, out: &mut Vec<Command>) {
        self.phase = Phase::Over;
        out.push(Command::Conclude(outcome));
    }

    fn send_all(&self, message: &ToNode, out: &mut Vec<Command>) {
        let send = |to| Command::Send {
            to,
            message: message.clone(),
        };
        out.extend(self.seats.nodes().map(send));
    }

    fn name(&self, node: NodeId) -> String {
        match self.rank(node) {
            Some(rank) => format!("rank {rank}"),
            None => format!("node {node}"),
        }
    }

    fn rank(&self, node: NodeId) -> Option<Rank> {
        match &self.phase {
            Phase::Storing(view, _) | Phase::Training(view) | Phase::Changing(view, _) => {
                view.rank_of(node)
            }
            Phase::Gathering | Phase::Recovering(_) | Phase::Over => self.seats.get(node)?.rank,
        }
    }
}

#[cfg(test)]
mod tests;
