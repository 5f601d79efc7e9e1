//! Time, place and chance: everything that the machines do not know.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::rc::Rc;

use crate::coordinator::{self, Coordinator, Outcome};
use crate::id::{Millis, NodeId, Step, ViewNumber};
use crate::node::{self, Node};
use crate::view::View;

use super::bug::Bug;
use super::clock::Clock;
use super::fault::Fault;
use super::invariants;
use super::partition::Partition;
use super::process::{Process, Wanted};
use super::queue::Queue;
use super::random::{Chance, SplitMix64};
use super::record::{Departure, Life, Record};
use super::replica::{Frame, Replica};
use super::scenario::{Launch, Scenario};
use super::timing::{DELAY, HEARTBEAT, RESTART};
use super::wires::{Ticket, Wires};
use super::{Ended, Options, Report};

/// The site of the coordinator; a node's site is its [`NodeId`], from 1.
pub(super) const COORDINATOR: NodeId = 0;

/// What reaches a process from outside its state machine.
#[derive(Clone, Debug)]
pub(super) enum Input {
    Coordinator(coordinator::Event),
    Node(node::Event),
    Frame(Frame),
    /// Somebody asks for a snapshot.
    Wanted(Wanted),
    /// The snapshot that was asked for.
    Snapshot(ViewNumber, Step, Replica),
    /// The trainer has carried out the first order of a lane.
    Done(usize),
}

/// An entry in the queue.
#[derive(Clone, Debug)]
pub(super) enum Happening {
    Start(Launch),
    Arrive {
        to: NodeId,
        /// How it came, if it came over a wire.
        ticket: Option<Ticket>,
        input: Input,
    },
    Thaw(NodeId),
    /// The coordinator's process is started again.
    Resume,
    /// A node without a session tries to open one, for the last time at `until`.
    Reconnect {
        node: NodeId,
        until: Millis,
    },
    Strike(Fault),
    /// The connections across a partition are given up.
    Sever(Partition),
}

/// What belongs to a process whatever it runs.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) clock: Clock,
    /// When it wakes up by itself.
    pub(super) wake: Option<Millis>,
    /// What has arrived since it was frozen.
    pub(super) backlog: Vec<Input>,
}

impl Site {
    fn new(clock: Clock) -> Self {
        Self {
            clock,
            wake: None,
            backlog: Vec::new(),
        }
    }
}

/// A cluster, its network and whoever disturbs it.
///
/// This file moves time on; `network`, `coordinator_shell` and `node_shell` say what happens then.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) scenario: Rc<Scenario>,
    pub(super) options: Options,
    pub(super) random: Chance,
    pub(super) queue: Queue<Happening>,
    pub(super) wires: Wires,
    /// That have struck, also those that are healed.
    pub(super) partitions: Vec<Partition>,
    pub(super) sites: Vec<Site>,
    pub(super) coordinator: Coordinator,
    /// How many times processes may still be started again, if that is bounded.
    pub(super) restarts: Option<u64>,
    /// Whether its process is about to be started again.
    pub(super) resumes: bool,
    /// Views that are being stored.
    pub(super) storing: Vec<View>,
    pub(super) processes: BTreeMap<NodeId, Process>,
    pub(super) record: Record,
    /// What happened since somebody looked, if anybody does.
    pub(super) shown: Option<Vec<(Millis, String)>>,
    pub(super) events: u64,
    pub(super) kept: u64,
    pub(super) dropped: u64,
}

impl World {
    pub(super) fn new(seed: u64, options: Options) -> Self {
        let mut random = SplitMix64::new(seed);
        let scenario = Scenario::draw(&mut random, options.faults);
        let clock = Clock::draw(&mut random);
        Self::of(scenario, options, clock, Chance::Random(random))
    }

