//! From one view to the next: standing still, catching up, beginning.

use super::{Command, Node, Phase, Place};
use crate::id::ViewNumber;
use crate::message::{Failure, Installation, ToCoordinator};

impl Node {
    /// Stands still, and says where.
    pub(super) fn freeze(&mut self, view: ViewNumber, out: &mut Vec<Command>) {
        // A coordinator that has been away may ask in a view that it could not announce any more.
        let Some(place) = self.place_mut().filter(|place| place.announced() <= view) else {
            return;
        };
        (place.frozen, place.next) = (true, None);
        let next = place.round.step();
        out.push(Command::Send(ToCoordinator::Frozen { view, next }));
    }

    pub(super) fn install(&mut self, installation: Installation, out: &mut Vec<Command>) {
        let view = &installation.view;
        if view.rank_of(self.id).is_none() {
            return self.released(&installation, out);
        }
        if self.steps < view.first_step && !matches!(self.phase, Phase::Greeting | Phase::Preparing)
        {
            let text = format!(
                "view {} begins at step {}, but the run has {} steps; all nodes need the same \
                 version and data set",
                view.number, view.first_step, self.steps
            );
            return self.fail(Failure::Fault(text), out);
        }
        if matches!(self.phase, Phase::Ready) {
            return self.begin(installation, out);
        }
        let Some(place) = self
            .place_mut()
            .filter(|place| place.announced() < view.number)
        else {
            return;
        };
        place.frozen = true;
        place.next = Some(installation.clone());
        self.supply(&installation, out);
        self.advance(out);
    }

    /// Forwards what others lack of the steps before a view, if this node is asked for that.
    pub(super) fn supply(&self, installation: &Installation, out: &mut Vec<Command>) {
        let (first, end) = (installation.lacking, installation.view.first_step);
        let made = self
            .made
            .iter()
            .filter(|(step, _)| (first..end).contains(step));
        if !installation.supply.is_empty() {
            out.push(Command::Supply {
                first,
                end,
                decisions: made.map(|(_, decision)| decision.clone()).collect(),
                to: installation.supply.clone(),
            });
        }
    }

    /// Begins a view before which everything is applied.
    pub(super) fn begin(&mut self, installation: Installation, out: &mut Vec<Command>) {
        let Installation {
            view,
            hold,
            restore,
            ..
        } = installation;
        if let Some(rank) = restore {
            let step = view.first_step;
            out.push(Command::Restore { step, rank });
        }
        let place = Place::new(
            view.clone(),
            view.rank_of(self.id),
            self.buckets,
            self.quorum,
            hold,
        );
        if view.first_step < self.steps {
            self.phase = Phase::Linking(place);
            out.push(Command::Link(view));
            return;
        }
        // There is nothing left to do but to see that everybody has the same.
        self.phase = Phase::Finishing(place);
        if self.final_digest.is_some() {
            self.complete(out);
        }
    }

    pub(super) fn linked(&mut self, view: ViewNumber, out: &mut Vec<Command>) {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Linking(mut place) if place.view.number == view => {
                let first = place.round.step();
                for to in std::mem::take(&mut place.observers) {
                    out.push(Command::Stream { to, first });
                }
                self.phase = Phase::Training(place);
            }
            other => self.phase = other,
        }
        self.advance(out);
    }

    /// Begins the next view, if everything before it is applied.
    pub(super) fn change(&mut self, out: &mut Vec<Command>) {
        let Some(place) = self.place_mut() else {
            return;
        };
        let next = place.round.step();
        if let Some(installation) = place.next.take_if(|it| it.view.first_step <= next) {
            let observers = std::mem::take(&mut place.observers);
            self.begin(installation, out);
            if let Phase::Linking(place) = &mut self.phase {
                place.observers = observers;
            }
        }
    }
}
