//! Connections: in order, as TCP is, until they break.

use std::collections::BTreeMap;

use crate::id::{Millis, NodeId};

#[derive(Clone, Debug, Default)]
struct Wire {
    open: bool,
    /// When the last message sent arrives.
    last: Millis,
    /// Messages of earlier generations were lost on the way.
    generation: u64,
}

/// A message's place on a wire.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    generation: u64,
}

/// All connections, one direction each, by their ends.
#[derive(Clone, Debug, Default)]
pub(super) struct Wires(BTreeMap<(NodeId, NodeId), Wire>);

impl Wires {
    pub(super) fn open(&mut self, from: NodeId, to: NodeId) {
        self.0.entry((from, to)).or_default().open = true;
    }

    pub(super) fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        self.0.get(&(from, to)).is_some_and(|wire| wire.open)
    }

    /// When a message that could arrive at `time` does, behind all that were sent before it.
    pub(super) fn send(
        &mut self,
        from: NodeId,
        to: NodeId,
        time: Millis,
    ) -> Option<(Millis, Ticket)> {
        let wire = self.0.get_mut(&(from, to)).filter(|wire| wire.open)?;
        wire.last = wire.last.max(time);
        let generation = wire.generation;
        let ticket = Ticket {
            from,
            to,
            generation,
        };
        Some((wire.last, ticket))
    }

    /// Whether a message was not lost on the way.
    pub(super) fn delivers(&self, ticket: Ticket) -> bool {
        let wire = self.0.get(&(ticket.from, ticket.to));
        wire.is_some_and(|wire| wire.generation == ticket.generation)
    }

    /// Takes no more messages; what is on its way arrives.
    pub(super) fn close(&mut self, from: NodeId, to: NodeId) {
        if let Some(wire) = self.0.get_mut(&(from, to)) {
            wire.open = false;
        }
    }

    /// Loses what is on its way.
    pub(super) fn lose(&mut self, from: NodeId, to: NodeId) {
        if let Some(wire) = self.0.get_mut(&(from, to)) {
            wire.generation += 1;
        }
    }

    /// The ends of all open connections.
    pub(super) fn all(&self) -> Vec<(NodeId, NodeId)> {
        let open = self.0.iter().filter(|(_, wire)| wire.open);
        open.map(|(ends, _)| *ends).collect()
    }

    /// The ends of all open connections from or to `site`.
    pub(super) fn of(&self, site: NodeId) -> Vec<(NodeId, NodeId)> {
        let open = self.0.iter().filter(|(_, wire)| wire.open);
        let ends = open.map(|(ends, _)| *ends);
        ends.filter(|(from, to)| *from == site || *to == site)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_keep_their_order_and_are_lost_with_the_connection() {
        let mut wires = Wires::default();
        assert!(wires.send(1, 2, 5).is_none(), "not open");
        wires.open(1, 2);
        let (first, ticket) = wires.send(1, 2, 50).expect("it is open");
        let (second, _) = wires.send(1, 2, 20).expect("it is open");
        assert_eq!((first, second), (50, 50));
        assert!(wires.delivers(ticket));
        wires.lose(1, 2);
        assert!(!wires.delivers(ticket));
        wires.close(1, 2);
        assert!(!wires.is_open(1, 2) && wires.of(1).is_empty());
    }
}
