//! Connections that break, and who hears of it.

use crate::coordinator;
use crate::id::NodeId;
use crate::message::Failure;
use crate::node;

use super::fault::Fault;
use super::record::Departure;
use super::timing::DELAY;
use super::world::{COORDINATOR, Input, World};

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

    pub(super) fn strike(&mut self, fault: Fault) {
        self.show(&fault);
        match fault {
            Fault::Crash { victim, silent } => {
                if let Some(node) = self.pick(victim) {
                    let departure = if silent {
                        Departure::Vanished
                    } else {
                        Departure::Crashed
                    };
                    self.end(node, departure);
                    self.restart(node);
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
                    self.record.struck.extend([*from, *to]);
                    self.hang_up(*from, *to, lose);
                }
            }
            Fault::Leave { victim } => {
                if let Some(node) = self.pick(victim) {
                    let failure = Failure::Stopped("told to stop".to_owned());
                    self.later(node, &(0..=0), Input::Node(node::Event::Failed(failure)));
                }
            }
            Fault::Stop => {
                self.record.stopped = true;
                let stop = coordinator::Event::Stop("told to stop".to_owned());
                self.later(COORDINATOR, &(0..=0), Input::Coordinator(stop));
            }
            Fault::CrashCoordinator { back } => {
                if self.record.coordinator.ended.is_none() {
                    self.crash_coordinator(back);
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
