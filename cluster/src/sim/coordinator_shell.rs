//! The simulated shell around the coordinator's machine.

use crate::coordinator::{Command, Event};
use crate::message::ToCoordinator;
use crate::node;

use super::bug::Bug;
use super::timing::PERSIST;
use super::world::{COORDINATOR, Input, World};

impl World<'_> {
    pub(super) fn coordinator_event(&mut self, event: Event) {
        if let Event::Persisted(number) = event
            && let Some(i) = self.storing.iter().position(|view| view.number == number)
        {
            let view = self.storing.remove(i);
            self.record.durable.push((self.record.now, view));
        }
        if let (Event::Message { from, message }, Some(_)) = (&event, &self.record.outcome)
            && matches!(message, ToCoordinator::Hello(_))
        {
            return self.hang_up(COORDINATOR, *from, false); // It comes too late.
        }
        self.tell_coordinator(event);
        let deadline = self.coordinator.deadline();
        self.wake(COORDINATOR, deadline, Input::Coordinator(Event::Tick));
    }

    fn tell_coordinator(&mut self, event: Event) {
        let now = self.local(COORDINATOR);
        let mut commands = Vec::new();
        self.coordinator.handle(now, event, &mut commands);
        for command in commands {
            match command {
                Command::Send { to, message } => {
                    self.transmit(COORDINATOR, to, Input::Node(node::Event::Message(message)));
                }
                Command::Persist(view) => {
                    let persisted = Event::Persisted(view.number);
                    self.storing.push(view);
                    let stored = Input::Coordinator(persisted.clone());
                    self.later(COORDINATOR, &PERSIST, stored);
                    if self.options.bug == Some(Bug::ActBeforeDurable) {
                        self.tell_coordinator(persisted);
                    }
                }
                Command::Explain(reason) => self.show(&(COORDINATOR, reason)),
                Command::Conclude(outcome) => {
                    self.show(&(COORDINATOR, &outcome));
                    self.record.outcome = Some((self.record.now, outcome));
                }
            }
        }
    }
}
