//! A member that is told to leave makes its next contribution its last, and sends all that it has.
//!
//! Once that is applied it says so, and stands still: the others cannot go on without it (or for some steps
//! only, with a quorum), so that the next view begins soon after that step. It stays until that view is there,
//! for it may be the only one who has applied the step. If the step turns out to be void, or is made without
//! this member, another contribution is the last one.

use super::{Command, Ending, Node, Phase};
use crate::id::Step;
use crate::message::{Failure, Installation, ToCoordinator};

/// On the way out.
#[derive(Clone, Debug)]
pub(super) struct Leaving {
    failure: Failure,
    /// The step of the last contribution, once it has been asked for.
    flushed: Option<Step>,
    /// Whether that step is applied, and the coordinator told.
    said: bool,
}

impl Node {
    /// Begins to leave, if there is anybody whom a last contribution could reach; otherwise leaves.
    pub(super) fn stop(&mut self, failure: Failure, out: &mut Vec<Command>) {
        let contributes = match &self.phase {
            Phase::Linking(place) | Phase::Training(place) => {
                place.view.size() > 1 && !place.hold && !self.away
            }
            _ => false,
        };
        if !contributes || self.leaving.is_some() {
            return self.fail(failure, out);
        }
        self.leaving = Some(Leaving {
            failure,
            flushed: None,
            said: false,
        });
    }

    /// Whether all that this node has computed is in the others' replicas.
    pub fn has_flushed(&self) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| leaving.said)
    }

    /// How to contribute to `step`, if at all. Nobody would learn of a last contribution that is made while
    /// the coordinator is away.
    pub(super) fn contribution(&mut self, step: Step) -> Option<Command> {
        let away = self.away;
        let Some(leaving) = self
            .leaving
            .as_mut()
            .filter(|leaving| leaving.flushed.is_some() || !away)
        else {
            return Some(Command::Compute(step));
        };
        if leaving.flushed.is_some_and(|flushed| flushed < step) {
            return None;
        }
        leaving.flushed = Some(step);
        Some(Command::Flush(step))
    }

    /// A step is made without this node: if it was to be its last, another one is.
    pub(super) fn miss(&mut self, step: Step) {
        if let Some(leaving) = &mut self.leaving {
            leaving.flushed.take_if(|flushed| *flushed == step);
        }
    }

    /// Says that the last contribution is applied, once it is. With the last step of the run there is nothing
    /// to leave any more.
    pub(super) fn depart(&mut self, applied: Step, out: &mut Vec<Command>) {
        if let Some(leaving) = &mut self.leaving
            && leaving.flushed == Some(applied)
            && !matches!(self.phase, Phase::Finishing(_))
        {
            leaving.said = true;
            self.say_departure(out);
        }
    }

    /// Says it, for the first time or to a coordinator that has been away.
    pub(super) fn say_departure(&self, out: &mut Vec<Command>) {
        if let Some(Leaving {
            failure,
            flushed: Some(step),
            said: true,
        }) = &self.leaving
        {
            let (step, failure) = (*step, failure.clone());
            out.push(Command::Send(ToCoordinator::Depart { step, failure }));
        }
    }

    /// The others go on in a view without this node: its part is over, but for what they lack.
    pub(super) fn released(&mut self, installation: &Installation, out: &mut Vec<Command>) {
        let view = &installation.view;
        let announced = self.place().map(super::Place::announced);
        let Some(Leaving {
            failure,
            said: true,
            ..
        }) = &self.leaving
        else {
            return;
        };
        if announced >= Some(view.number) {
            return;
        }
        let ending = Ending::Failed(failure.clone());
        self.supply(installation, out);
        self.exit(Err(ending), out);
    }

    /// How a node ends that was told to leave, whatever the others say.
    pub(super) fn as_told(&self, ending: Ending) -> Ending {
        match &self.leaving {
            Some(leaving) if !matches!(ending, Ending::Refused(_)) => {
                Ending::Failed(leaving.failure.clone())
            }
            _ => ending,
        }
    }
}
