//! A member whose session broke trains on, and takes its place again when the coordinator is back.

use super::{Command, Ending, Node, Phase};
use crate::message::ToCoordinator;

impl Node {
    /// Whoever is no member has nothing to go on with, and comes again as a new node.
    pub(super) fn lose_coordinator(&mut self, reason: String, out: &mut Vec<Command>) {
        match &self.phase {
            Phase::Linking(_) | Phase::Training(_) | Phase::Finishing(_) => {
                self.away = true;
                out.push(Command::Reconnect);
            }
            _ => self.exit(Err(Ending::CoordinatorLost(reason)), out),
        }
    }

    /// Says where it stands, and again what a coordinator that has been away cannot know.
    pub(super) fn come_back(&mut self, out: &mut Vec<Command>) {
        let (node, steps) = (self.id, self.steps);
        let Some(place) = self.place_mut() else {
            return; // Invariant: only members reconnect.
        };
        let view = place.announced();
        let frozen = place.frozen;
        out.push(Command::Send(ToCoordinator::Return { node, view, frozen }));
        if place.view.number == view && place.round.step() < steps {
            for (rank, reason) in place.lost.clone() {
                out.push(Command::Send(ToCoordinator::PeerLost {
                    view,
                    rank,
                    reason,
                }));
            }
        }
        self.away = false;
        self.say_departure(out);
        if self.final_digest.is_some() {
            self.complete(out);
        }
    }
}
