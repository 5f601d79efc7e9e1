//! What can happen next in a small world.

use std::collections::BTreeSet;

use crate::id::NodeId;
use crate::sim::fault::Fault;
use crate::sim::queue::Place;
use crate::sim::world::{COORDINATOR, Happening, Input, World};
use crate::{coordinator, node};

use super::print;
use super::small::Harm;

/// A small world, and how many faults may still strike it.
#[derive(Clone)]
pub(super) struct State {
    pub(super) world: World,
    pub(super) faults: u64,
    pub(super) harms: &'static [Harm],
    /// For its fingerprint.
    pub(super) known: print::Known,
}

/// One of the things that can happen next.
#[derive(Clone, Debug)]
pub(super) enum Move {
    /// This, which is planned.
    Happen(Place),
    /// Nothing but time passes until this.
    Pass(Place),
    Strike(Fault),
    /// A stream breaks.
    Cut(NodeId, NodeId),
}

impl State {
    /// All that can happen next, in an order that is always the same.
    pub(super) fn moves(&self) -> Vec<Move> {
        if self.world.record.over {
            return Vec::new();
        }
        let (mut moves, mut first) = (Vec::new(), None);
        let mut wires = BTreeSet::new();
        for (place, planned) in self.world.queue.iter() {
            if waits(planned) {
                first = first.or(Some(Move::Pass(place)));
                continue;
            }
            // What was sent over a wire arrives in order.
            let next = match planned {
                Happening::Arrive {
                    ticket: Some(ticket),
                    ..
                } => wires.insert((ticket.from, ticket.to)),
                _ => true,
            };
            if next {
                moves.push(Move::Happen(place));
            }
        }
        if moves.is_empty() {
            moves.extend(first);
        }
        if self.faults > 0 {
            self.harms.iter().for_each(|it| self.harm(*it, &mut moves));
        }
        moves
    }

    fn harm(&self, harm: Harm, moves: &mut Vec<Move>) {
        let record = &self.world.record;
        let living = record.nodes.iter().filter(|life| life.ended.is_none());
        let victims = 0..living.count() as u64;
        let strike = |fault: fn(u64) -> Fault| victims.clone().map(fault).map(Move::Strike);
        match harm {
            Harm::Crash => moves.extend(strike(|victim| Fault::Crash {
                victim,
                silent: false,
            })),
            Harm::CrashLast => {
                let last = victims.end.checked_sub(1);
                moves.extend(last.map(|victim| {
                    Move::Strike(Fault::Crash {
                        victim,
                        silent: false,
                    })
                }));
            }
            Harm::Vanish => moves.extend(strike(|victim| Fault::Crash {
                victim,
                silent: true,
            })),
            Harm::Leave => moves.extend(strike(|victim| Fault::Leave { victim })),
            Harm::CutSession => moves.extend(strike(|victim| Fault::CutSession { victim })),
            Harm::CutStream => {
                let wires = self.world.wires.all().into_iter();
                let streams = wires.filter(|(from, to)| *from.min(to) != COORDINATOR);
                moves.extend(streams.map(|(from, to)| Move::Cut(from, to)));
            }
            Harm::CrashCoordinator if record.coordinator.ended.is_none() => {
                let back = Some(0);
                let crash = |stored| Fault::CrashCoordinator { back, stored };
                let kept = (!self.world.storing.is_empty()).then_some(true);
                let ways = [false].into_iter().chain(kept);
                moves.extend(ways.map(crash).map(Move::Strike));
            }
            Harm::CrashCoordinator => {}
        }
    }

    /// The site at which a move is made, if it concerns no other.
    pub(super) fn site(&self, choice: &Move) -> Option<NodeId> {
        let (Move::Happen(place) | Move::Pass(place)) = choice else {
            return None;
        };
        match self.world.queue.get(*place)? {
            Happening::Arrive { to, .. } => Some(*to),
            _ => None,
        }
    }

    /// Makes a move.
    pub(super) fn make(&mut self, choice: &Move) {
        let world = &mut self.world;
        match choice {
            Move::Happen(place) => {
                if let Some(planned) = world.queue.take(*place) {
                    world.happen(planned);
                }
            }
            Move::Pass(place) => {
                world.record.now = world.record.now.max(place.0);
                if let Some(planned) = world.queue.take(*place) {
                    world.happen(planned);
                }
            }
            Move::Strike(fault) => {
                self.faults -= 1;
                world.strike(fault.clone());
            }
            Move::Cut(from, to) => {
                self.faults -= 1;
                world.cut(*from, *to, true);
            }
        }
        self.forget_what_is_lost();
    }

    /// What nobody will hear is no choice.
    fn forget_what_is_lost(&mut self) {
        let World {
            queue,
            wires,
            record,
            ..
        } = &mut self.world;
        queue.retain(|planned| match planned {
            Happening::Arrive { to, ticket, .. } => {
                let life = record.life(*to);
                let lives = life.is_some_and(|life| life.ended.is_none());
                lives && ticket.is_none_or(|ticket| wires.delivers(ticket))
            }
            _ => true,
        });
    }
}

/// Whether it only happens when nothing else can.
pub(super) fn waits(planned: &Happening) -> bool {
    match planned {
        Happening::Reconnect { .. } => true,
        Happening::Arrive { input, .. } => matches!(
            input,
            Input::Coordinator(coordinator::Event::Tick) | Input::Node(node::Event::Tick)
        ),
        _ => false,
    }
}
