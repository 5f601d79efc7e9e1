//! The simulated shell around the coordinator's machine.

use crate::coordinator::{Command, Coordinator, Event};
use crate::id::Millis;
use crate::message::{ToCoordinator, ToNode};
use crate::node;

use super::bug::Bug;
use super::record::{Departure, Life};
use super::timing::PERSIST;
use super::world::{COORDINATOR, Happening, Input, World};

impl World {
    pub(super) fn coordinator_event(&mut self, event: Event) {
        if let Event::Persisted(number) = event
            && let Some(i) = self.storing.iter().position(|view| view.number == number)
        {
            let view = self.storing.remove(i);
            self.record.store(view);
        }
        if let (Event::Message { from, message }, Some(_)) = (&event, &self.record.outcome)
            && matches!(
                message,
                ToCoordinator::Hello(_) | ToCoordinator::Return { .. }
            )
        {
            return self.hang_up(COORDINATOR, *from, false); // It comes too late.
        }
        if self.planted(Bug::NeverAdmit) && self.admits(&event) {
            return;
        }
        self.tell_coordinator(event);
        let deadline = self.coordinator.deadline();
        self.wake(COORDINATOR, deadline, Input::Coordinator(Event::Tick));
    }

    /// Whether a node has caught up that the view can go on without.
    fn admits(&self, event: &Event) -> bool {
        let ToCoordinator::CaughtUp { view } = (match event {
            Event::Message { message, .. } => message,
            _ => return false,
        }) else {
            return false;
        };
        let view = self.record.view(*view);
        view.is_some_and(|view| view.size() >= self.scenario.config.min_nodes)
    }

    /// Ends the coordinator's process. What it was storing may be stored or not.
    pub(super) fn crash_coordinator(&mut self, back: Option<Millis>, stored: bool) {
        // Whoever has not heard that it is a member has nothing to go on with, once the run has begun.
        let processes = self.processes.iter();
        let idle = processes.filter(|(_, process)| {
            let view = process.machine.view();
            view.is_none_or(|(_, rank)| rank.is_none())
        });
        self.record.unannounced.extend(idle.map(|(node, _)| *node));
        self.end(COORDINATOR, Departure::Crashed);
        self.sites[COORDINATOR as usize].backlog.clear();
        self.record.changing = None;
        for view in std::mem::take(&mut self.storing) {
            if stored {
                self.record.store(view);
            } else {
                let of_view = |(number, _): &_| *number == view.number;
                self.record.legacies.retain(|legacy| !of_view(legacy));
            }
        }
        // What it would have heard from itself is gone with it.
        self.queue.retain(|planned| {
            !matches!(
                planned,
                Happening::Arrive {
                    to: COORDINATOR,
                    ticket: None,
                    ..
                }
            )
        });
        self.sites[COORDINATOR as usize].wake = None;
        if let Some(time) = back.filter(|_| self.record.outcome.is_none()) {
            self.queue.plan(self.record.now + time, Happening::Resume);
            self.resumes = true;
        }
    }

    /// Starts it again, with nothing but what is stored.
    pub(super) fn resume_coordinator(&mut self) {
        self.record.coordinator = Life::new(self.record.now, false);
        self.record.disturb(self.record.now);
        self.record.resumed = true;
        self.resumes = false;
        let stored = &self.record.durable;
        let forgotten = usize::from(self.planted(Bug::ForgetView));
        let known = &stored[..stored.len().saturating_sub(forgotten)];
        let views = known.iter().map(|(_, view)| view.clone());
        let version = super::scenario::VERSION.to_owned();
        let standard = Some(super::node_shell::FINGERPRINT);
        // What members have measured is stored some time later.
        let applied = self.record.applied.iter().map(|applied| applied.step + 1);
        let made = applied.max().filter(|_| !self.random.one_in(2));
        self.coordinator = Coordinator::resume(
            &self.scenario.config,
            String::new(),
            version,
            views,
            made.unwrap_or(0),
            standard,
        );
        self.coordinator_event(Event::Tick);
    }

    fn tell_coordinator(&mut self, event: Event) {
        let now = self.local(COORDINATOR);
        let (mut commands, mut legacies) = (Vec::new(), Vec::new());
        self.coordinator.handle(now, event, &mut commands);
        for command in commands {
            match command {
                Command::Send { to, message } => {
                    match message {
                        ToNode::Freeze { .. } => {
                            self.record.changing.get_or_insert(self.record.now);
                        }
                        ToNode::Install(_) => self.record.changing = None,
                        _ => {}
                    }
                    self.transmit(COORDINATOR, to, Input::Node(node::Event::Message(message)));
                }
                Command::Bequeath(legacy) => legacies.push(legacy),
                Command::Persist(view) => {
                    let with_view = legacies.drain(..).map(|legacy| (view.number, legacy));
                    self.record.legacies.extend(with_view);
                    let persisted = Event::Persisted(view.number);
                    self.storing.push(view);
                    let stored = Input::Coordinator(persisted.clone());
                    self.later(COORDINATOR, &PERSIST, stored);
                    if self.planted(Bug::ActBeforeDurable) {
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
