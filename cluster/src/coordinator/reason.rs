//! What the run is doing or waiting for, in words.

use super::change::Change;
use super::{Command, Coordinator, Phase};
use crate::config::RunConfig;

impl Coordinator {
    pub(super) fn explain(&mut self, out: &mut Vec<Command>) {
        let Some(reason) = self.state() else {
            return;
        };
        if reason != self.reason {
            self.reason.clone_from(&reason);
            out.push(Command::Explain(reason));
        }
    }

    /// What the run is doing or waiting for.
    pub(super) fn state(&self) -> Option<String> {
        let (joined, ready) = (self.seats.joined(), self.seats.ready());
        let RunConfig {
            nodes, min_nodes, ..
        } = self.config;
        Some(match &self.phase {
            Phase::Gathering if joined < nodes as usize => {
                format!("waiting for nodes: {joined} of {nodes} have joined")
            }
            Phase::Recovering(view) => {
                let how = match self.config.checkpoint_every {
                    Some(_) => "go on from their checkpoints",
                    None => "begin anew",
                };
                format!(
                    "waiting for the members of view {}, or for {nodes} nodes to {how}: {ready} are \
                     ready",
                    view.number
                )
            }
            Phase::Gathering => format!("nodes prepare: {ready} of {nodes} are ready"),
            Phase::Storing(view, _) => format!("storing view {}", view.number),
            Phase::Training(view) if view.size() < min_nodes => format!(
                "view {}: waiting for nodes, {} of at least {min_nodes} are there",
                view.number,
                view.size()
            ),
            Phase::Training(view) => {
                let finished = |node| self.seats.get(node).is_some_and(|s| s.finished.is_some());
                let members = view.members.iter();
                let done = members.filter(|member| finished(member.node)).count();
                let follow = self.seats.waiting(view);
                let follow = follow
                    .into_iter()
                    .filter(|node| !self.observes(*node))
                    .count();
                let size = view.size();
                if done > 0 {
                    format!("{done} of {size} members have finished")
                } else if follow > 0 {
                    format!(
                        "view {}: {size} members train, {follow} catch up",
                        view.number
                    )
                } else {
                    format!("view {}: {size} members train", view.number)
                }
            }
            Phase::Changing(view, change) => match self.patience(change) {
                Some(waiting) => format!("view {} ends: waiting for {waiting}", view.number),
                None => format!("view {} ends", view.number),
            },
            Phase::Over => return None,
        })
    }

    /// For whose answers a change waits and how long it will, if that takes longer than it should.
    pub(super) fn patience(&self, change: &Change) -> Option<String> {
        let missing = change.missing();
        let heard = missing
            .iter()
            .filter_map(|node| self.seats.get(*node))
            .map(|seat| seat.heard);
        let heard = heard.min()?;
        let lease = self.config.lease();
        if self.awake < heard.saturating_add(lease / 4) {
            return None;
        }
        let deadline = change.deadline(lease)?.min(heard.saturating_add(lease));
        let left = deadline.saturating_sub(self.awake);
        let names: Vec<String> = missing.iter().map(|node| self.name(*node)).collect();
        Some(format!(
            "{}, {:.1} s left",
            names.join(", "),
            left as f64 / 1e3
        ))
    }
}