    pub(super) fn of(scenario: Scenario, options: Options, clock: Clock, random: Chance) -> Self {
        let mut queue = Queue::new();
        for (time, launch) in scenario.launches.clone() {
            queue.plan(time, Happening::Start(launch));
        }
        for (time, fault) in scenario.faults.clone() {
            queue.plan(time, Happening::Strike(fault));
        }
        let version = super::scenario::VERSION.to_owned();
        let coordinator = Coordinator::new(&scenario.config, String::new(), version);
        Self {
            record: Record::new(&scenario),
            sites: vec![Site::new(clock)],
            wires: Wires::default(),
            partitions: Vec::new(),
            storing: Vec::new(),
            processes: BTreeMap::new(),
            events: 0,
            kept: 0,
            dropped: 0,
            scenario: Rc::new(scenario),
            options,
            random,
            queue,
            coordinator,
            restarts: None,
            resumes: false,
            shown: None,
        }
    }

    /// Lets the next thing happen; says whether there was one.
    pub(super) fn proceed(&mut self) -> bool {
        let Some((now, happening)) = self.queue.pop() else {
            return false;
        };
        self.record.now = now;
        self.happen(happening);
        true
    }

    /// Lets this happen now.
    pub(super) fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Start(launch) => self.start(launch),
            Happening::Arrive { to, ticket, input } => {
                if ticket.is_none_or(|ticket| self.wires.delivers(ticket)) {
                    self.arrive(to, input);
                }
            }
            Happening::Thaw(site) => self.thaw(site),
            Happening::Resume => self.resume_coordinator(),
            Happening::Reconnect { node, until } => self.reconnect(node, until),
            Happening::Strike(fault) => self.strike(fault),
            Happening::Sever(partition) => self.sever(&partition),
        }
    }

    /// Checks the invariants after something has happened.
    pub(super) fn judge(&mut self) -> Result<(), (&'static str, String)> {
        self.record.over = self.over();
        let idle = self.coordinator.view().is_none() && self.storing.is_empty();
        if self.record.resumed && idle {
            self.record.expectant = self.record.now;
        }
        invariants::check(&self.record)?;
        self.record.settle();
        Ok(())
    }

    /// What there is to say in the end.
    pub(super) fn report(&self) -> Report {
        let ended = match self.record.outcome {
            Some((_, Outcome::Completed { .. })) => Ended::Completed,
            Some((_, Outcome::Failed(_))) => Ended::Failed,
            None => Ended::Orphaned,
        };
        Report {
            ended,
            events: self.events,
            elapsed: self.record.now,
            kept: self.kept,
            dropped: self.dropped,
            taken_back: self.record.ledger.taken_back(),
        }
    }

    /// Whether the run has ended and all processes are gone.
    pub(super) fn over(&self) -> bool {
        !self.accepting() && self.record.nodes.iter().all(|life| life.ended.is_some())
    }

    /// Whether the coordinator still takes nodes.
    pub(super) fn accepting(&self) -> bool {
        self.record.outcome.is_none() && self.record.coordinator.ended.is_none()
    }

    pub(super) fn show(&mut self, what: &dyn fmt::Debug) {
        if let Some(shown) = &mut self.shown {
            shown.push((self.record.now, format!("{what:?}")));
        }
    }

    /// What the clock at a site shows.
    pub(super) fn local(&self, site: NodeId) -> Millis {
        self.sites[site as usize].clock.shows(self.record.now)
    }

    pub(super) fn planted(&self, bug: Bug) -> bool {
        self.options.planted.is(bug)
    }

    pub(super) fn draw(&mut self, range: &RangeInclusive<Millis>) -> Millis {
        self.random.within(range)
    }

    /// Lets `input` arrive at a site after some time, whatever connections do.
    pub(super) fn later(&mut self, to: NodeId, range: &RangeInclusive<Millis>, input: Input) {
        let time = self.record.now + self.draw(range);
        let ticket = None;
        self.queue
            .plan(time, Happening::Arrive { to, ticket, input });
    }

    /// Sends `input` over a connection of its own.
    pub(super) fn post(
        &mut self,
        (from, to): (NodeId, NodeId),
        range: &RangeInclusive<Millis>,
        input: Input,
    ) {
        let time = self.passable(from, to) + self.draw(range);
        let ticket = None;
        self.queue
            .plan(time, Happening::Arrive { to, ticket, input });
    }

    /// Sends `input` over the wire between two sites, if it is open.
    pub(super) fn transmit(&mut self, from: NodeId, to: NodeId, input: Input) {
        let time = self.passable(from, to) + self.draw(&DELAY);
        self.dispatch(from, to, time, input);
    }

    /// Lets `input` arrive over the wire at `time`, or behind what was sent before it.
    pub(super) fn dispatch(&mut self, from: NodeId, to: NodeId, time: Millis, input: Input) {
        if let Some((time, ticket)) = self.wires.send(from, to, time) {
            let ticket = Some(ticket);
            self.queue
                .plan(time, Happening::Arrive { to, ticket, input });
        }
    }

    fn start(&mut self, launch: Launch) {
        if !self.accepting() && self.resumes && self.record.outcome.is_none() {
            // Nobody answers: the operator tries again.
            let time = self.record.now + self.draw(&RESTART);
            return self.queue.plan(time, Happening::Start(launch));
        }
        if !self.accepting() {
            return; // Nobody answers, and the operator knows why.
        }
        let node = self.sites.len() as NodeId;
        if !self.reachable(node, COORDINATOR) {
            let time = self.record.now + self.draw(&RESTART);
            return self.queue.plan(time, Happening::Start(launch));
        }
        self.sites.push(Site::new(launch.clock.clone()));
        self.record.nodes.push(Life::new(
            self.record.now,
            launch.trains(&self.scenario.config),
        ));
        self.wires.open(node, COORDINATOR);
        self.wires.open(COORDINATOR, node);
        let hello = launch.hello(node);
        let mut commands = Vec::new();
        let machine = Node::new(self.local(node), hello, HEARTBEAT, &mut commands);
        let quorum = self.record.quorum;
        self.processes
            .insert(node, Process::new(launch, machine, quorum));
        self.carry_out(node, commands, None);
        self.wake_node(node);
    }

    fn arrive(&mut self, to: NodeId, input: Input) {
        let Some(life) = self.record.life(to).filter(|life| life.ended.is_none()) else {
            return;
        };
        if life.frozen.is_some() {
            self.sites[to as usize].backlog.push(input);
            return;
        }
        self.events += 1;
        self.show(&(to, &input));
        match input {
            Input::Coordinator(event) => self.coordinator_event(event),
            input => self.node_input(to, input),
        }
    }

    pub(super) fn freeze(&mut self, site: NodeId, time: Millis) {
        let now = self.record.now;
        if let Some(life) = self.record.life_mut(site)
            && life.silent().is_none()
        {
            life.frozen = Some(now);
            self.queue.plan(now + time, Happening::Thaw(site));
            self.record.disturb(now + time);
        }
    }

    fn thaw(&mut self, site: NodeId) {
        let now = self.record.now;
        if let Some(life) = self.record.life_mut(site) {
            (life.frozen, life.awake) = (None, now);
        }
        for input in std::mem::take(&mut self.sites[site as usize].backlog) {
            self.arrive(site, input);
        }
    }

    /// Ends a process. What it has sent arrives if it exited; otherwise chance decides.
    pub(super) fn end(&mut self, site: NodeId, departure: Departure) {
        let orderly = matches!(departure, Departure::Exited(_));
        let heard = departure != Departure::Vanished;
        self.record.end(site, departure);
        for (from, to) in self.wires.of(site) {
            let lose = !orderly && !self.random.one_in(2);
            if heard {
                self.hang_up(from, to, lose);
                continue;
            }
            if lose {
                self.wires.lose(from, to);
            }
            self.wires.close(from, to);
        }
    }

    /// Plans a machine's next tick, unless one is due before it is wanted.
    pub(super) fn wake(&mut self, site: NodeId, deadline: Option<Millis>, tick: Input) {
        let now = self.record.now;
        let place = &mut self.sites[site as usize];
        let Some(deadline) = deadline else {
            return;
        };
        let time = place.clock.when(deadline).max(now + 1);
        if place.wake.is_none_or(|wake| wake <= now || wake > time) {
            place.wake = Some(time);
            let (to, ticket) = (site, None);
            self.queue.plan(
                time,
                Happening::Arrive {
                    to,
                    ticket,
                    input: tick,
                },
            );
        }
    }
}
