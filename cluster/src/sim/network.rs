//! Connections that break, and who hears of it.

use crate::coordinator;
use crate::id::{Millis, NodeId};
use crate::message::Failure;
use crate::node;

use super::fault::Fault;
use super::partition::Partition;
use super::record::Departure;
use super::timing::{DELAY, PATIENCE};
use super::world::{COORDINATOR, Happening, Input, World};

impl World {
    /// Ends the connection `from` → `to`, and for a session the way back. Both ends hear of it;
    /// at the receiving end that comes behind what was sent before, if that is not lost.
    pub(super) fn hang_up(&mut self, from: NodeId, to: NodeId, lose: bool) {
        let session = from == COORDINATOR || to == COORDINATOR;
        for (from, to) in [(from, to), (to, from)] {
            if !self.wires.is_open(from, to) {
                continue;
            }
            if lose {
                self.wires.lose(from, to);
            }
            let notice = self.notice(to, from, from);
            self.transmit(from, to, notice);
            self.wires.close(from, to);
            if !session {
                let notice = self.notice(from, to, from);
                return self.later(from, &DELAY, notice);
            }
        }
    }

    /// What `site` hears when the connection with `other`, opened by `opener`, breaks.
    pub(super) fn notice(&self, site: NodeId, other: NodeId, opener: NodeId) -> Input {
        let reason = "the connection broke".to_owned();
        if site == COORDINATOR {
            return Input::Coordinator(coordinator::Event::Disconnected(other));
        }
        if other == COORDINATOR {
            return Input::Node(node::Event::CoordinatorLost(reason));
        }
        let opener = self.processes.get(&opener);
        let view = opener.and_then(|opener| opener.machine.view());
        // Invariant: streams are opened by members of the view that they are in.
        let (view, rank) = view.map_or((0, u32::MAX), |(view, _)| {
            (view.number, view.rank_of(other).unwrap_or(u32::MAX))
        });
        Input::Node(node::Event::PeerLost { view, rank, reason })
    }

    /// The time from which on messages get through.
    pub(super) fn passable(&self, from: NodeId, to: NodeId) -> Millis {
        let now = self.record.now;
        let holds = self.partitions.iter().filter(|it| it.holds(from, to));
        holds.map(|it| it.until).fold(now, Millis::max)
    }

    /// Whether a connection can be opened: messages get through both ways.
    pub(super) fn reachable(&self, one: NodeId, other: NodeId) -> bool {
        let now = self.record.now;
        self.passable(one, other) == now && self.passable(other, one) == now
    }

    /// Lets both ends give up their connections across a partition that lasts.
    pub(super) fn sever(&mut self, partition: &Partition) {
        for (from, to) in self.wires.all() {
            if !partition.parts(from, to) {
                continue;
            }
            self.wires.lose(from, to);
            self.wires.close(from, to);
            // Of the two wires of a session, each brings the news to its end.
            let session = from == COORDINATOR || to == COORDINATOR;
            for (site, other) in [(from, to), (to, from)] {
                if site == to || !session {
                    let notice = self.notice(site, other, from);
                    self.later(site, &DELAY, notice);
                }
            }
        }
    }

    /// Breaks a stream.
    pub(super) fn cut(&mut self, from: NodeId, to: NodeId, lose: bool) {
        self.record.struck.extend([from, to]);
        self.hang_up(from, to, lose);
    }

    fn part(&mut self, mut partition: Partition) {
        let now = self.record.now;
        partition.until = now + partition.lasts;
        let nodes = 1..=self.record.nodes.len() as NodeId;
        self.record.struck.extend(nodes);
        self.record.disturb(partition.until);
        self.record.apart = self.record.apart.max(partition.until);
        if let Some(time) = partition.noticed.filter(|time| *time < partition.lasts) {
            self.queue
                .plan(now + time, Happening::Sever(partition.clone()));
        }
        self.partitions.push(partition);
    }

    pub(super) fn strike(&mut self, fault: Fault) {
        self.show(&fault);
        self.record.disturb(self.record.now);
        match fault {
            Fault::Crash { victim, silent } => {
                if let Some(node) = self.pick(victim) {
                    let departure = if silent {
                        Departure::Vanished
                    } else {
                        Departure::Crashed
                    };
                    self.end(node, departure);
                    self.restart(node, None);
                }
            }
            Fault::Freeze { victim, time } => {
                if let Some(node) = self.pick(victim) {
                    self.freeze(node, time);
                }
            }
            Fault::FreezeCoordinator { time } => self.freeze(COORDINATOR, time),
            Fault::CutSession { victim } => {
                if let Some(node) = self.pick(victim) {
                    self.hang_up(node, COORDINATOR, true);
                }
            }
            Fault::CutStream { victim, lose } => {
                let Some(node) = self.pick(victim) else {
                    return;
                };
                let mut wires = self.wires.of(node);
                wires.retain(|(from, to)| *from != COORDINATOR && *to != COORDINATOR);
                if let Some((from, to)) = wires.get(victim as usize % wires.len().max(1)) {
                    self.cut(*from, *to, lose);
                }
            }
            Fault::Leave { victim } => {
                if let Some(node) = self.pick(victim) {
                    // At once, or in order, with a bound on how long that may take.
                    let failure = Failure::Stopped("told to stop".to_owned());
                    let in_order = Input::Node(node::Event::Stop(failure.clone()));
                    let at_once = Input::Node(node::Event::Failed(failure));
                    let time = if self.random.one_in(4) { 0 } else { PATIENCE };
                    self.later(node, &(0..=0), in_order);
                    self.later(node, &(time..=time), at_once);
                }
            }
            Fault::Partition(partition) => self.part(partition),
            Fault::ClockJump { victim, ahead } => {
                let site = victim as usize % self.sites.len();
                self.sites[site].clock.jump(ahead);
                if site == COORDINATOR as usize {
                    // It takes that for its own absence, and gives everybody time.
                    self.record.coordinator.awake = self.record.now;
                }
            }
            Fault::Stop => {
                self.record.stopped = true;
                let stop = coordinator::Event::Stop("told to stop".to_owned());
                self.later(COORDINATOR, &(0..=0), Input::Coordinator(stop));
            }
            Fault::CrashCoordinator { back, stored } => {
                if self.record.coordinator.ended.is_none() {
                    self.crash_coordinator(back, stored);
                }
            }
        }
    }

    /// A node that is alive, if there is one.
    fn pick(&mut self, victim: u64) -> Option<NodeId> {
        let lives = (1..).zip(&self.record.nodes);
        let living = lives.filter(|(_, life)| life.ended.is_none());
        let nodes: Vec<NodeId> = living.map(|(node, _)| node).collect();
        let node = nodes.get((victim % nodes.len().max(1) as u64) as usize);
        self.record.struck.extend(node);
        node.copied()
    }
}
