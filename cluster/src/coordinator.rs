//! The coordinator's side of the protocol: who takes part, which view is in force, who is lost.

use crate::config::RunConfig;
use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::{Failure, Fingerprint, Hello, Refusal, ToCoordinator, ToNode};
use crate::seats::Seats;
use crate::view::View;
use crate::vote::Vote;

/// What happens to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A node spoke.
    Message {
        /// The speaker.
        from: NodeId,
        /// Its words.
        message: ToCoordinator,
    },
    /// A node's session ended.
    Disconnected(NodeId),
    /// The view handed over in [`Command::Persist`] is on stable storage.
    Persisted(ViewNumber),
    /// Somebody asked the coordinator to end the run.
    Stop(String),
    /// Time has passed.
    Tick,
}

/// What the shell must do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Speak to a node.
    Send {
        /// The node.
        to: NodeId,
        /// The words.
        message: ToNode,
    },
    /// Store the view durably, then report [`Event::Persisted`].
    Persist(View),
    /// What the run is doing or waiting for has changed.
    Explain(String),
    /// The run is over; nothing follows.
    Conclude(Outcome),
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every member applied every step and all hold the same replica.
    Completed {
        /// Number of steps.
        steps: Step,
        /// Digest of the final replica.
        digest: Digest,
    },
    /// It ended early.
    Failed(Failure),
}

#[derive(Debug)]
enum Phase {
    /// Seats are filled and nodes prepare.
    Gathering,
    /// The view is being stored.
    Installing(View),
    /// Members step without asking.
    Training(View),
    /// Concluded.
    Over,
}

/// The coordinator's state machine.
#[derive(Debug)]
pub struct Coordinator {
    run: String,
    version: String,
    nodes: u32,
    lease: Millis,
    config: String,
    phase: Phase,
    seats: Seats,
    vote: Vote,
    reason: String,
}

impl Coordinator {
    /// A coordinator of the run `config`, whose text as `config.toml` is `text`; nodes must run
    /// `version` too.
    pub fn new(config: &RunConfig, text: String, version: String) -> Self {
        Self {
            run: config.name.clone(),
            version,
            nodes: config.nodes,
            lease: config.lease(),
            config: text,
            phase: Phase::Gathering,
            seats: Seats::new(config.nodes),
            vote: Vote::default(),
            reason: String::new(),
        }
    }

    /// The view in force, if there is one.
    pub fn view(&self) -> Option<&View> {
        match &self.phase {
            Phase::Training(view) => Some(view),
            _ => None,
        }
    }

    /// When the next lease runs out.
    pub fn deadline(&self) -> Option<Millis> {
        if matches!(self.phase, Phase::Over) {
            return None;
        }
        self.seats.deadline(self.lease)
    }

