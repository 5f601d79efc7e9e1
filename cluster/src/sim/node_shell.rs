//! The simulated shell around a node's machine.

use std::ops::Range;

use crate::id::{Digest, Millis, NodeId, Step, ViewNumber};
use crate::message::{Fingerprint, FrameKey, Refusal, Residual, ToNode};
use crate::node::{Command, Ending, Event, Verdict};
use crate::quorum::{Decision, Quorum};
use crate::view::{Member, View};

use super::bug::Bug;
use super::process::{Order, Process, Wanted};
use super::record::{Applied, Contribution, Departure, Fetched, Inherited};
use super::replica::Frame;
use super::scenario::Launch;
use super::timing::{
    APPLY, COMPUTE, CONNECT, DELAY, DELIVER, PATIENCE, PREPARE, RECONNECT, RESTART, SNAPSHOT, STRAY,
};
use super::world::{COORDINATOR, Happening, Input, World};

/// What all simulated nodes have in common.
pub(super) const FINGERPRINT: Fingerprint = Fingerprint {
    replica: Digest([0; 32]),
    data: Digest([0; 32]),
    parameters: 1,
    samples: 1,
};

impl World {
    pub(super) fn node_input(&mut self, node: NodeId, input: Input) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        if early(&input) > process.machine.view().map(|(view, _)| view.number) {
            process.gate.push(input);
            return;
        }
        match input {
            Input::Done(lane) => self.done(node, lane),
            Input::Frame(frame) => self.tell(node, Event::Frame(frame.key), Some(frame)),
            Input::Wanted(wanted) => {
                process.wanted.push(wanted);
                self.give(node);
            }
            Input::Snapshot(view, next, replica) => {
                let digest = replica.digest();
                process.snapshot = Some(replica);
                self.tell(node, Event::Snapshot { view, next, digest }, None);
            }
            Input::Node(event) => self.tell(node, event, None),
            Input::Coordinator(_) => {} // Invariant: these arrive at the coordinator's site.
        }
        self.wake_node(node);
    }

    pub(super) fn wake_node(&mut self, node: NodeId) {
        let process = self.processes.get(&node);
        let deadline = process.and_then(|process| process.machine.deadline());
        self.wake(node, deadline, Input::Node(Event::Tick));
    }

    /// Tells the machine; `frame` is what a [`Event::Frame`] speaks of.
    fn tell(&mut self, node: NodeId, event: Event, frame: Option<Frame>) {
        match event {
            Event::Message(ToNode::Abort(_)) if self.planted(Bug::LoseAbort) => return,
            Event::PeerLost { .. } if self.planted(Bug::IgnoreBrokenStreams) => return,
            _ => {}
        }
        let now = self.local(node);
        let mut commands = Vec::new();
        if let Some(process) = self.processes.get_mut(&node) {
            process.machine.handle(now, event, &mut commands);
        }
        self.carry_out(node, commands, frame);
    }

    pub(super) fn carry_out(&mut self, node: NodeId, commands: Vec<Command>, frame: Option<Frame>) {
        for command in commands {
            match command {
                Command::Send(message) => {
                    let (from, to) = (node, COORDINATOR);
                    let event = crate::coordinator::Event::Message { from, message };
                    self.transmit(from, to, Input::Coordinator(event));
                }
                Command::Prepare { .. } => self.prepare(node),
                Command::Restore { .. } => {} // Invariant: nobody has checkpoints here.
                Command::Reconnect => {
                    let until = self.record.now + PATIENCE;
                    if let Some(life) = self.record.life_mut(node) {
                        life.away = Some(until);
                    }
                    self.reconnect(node, until);
                }
                Command::Link(view) => self.link(node, view),
                Command::Follow(view) => self.follow(node, view),
                Command::Fetch {
                    view,
                    from,
                    at_least,
                } => {
                    let wanted = Wanted {
                        by: node,
                        view,
                        at_least,
                    };
                    self.fetch(from.node, wanted);
                }
                Command::Adopt { next } => {
                    let process = self.processes.get_mut(&node);
                    let snapshot = process.and_then(|process| process.snapshot.take());
                    if let Some(replica) = snapshot {
                        self.order(node, Order::Adopt { next, replica });
                    }
                }
                Command::Stream { to, first } => self.stream(node, to.node, first),
                Command::Supply {
                    first,
                    end,
                    decisions,
                    to,
                } => self.supply(node, first..end, &decisions, &to),
                Command::Decide(decision) => self.announce(node, decision),
                Command::Inherit(step) => self.inherit(node, step),
                Command::Compute(step) => self.order(node, Order::Compute { step, whole: false }),
                Command::Flush(step) => {
                    let whole = !self.planted(Bug::KeepBack);
                    self.order(node, Order::Compute { step, whole });
                }
                Command::Keep(_) => self.keep(node, frame),
                Command::Drop(_, verdict) => {
                    self.dropped += 1;
                    let keep = match verdict {
                        Verdict::Duplicate => self.planted(Bug::KeepDuplicates),
                        Verdict::Foreign | Verdict::Unknown => self.planted(Bug::MissingFence),
                        _ => false,
                    };
                    if keep {
                        self.keep(node, frame);
                    }
                }
                Command::Apply {
                    view,
                    ranks,
                    step,
                    digest,
                    ..
                } => {
                    let process = self.processes.get_mut(&node);
                    let take = |process: &mut Process| process.take(view, step);
                    let frames = process.map_or_else(Vec::new, take);
                    self.order(
                        node,
                        Order::Apply {
                            view,
                            step,
                            digest,
                            ranks,
                            frames,
                        },
                    );
                }
                Command::Deliver => self.order(node, Order::Deliver),
                Command::Explain(reason) => self.show(&(node, reason)),
                Command::Exit(result) => self.exit(node, result),
            }
        }
    }

    /// Tries to open a session in place of one that broke.
    pub(super) fn reconnect(&mut self, node: NodeId, until: Millis) {
        if self
            .record
            .life(node)
            .is_none_or(|life| life.ended.is_some())
        {
            return;
        }
        let event = if self.accepting() && self.reachable(node, COORDINATOR) {
            self.wires.open(node, COORDINATOR);
            self.wires.open(COORDINATOR, node);
            if let Some(life) = self.record.life_mut(node) {
                life.away = None;
            }
            // It is the first that comes in the new session, and is gone with it.
            let news = Input::Node(Event::Reconnected);
            return self.dispatch(COORDINATOR, node, self.record.now, news);
        } else if self.record.now >= until {
            Event::CoordinatorGone("it does not answer".to_owned())
        } else {
            let time = self.record.now + self.draw(&RECONNECT);
            return self.queue.plan(time, Happening::Reconnect { node, until });
        };
        self.later(node, &(0..=0), Input::Node(event));
    }

    fn prepare(&mut self, node: NodeId) {
        let prepared = Event::Prepared {
            fingerprint: FINGERPRINT,
            kept: Vec::new(),
            buckets: self.scenario.buckets,
            steps: self.scenario.steps,
            digest_every: self.scenario.config.digest_every,
            quorum: self.record.quorum.map(|quorum| Quorum {
                least: if self.planted(Bug::SmallQuorum) {
                    1
                } else {
                    quorum.least
                },
                ..quorum
            }),
        };
        self.later(node, &PREPARE, Input::Node(prepared));
    }

    /// Opens a stream to every other member and then lets in what waited for the view.
    fn link(&mut self, node: NodeId, view: View) {
        self.record.installed.push((node, view.clone()));
        self.order(node, Order::Enter(view.clone()));
        let mut longest = 0;
        let mut news = Event::Linked(view.number);
        for member in view.members.iter().map(|member| member.node) {
            let life = self.record.life(member);
            let alive = life.is_some_and(|life| life.ended.is_none());
            let alive = alive && self.reachable(node, member);
            if member != node && alive {
                self.wires.open(node, member);
                longest = longest.max(self.draw(&DELAY));
            } else if member != node {
                longest = CONNECT;
                news = Event::PeerLost {
                    view: view.number,
                    rank: view.rank_of(member).unwrap_or(u32::MAX),
                    reason: "it does not answer".to_owned(),
                };
                break;
            }
        }
        self.later(node, &(longest..=longest), Input::Node(news));
        self.open_gate(node);
    }

    fn follow(&mut self, node: NodeId, view: View) {
        self.show(&(node, "follows", view.number));
        if let Some(process) = self.processes.get_mut(&node) {
            process.follow();
        }
        self.open_gate(node);
    }

    fn open_gate(&mut self, node: NodeId) {
        let process = self.processes.get_mut(&node);
        let waiting = process.map_or_else(Vec::new, |process| std::mem::take(&mut process.gate));
        for input in waiting {
            self.node_input(node, input);
        }
    }

    /// Asks a member for a snapshot.
    fn fetch(&mut self, donor: NodeId, wanted: Wanted) {
        let alive = self
            .record
            .life(donor)
            .is_some_and(|life| life.silent().is_none());
        if alive && self.reachable(wanted.by, donor) {
            return self.post((wanted.by, donor), &DELAY, Input::Wanted(wanted));
        }
        let refused = Event::NotFetched {
            view: wanted.view,
            reason: "it does not answer".to_owned(),
        };
        self.later(wanted.by, &(CONNECT..=CONNECT), Input::Node(refused));
    }

    /// Gives snapshots to whoever waits for no later step.
    fn give(&mut self, donor: NodeId) {
        let Some(process) = self.processes.get_mut(&donor) else {
            return;
        };
        let next = process.next;
        let ready = |wanted: &mut Wanted| wanted.at_least <= next;
        let given: Vec<Wanted> = process.wanted.extract_if(.., ready).collect();
        let replica = process.replica().clone();
        for Wanted { by, view, .. } in given {
            let snapshot = Input::Snapshot(view, next, replica.clone());
            self.post((donor, by), &SNAPSHOT, snapshot);
        }
    }

    fn stream(&mut self, node: NodeId, to: NodeId, first: Step) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let Some((view, Some(rank))) = process.machine.view() else {
            return; // Invariant: only members are asked.
        };
        let opened = Event::Opened {
            view: view.number,
            rank,
            first,
        };
        process.observers.retain(|(observer, _)| *observer != to);
        process.observers.push((to, first));
        self.wires.open(node, to);
        self.transmit(node, to, Input::Node(opened));
    }

    /// Tells everybody who makes up a step; some hear it twice.
    fn announce(&mut self, node: NodeId, decision: Decision) {
        let place = (decision.view, decision.step);
        let ranks = decision.ranks.clone();
        self.record.decided.entry(place).or_insert(ranks);
        for peer in self.peers(node, decision.step) {
            let heard = Input::Node(Event::Decision(decision.clone()));
            self.transmit(node, peer, heard.clone());
            if self.random.one_in(16) {
                self.later(peer, &STRAY, heard);
            }
        }
    }

    /// The other members, and who follows and gets contributions to `step`.
    fn peers(&self, node: NodeId, step: Step) -> Vec<NodeId> {
        let Some(process) = self.processes.get(&node) else {
            return Vec::new();
        };
        let members = process
            .seat
            .as_ref()
            .map(|(view, _)| view.members.as_slice());
        let members = members.unwrap_or_default().iter().map(|member| member.node);
        let observers = process.observers.iter().filter(|(_, first)| *first <= step);
        let peers = members.chain(observers.map(|(node, _)| *node));
        peers.filter(|peer| *peer != node).collect()
    }

    /// Forwards what is held of these steps.
    fn supply(&mut self, node: NodeId, steps: Range<Step>, decisions: &[Decision], to: &[Member]) {
        if self.planted(Bug::LoseSupply) {
            return;
        }
        let process = self.processes.get(&node);
        let held = process.map_or_else(Vec::new, |process| process.held(steps));
        for member in to {
            for decision in decisions {
                let heard = Input::Node(Event::Decision(decision.clone()));
                self.later(member.node, &DELAY, heard);
            }
            for frame in &held {
                self.post((node, member.node), &DELAY, Input::Frame(*frame));
            }
        }
    }

    fn keep(&mut self, node: NodeId, frame: Option<Frame>) {
        self.kept += 1;
        if let (Some(process), Some(frame)) = (self.processes.get_mut(&node), frame) {
            process.keep(frame);
        }
    }

    fn exit(&mut self, node: NodeId, result: Result<u64, Ending>) {
        self.show(&(node, &result));
        use Refusal::{Data, Replica, Version, WrongRun};
        let again = match &result {
            Ok(_) => false,
            Err(Ending::Refused(refusal)) => !matches!(
                refusal,
                WrongRun { .. } | Version { .. } | Replica { .. } | Data { .. }
            ),
            Err(_) => true,
        };
        // Whoever comes back by itself has still what its process had.
        let process = self.processes.get(&node);
        let residual = match &result {
            Err(Ending::Excluded(_) | Ending::CoordinatorLost(_)) => {
                process.and_then(|process| process.residual(node))
            }
            _ => None,
        };
        self.end(node, Departure::Exited(result));
        if again {
            self.restart(node, residual);
        }
    }

    /// Takes up the residual of the process's last life, as it was before `step`.
    fn inherit(&mut self, node: NodeId, step: Option<Step>) {
        let process = self.processes.get(&node);
        let residual = process.and_then(|process| process.launch.residual);
        if let Some((as_of, residual)) = step.zip(residual) {
            let late = self.planted(Bug::KeepVoidResidual);
            let (by, of) = (node, residual.node);
            let as_of = if late { Step::MAX } else { as_of };
            self.record.inherited.push(Inherited { by, of, as_of });
        }
    }

    /// An operator starts the process again after a while, until the run is over.
    pub(super) fn restart(&mut self, node: NodeId, residual: Option<Residual>) {
        if let Some(restarts) = &mut self.restarts {
            if *restarts == 0 {
                return;
            }
            *restarts -= 1;
        }
        if let Some(process) = self.processes.get(&node) {
            let launch = Launch {
                residual,
                ..process.launch.clone()
            };
            let time = self.record.now + self.draw(&RESTART);
            self.queue.plan(time, Happening::Start(launch));
        }
    }

    fn order(&mut self, node: NodeId, order: Order) {
        let ahead = self.planted(Bug::ComputeAhead);
        if let Some(process) = self.processes.get_mut(&node) {
            let shared = process
                .seat
                .as_ref()
                .is_some_and(|(view, _)| view.size() > 1);
            let ahead = ahead && shared && matches!(order, Order::Compute { .. });
            let lane = usize::from(ahead);
            process.lanes[lane].push_back(order);
            if process.lanes[lane].len() == 1 {
                self.begin(node, lane);
            }
        }
    }

    /// Begins the first order of a lane, if there is one.
    fn begin(&mut self, node: NodeId, lane: usize) {
        let Some(process) = self.processes.get(&node) else {
            return;
        };
        let (range, pace) = match process.lanes[lane].front() {
            Some(Order::Compute { .. }) => (COMPUTE, process.launch.pace),
            Some(Order::Apply { .. }) => (APPLY, process.launch.pace),
            Some(Order::Deliver) => (DELIVER, 1),
            // Nobody waits for these, and they take no time.
            Some(Order::Enter(_) | Order::Adopt { .. }) => return self.done(node, lane),
            None => return,
        };
        let time = self.draw(&range) * pace;
        self.later(node, &(time..=time), Input::Done(lane));
    }

    fn done(&mut self, node: NodeId, lane: usize) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let event = match process.lanes[lane].pop_front() {
            Some(Order::Enter(view)) => {
                let first = view.clone();
                process.enter(node, view, self.options.planted);
                let ledger = &mut self.record.ledger;
                ledger.take_back(node, &first, process.mass());
                None
            }
            Some(Order::Adopt { next, mut replica }) => {
                let (digest, at) = (replica.digest(), self.record.applied.len());
                self.record.fetched.push(Fetched {
                    node,
                    next,
                    digest,
                    at,
                });
                if self.options.planted.is(Bug::WrongSnapshot) {
                    replica.apply(next, &[]);
                }
                process.adopt(next, replica);
                None
            }
            Some(Order::Compute { step, whole }) => {
                let view = process.seat.as_ref().map_or(0, |(view, _)| view.number);
                let (frames, computed) = process.compute(node, step, whole, self.scenario.buckets);
                let (ledger, mass) = (&mut self.record.ledger, process.mass());
                ledger.contribute(node, computed, frames.clone(), mass);
                self.record.contributions.push(Contribution {
                    node,
                    view,
                    step,
                    whole,
                });
                self.broadcast(node, &frames);
                Some(Event::Contributed { view, step })
            }
            Some(Order::Apply {
                view,
                step,
                digest,
                ranks,
                frames,
            }) => {
                if !(self.options.planted.is(Bug::LoseApply) && step == 1) {
                    let planted = self.options.planted;
                    process.settle(view, step, &ranks, planted);
                    let mass = process.mass();
                    self.record
                        .ledger
                        .settle_step(node, view, step, &ranks, mass);
                    let frames = process.apply(step, &ranks, frames, planted);
                    let digest = process.replica().digest();
                    let applied = Applied {
                        node,
                        view,
                        step,
                        frames,
                        digest,
                    };
                    self.record.apply(applied);
                }
                let digest = digest.then(|| process.replica().digest());
                self.give(node);
                Some(Event::Applied { step, digest })
            }
            Some(Order::Deliver) => Some(Event::Delivered),
            None => return,
        };
        self.begin(node, lane);
        if let Some(event) = event {
            self.tell(node, event, None);
        }
    }

    /// Sends frames to the other members and to who follows. Some arrive twice, and strangers send
    /// some too.
    fn broadcast(&mut self, node: NodeId, frames: &[Frame]) {
        let step = frames.first().map_or(0, |frame| frame.key.step);
        for peer in self.peers(node, step) {
            for frame in frames {
                self.transmit(node, peer, Input::Frame(*frame));
                if self.random.one_in(16) {
                    self.post((node, peer), &STRAY, Input::Frame(*frame));
                }
                if self.random.one_in(32) {
                    let stranger = self.stranger(*frame);
                    self.post((node, peer), &STRAY, Input::Frame(stranger));
                }
            }
        }
    }

    /// A frame like `frame` of somebody who is no member of the view, in a view that there never is
    /// or with a rank beyond it.
    fn stranger(&mut self, frame: Frame) -> Frame {
        let FrameKey { view, rank, .. } = frame.key;
        let (view, rank) = match self.random.within(&(0..=2)) {
            0 => (0, rank),
            1 => (view + 1000, rank),
            _ => (view, rank + self.scenario.config.nodes),
        };
        Frame {
            key: FrameKey {
                view,
                rank,
                ..frame.key
            },
            origin: NodeId::MAX,
            gradient: self.random.next(),
        }
    }
}

/// The view of news that may come before the view does.
fn early(input: &Input) -> Option<ViewNumber> {
    match input {
        Input::Frame(frame) => Some(frame.key.view),
        Input::Node(Event::PeerLost { view, .. } | Event::Opened { view, .. }) => Some(*view),
        Input::Node(Event::Decision(decision)) => Some(decision.view),
        _ => None,
    }
}
