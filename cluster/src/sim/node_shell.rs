//! The simulated shell around a node's machine.

use crate::id::{Digest, NodeId};
use crate::message::{Fingerprint, FrameKey, Refusal, ToNode};
use crate::node::{Command, Ending, Event};
use crate::round::Verdict;
use crate::view::View;

use super::bug::Bug;
use super::process::Order;
use super::record::{Applied, Departure};
use super::replica::Frame;
use super::timing::{APPLY, COMPUTE, CONNECT, DELAY, DELIVER, PREPARE, RESTART, STRAY};
use super::world::{COORDINATOR, Happening, Input, World};

impl World<'_> {
    pub(super) fn node_input(&mut self, node: NodeId, input: Input) {
        let Some(process) = self.processes.get_mut(&node) else {
            return;
        };
        let of_peer = matches!(input, Input::Frame(_) | Input::Node(Event::PeerLost { .. }));
        if of_peer && process.machine.view().is_none() {
            process.gate.push(input);
            return;
        }
        match input {
            Input::Done(lane) => self.done(node, lane),
            Input::Frame(frame) => self.tell(node, Event::Frame(frame.key), Some(frame)),
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
        let bug = self.options.bug;
        match event {
            Event::Message(ToNode::Abort(_)) if bug == Some(Bug::LoseAbort) => return,
            Event::PeerLost { .. } if bug == Some(Bug::IgnoreBrokenStreams) => return,
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
                Command::Link(view) => self.link(node, view),
                Command::Compute(step) => self.order(node, Order::Compute(step)),
                Command::Keep(_) => self.keep(node, frame),
                Command::Drop(_, verdict) => {
                    self.dropped += 1;
                    match (self.options.bug, verdict) {
                        (Some(Bug::KeepDuplicates), Verdict::Duplicate)
                        | (Some(Bug::MissingFence), Verdict::Foreign | Verdict::Unknown) => {
                            self.keep(node, frame);
                        }
                        _ => {}
                    }
                }
                Command::Apply { step, digest } => {
                    let process = self.processes.get_mut(&node);
                    let frames = process.map_or_else(Vec::new, |process| process.take(step));
                    self.order(
                        node,
                        Order::Apply {
                            step,
                            digest,
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

    fn prepare(&mut self, node: NodeId) {
        let same = Digest([0; 32]);
        let prepared = Event::Prepared {
            fingerprint: Fingerprint {
                replica: same,
                data: same,
                parameters: 1,
                samples: 1,
            },
            buckets: self.scenario.buckets,
            steps: self.scenario.steps,
            digest_every: self.scenario.config.digest_every,
        };
        self.later(node, &PREPARE, Input::Node(prepared));
    }

    /// Opens a stream to every other member and then lets in what waited for the view.
    fn link(&mut self, node: NodeId, view: View) {
        self.record.installed.push((node, view.clone()));
        let mut longest = 0;
        for member in view.members.iter().map(|member| member.node) {
            let life = self.record.life(member);
            let alive = life.is_some_and(|life| life.ended.is_none());
            if member != node && alive {
                self.wires.open(node, member);
                longest = longest.max(self.draw(&DELAY));
            } else if member != node {
                let notice = self.notice(node, member, node);
                return self.later(node, &(CONNECT..=CONNECT), notice);
            }
        }
        self.later(node, &(longest..=longest), Input::Node(Event::Linked));
        let process = self.processes.get_mut(&node);
        let waiting = process.map_or_else(Vec::new, |process| std::mem::take(&mut process.gate));
        for input in waiting {
            self.node_input(node, input);
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
        self.end(node, Departure::Exited(result));
        if again {
            self.restart(node);
        }
    }

    /// An operator starts the process again after a while, until the run is over.
    pub(super) fn restart(&mut self, node: NodeId) {
        if let Some(process) = self.processes.get(&node) {
            let launch = process.launch.clone();
            let time = self.record.now + self.draw(&RESTART);
            self.queue.plan(time, Happening::Start(launch));
        }
    }

    fn order(&mut self, node: NodeId, order: Order) {
        let ahead = self.options.bug == Some(Bug::ComputeAhead);
        let lane = usize::from(ahead && matches!(order, Order::Compute(_)));
        if let Some(process) = self.processes.get_mut(&node) {
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
            Some(Order::Compute(_)) => (COMPUTE, process.launch.pace),
            Some(Order::Apply { .. }) => (APPLY, process.launch.pace),
            Some(Order::Deliver) => (DELIVER, 1),
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
            Some(Order::Compute(step)) => {
                let frames = process.compute(node, step, self.scenario.buckets);
                self.broadcast(node, &frames);
                Event::Contributed(step)
            }
            Some(Order::Apply {
                step,
                digest,
                frames,
            }) => {
                if !(self.options.bug == Some(Bug::LoseApply) && step == 1) {
                    let frames = process.apply(step, frames, self.options.bug);
                    let digest = process.replica().digest();
                    let applied = Applied {
                        node,
                        step,
                        frames,
                        digest,
                    };
                    self.record.applied.push(applied);
                }
                let digest = digest.then(|| process.replica().digest());
                Event::Applied { step, digest }
            }
            Some(Order::Deliver) => Event::Delivered,
            None => return,
        };
        self.begin(node, lane);
        self.tell(node, event, None);
    }

    /// Sends frames to the other members. Some arrive twice, and strangers send some too.
    fn broadcast(&mut self, node: NodeId, frames: &[Frame]) {
        let view = self
            .processes
            .get(&node)
            .and_then(|process| process.machine.view());
        let members = view.map_or_else(Vec::new, |(view, _)| view.members.clone());
        for peer in members.into_iter().map(|member| member.node) {
            if peer == node {
                continue;
            }
            for frame in frames {
                self.transmit(node, peer, Input::Frame(*frame));
                if self.random.one_in(16) {
                    self.later(peer, &STRAY, Input::Frame(*frame));
                }
                if self.random.one_in(32) {
                    let stranger = self.stranger(*frame);
                    self.later(peer, &STRAY, Input::Frame(stranger));
                }
            }
        }
    }

    /// A frame like `frame` of somebody who is no member of the view.
    fn stranger(&mut self, frame: Frame) -> Frame {
        let FrameKey { view, rank, .. } = frame.key;
        let (view, rank) = match self.random.within(&(0..=2)) {
            0 => (view - 1, rank),
            1 => (view + 1, rank),
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