    /// Takes an event and appends what is to be done about it.
    pub fn handle(&mut self, now: Millis, event: Event, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        match event {
            Event::Message { from, message } => self.message(now, from, message, out),
            Event::Disconnected(node) => self.disconnected(node, out),
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
        let Some(seat) = self.seats.get_mut(from) else {
            return; // It was refused or is lost already: its words no longer count.
        };
        seat.heard = now;
        match message {
            ToCoordinator::Hello(_) | ToCoordinator::Heartbeat => {}
            ToCoordinator::Prepared(_) if seat.fingerprint.is_some() => {}
            ToCoordinator::Prepared(fingerprint) => self.prepared(from, fingerprint, out),
            ToCoordinator::Digest { step, digest } => self.compare(from, step, digest, out),
            ToCoordinator::PeerLost { view, rank, reason } => {
                self.peer_lost(from, view, rank, &reason, out);
            }
            ToCoordinator::Finished { steps, digest } => self.finished(from, steps, digest, out),
            ToCoordinator::Leave(failure) => self.leave(from, failure, out),
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
        let Hello { rank, address, .. } = hello;
        self.seats.take(from, rank, address, now);
        let message = ToNode::Welcome {
            node: from,
            config: self.config.clone(),
        };
        out.push(Command::Send { to: from, message });
    }

    fn objection(&self, hello: &Hello) -> Option<Refusal> {
        if let Some(asked) = hello.run.as_ref().filter(|asked| **asked != self.run) {
            return Some(Refusal::WrongRun {
                running: self.run.clone(),
                asked: asked.clone(),
            });
        }
        if hello.version != self.version {
            let (expected, found) = (self.version.clone(), hello.version.clone());
            return Some(Refusal::Version { expected, found });
        }
        if !matches!(self.phase, Phase::Gathering) {
            let nodes = self.nodes;
            return Some(Refusal::Full { nodes });
        }
        self.seats.objection(hello.rank)
    }

    fn prepared(&mut self, from: NodeId, found: Fingerprint, out: &mut Vec<Command>) {
        if let Some(refusal) = self.seats.mismatch(&found) {
            self.seats.free(from);
            out.push(Command::Send {
                to: from,
                message: ToNode::Refused(refusal),
            });
            return;
        }
        if let Some(seat) = self.seats.get_mut(from) {
            seat.fingerprint = Some(found);
        }
        if self.seats.complete() && matches!(self.phase, Phase::Gathering) {
            let view = View {
                number: 1,
                first_step: 0,
                members: self.seats.members(),
            };
            out.push(Command::Persist(view.clone()));
            self.phase = Phase::Installing(view);
        }
    }

    fn persisted(&mut self, number: ViewNumber, out: &mut Vec<Command>) {
        let Phase::Installing(view) = &self.phase else {
            return;
        };
        if view.number != number {
            return;
        }
        let view = view.clone();
        self.send_all(&ToNode::Install(view.clone()), out);
        self.phase = Phase::Training(view);
    }

    fn compare(&mut self, from: NodeId, step: Step, digest: Digest, out: &mut Vec<Command>) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let Some(rank) = view.rank_of(from) else {
            return;
        };
        if let Err(difference) = self.vote.cast(step, rank, digest, view.size()) {
            self.fail(Failure::ReplicasDiffer(difference), out);
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
        let Some(witness) = view.rank_of(from) else {
            return;
        };
        if number != view.number || rank >= view.size() || rank == witness {
            return;
        }
        let text = format!("rank {rank} is lost: rank {witness} cannot reach it ({reason})");
        self.fail(Failure::MemberLost(text), out);
    }

    fn finished(&mut self, from: NodeId, steps: Step, digest: Digest, out: &mut Vec<Command>) {
        let Phase::Training(view) = &self.phase else {
            return;
        };
        let Some(seat) = self.seats.get_mut(from) else {
            return;
        };
        seat.finished = Some((steps, digest));
        let results: Vec<_> = view
            .members
            .iter()
            .filter_map(|member| self.seats.get(member.node)?.finished)
            .collect();
        if results.len() < view.members.len() {
            return;
        }
        if results.iter().any(|result| *result != (steps, digest)) {
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

    fn leave(&mut self, from: NodeId, failure: Failure, out: &mut Vec<Command>) {
        if !matches!(self.phase, Phase::Gathering) {
            let who = self.name(from);
            return self.fail(failure.by(&who), out);
        }
        self.seats.free(from);
    }

    /// While nodes gather, the seat is free again; a run under way fails.
    fn disconnected(&mut self, node: NodeId, out: &mut Vec<Command>) {
        let who = self.name(node);
        if self.seats.free(node) && !matches!(self.phase, Phase::Gathering) {
            let text = format!("{who} is lost: its connection closed");
            self.fail(Failure::MemberLost(text), out);
        }
    }

    /// A silent node may only be frozen. It is told, so that it never waits for a run that goes on,
    /// or has ended, without it.
    fn expire(&mut self, now: Millis, out: &mut Vec<Command>) {
        for node in self.seats.silent(now, self.lease) {
            let failure = Failure::MemberLost(format!(
                "{} is lost: nothing was heard from it for {:.1} s",
                self.name(node),
                self.lease as f64 / 1e3
            ));
            if !matches!(self.phase, Phase::Gathering) {
                return self.fail(failure, out);
            }
            self.seats.free(node);
            out.push(Command::Send {
                to: node,
                message: ToNode::Abort(failure),
            });
        }
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
            Phase::Installing(view) | Phase::Training(view) => view.rank_of(node),
            Phase::Gathering | Phase::Over => self.seats.get(node)?.rank,
        }
    }

    fn explain(&mut self, out: &mut Vec<Command>) {
        let (joined, ready) = (self.seats.joined(), self.seats.ready());
        let done = self.seats.finished();
        let reason = match &self.phase {
            Phase::Gathering if joined < self.nodes as usize => {
                format!("waiting for nodes: {joined} of {} have joined", self.nodes)
            }
            Phase::Gathering => format!("nodes prepare: {ready} of {} are ready", self.nodes),
            Phase::Installing(view) => format!("storing view {}", view.number),
            Phase::Training(view) if done == 0 => {
                format!("view {}: {} members train", view.number, view.size())
            }
            Phase::Training(view) => format!("{done} of {} members have finished", view.size()),
            Phase::Over => return,
        };
        if reason != self.reason {
            self.reason.clone_from(&reason);
            out.push(Command::Explain(reason));
        }
    }
}

#[cfg(test)]
#[path = "coordinator_test.rs"]
mod tests;
