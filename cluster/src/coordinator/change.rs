//! From one view to the next: everybody stands still, says where, and the coordinator decides.
//!
//! A step is a transaction. Members are at most one step apart, or as many as a quorum lets them be. With
//! *a* the last step that any of them has applied, the next view begins at *a* + 1. Whoever lacks *a* or
//! steps before it receives their contributions, and who makes them up, from one who has applied them: what
//! was decided stands if anybody has acted on it, and else dies with the view. Contributions to *a* + 1 are void: everybody goes back to where it stood before it
//! computed them, so that what follows depends on the history of views alone, and not on how far
//! anybody had come.

use std::collections::BTreeMap;

use crate::id::{Millis, NodeId, Step};
use crate::view::View;

/// A change under way.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// The members of the last view that was announced, and then those who followed it, as long as
    /// they are there; with the first step that each has not applied.
    stand: Vec<(NodeId, Option<Step>)>,
    /// How many of them were members.
    members: usize,
    /// Whether that view has a single member.
    alone: bool,
    /// Since when those who have not answered are waited for.
    since: Millis,
}

/// What the answers amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) first_step: Step,
    /// In rank order: those who stay in the order that they had, then those who are new.
    pub(crate) members: Vec<NodeId>,
    /// Who has what others lack.
    pub(crate) supply: Option<Supply>,
    /// Members that stand where they cannot.
    pub(crate) astray: Vec<(NodeId, Step)>,
}

/// What is forwarded before a view begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Supply {
    /// One who has applied every step before the first.
    pub(crate) donor: NodeId,
    /// Those who have not.
    pub(crate) to: Vec<NodeId>,
    /// The first step that any of them lacks.
    pub(crate) lacking: Step,
}

impl Change {
    /// Asks the members of `old` that satisfy `present`, and `followers`, at `now`.
    pub(crate) fn new(
        now: Millis,
        old: &View,
        present: impl Fn(NodeId) -> bool,
        followers: impl Iterator<Item = NodeId>,
    ) -> Self {
        let members = old.members.iter().map(|member| member.node);
        let mut stand: Vec<_> = members
            .filter(|node| present(*node))
            .map(|node| (node, None))
            .collect();
        let members = stand.len();
        stand.extend(followers.map(|node| (node, None)));
        Self {
            stand,
            members,
            alone: old.members.len() == 1,
            since: now,
        }
    }

    /// A change in which it is known that all stand at `step`.
    pub(crate) fn at(view: &View, step: Step) -> Self {
        let mut change = Self::new(0, view, |_| true, std::iter::empty());
        change
            .stand
            .iter_mut()
            .for_each(|(_, next)| *next = Some(step));
        change
    }

    /// Waits anew for those who have not answered: they could not.
    pub(crate) fn forgive(&mut self, now: Millis) {
        self.since = now;
    }

    /// When whoever has not answered is lost, even if it is heard: nobody goes on without it.
    pub(crate) fn deadline(&self, lease: Millis) -> Option<Millis> {
        let waits = self.stand.iter().any(|(_, next)| next.is_none());
        waits.then(|| self.since.saturating_add(lease))
    }

    /// Who was asked and is still there.
    pub(crate) fn asked(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.stand.iter().map(|(node, _)| *node)
    }

    pub(crate) fn answer(&mut self, node: NodeId, next: Step) {
        let asked = self.stand.iter_mut().find(|(asked, _)| *asked == node);
        if let Some((_, answer)) = asked {
            *answer = Some(next);
        }
    }

    /// Leaves a node out; says whether it was asked.
    pub(crate) fn lose(&mut self, node: NodeId) -> bool {
        let place = self.stand.iter().position(|(asked, _)| *asked == node);
        if let Some(place) = place {
            self.stand.remove(place);
            self.members -= usize::from(place < self.members);
        }
        place.is_some()
    }

    /// Nodes that have not answered.
    pub(crate) fn missing(&self) -> Vec<NodeId> {
        let missing = self.stand.iter().filter(|(_, next)| next.is_none());
        missing.map(|(node, _)| *node).collect()
    }

    /// What follows from the answers, once all are there, for members that can be `reach` steps apart. Some
    /// may leave: who `stays` supplies the others, if there is a choice.
    pub(crate) fn decide(&self, reach: Step, stays: impl Fn(&NodeId) -> bool) -> Option<Decision> {
        let stand: Option<Vec<(NodeId, Step)>> = self
            .stand
            .iter()
            .map(|(node, next)| Some((*node, (*next)?)))
            .collect();
        let stand = stand?;
        let (members, followers) = stand.split_at(self.members);
        // If no member is left, those who followed hold all that remains of the run.
        let standard = if members.is_empty() {
            followers
        } else {
            members
        };
        let most = standard.iter().map(|(_, next)| *next).max()?;
        // Who follows a single member can have applied what that has sent and not applied yet. The
        // member lacks nothing for it.
        let more = most.saturating_add(1);
        let ahead = self.alone && followers.iter().any(|(_, next)| *next == more);
        let first_step = if ahead { more } else { most };
        let near = |next: Step| next <= first_step && next.saturating_add(reach) >= first_step;
        let astray = members.iter().filter(|(_, next)| !near(*next));
        let behind = |(_, next): &&(NodeId, Step)| *next < first_step && near(*next);
        let behind = stand.iter().filter(behind);
        let lacking = behind.clone().map(|(_, next)| *next).min();
        let to: Vec<NodeId> = behind.map(|(node, _)| *node).collect();
        let there = standard.iter().filter(|(_, next)| *next == first_step);
        let mut there = there.map(|(node, _)| *node);
        let first = there.clone().next();
        let donor = there.find(stays).or(first);
        let present = members.iter().chain(followers);
        Some(Decision {
            first_step,
            members: present
                .filter(|(_, next)| near(*next))
                .map(|(node, _)| *node)
                .collect(),
            supply: donor
                .zip(lacking)
                .map(|(donor, lacking)| Supply { donor, to, lacking }),
            astray: astray.copied().collect(),
        })
    }
}

/// The views of a run, as they were decided.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(BTreeMap<u64, View>);

impl History {
    pub(crate) fn push(&mut self, view: View) {
        self.0.insert(view.number, view);
    }

    /// Number of the last view; 0 before the first.
    pub(crate) fn last(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Samples consumed before `step`, where a view of `n` members takes `per_step(n)` a step. A view
    /// that begins later than `step` has made none: everybody who was to make it is gone.
    pub(crate) fn consumed(&self, step: Step, per_step: impl Fn(u32) -> u64) -> u64 {
        let mut views = self.0.values().rev();
        let view = views.find(|view| view.first_step <= step);
        view.map_or(0, |view| {
            let made = (step - view.first_step).saturating_mul(per_step(view.size()));
            view.consumed.saturating_add(made)
        })
    }

    /// The view that made the step before `step`, as far as that stands.
    pub(crate) fn maker_before(&self, step: Step) -> Option<&View> {
        let mut views = self.0.values().rev();
        views.find(|view| view.first_step < step)
    }

    /// The first step to which contributions of `node` do not count, which was a member of an earlier view.
    pub(crate) fn left_out(&self, node: NodeId) -> Option<Step> {
        let mut later = Vec::new();
        for view in self.0.values().rev() {
            if view.rank_of(node).is_some() {
                return later.into_iter().min();
            }
            later.push(view.first_step);
        }
        None
    }

    /// Whether `node` was a member of the last view.
    pub(crate) fn has_member(&self, node: NodeId) -> bool {
        let last = self.0.last_key_value();
        last.is_some_and(|(_, view)| view.rank_of(node).is_some())
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
