//! What became of the residuals of members that are none any more. `history.jsonl` and the store say it with the
//! view without them, or with the one in which somebody goes on with it.

use std::collections::{BTreeMap, BTreeSet};

use ecq_cluster::{Legacy, NodeId, Step, View, ViewNumber};

/// What became of a residual.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fate {
    /// Its last contribution, to this step, was sent whole.
    Flushed(Step),
    /// This member goes on with it.
    Kept(NodeId),
    /// Nobody has it, at least not yet; ‖h‖ as it was reported last. Not a number if it never was.
    Lost(f64),
}

/// Of which member it is said, and with which view.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) view: ViewNumber,
    pub(crate) node: NodeId,
    pub(crate) fate: Fate,
}

/// What a run has lost for good.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Loss {
    /// Number of residuals.
    pub(crate) residuals: u64,
    /// Σ ‖h‖, each as it was reported last.
    pub(crate) norm: f64,
}

/// Keeps the books.
#[derive(Debug, Default)]
pub(crate) struct Residuals {
    notes: Vec<Note>,
    /// ‖h‖ of each node after the last step that it has reported.
    norms: BTreeMap<NodeId, f64>,
    /// The members of the last view.
    members: BTreeSet<NodeId>,
}

impl Residuals {
    /// Goes on from what is stored. `norm` is the last that is known of anybody.
    pub(crate) fn resume(views: &[View], notes: Vec<Note>, norm: f64) -> Self {
        let members = views.last().map(members_of).unwrap_or_default();
        Self {
            norms: members.iter().map(|node| (*node, norm)).collect(),
            notes,
            members,
        }
    }

    /// A member's ‖h‖.
    pub(crate) fn report(&mut self, node: NodeId, norm: f64) {
        self.norms.insert(node, norm);
    }

    /// What is to be said with a view, of which the protocol knows `legacies`.
    pub(crate) fn install(&mut self, view: &View, legacies: &[Legacy]) -> &[Note] {
        let before = self.notes.len();
        let members = members_of(view);
        let known = legacies.iter().map(|legacy| match *legacy {
            Legacy::Flushed { node, step } => (node, Fate::Flushed(step)),
            Legacy::Kept { node, by } => (node, Fate::Kept(by)),
        });
        let known: Vec<(NodeId, Fate)> = known.collect();
        let accounted = |node| known.iter().any(|(of, _)| *of == node);
        // A flush may turn out to be void before anybody could go on from there.
        let void = self
            .notes
            .iter()
            .filter(|note| matches!(note.fate, Fate::Flushed(step) if step >= view.first_step));
        let gone = self.members.difference(&members).copied();
        let gone: BTreeSet<NodeId> = gone.chain(void.map(|note| note.node)).collect();
        // Before the first step there is none.
        let begun = view.first_step > 0;
        let lost = gone
            .into_iter()
            .filter(|node| begun && !accounted(*node) && !members.contains(node));
        let lost: Vec<(NodeId, Fate)> = lost
            .map(|node| {
                (
                    node,
                    Fate::Lost(self.norms.get(&node).copied().unwrap_or(f64::NAN)),
                )
            })
            .collect();
        let all = known.into_iter().chain(lost);
        let view = view.number;
        self.notes
            .extend(all.map(|(node, fate)| Note { view, node, fate }));
        self.members = members;
        &self.notes[before..]
    }

    /// What nobody has come back with.
    pub(crate) fn loss(&self) -> Loss {
        let kept = |node: NodeId| {
            let is = |note: &Note| note.node == node && matches!(note.fate, Fate::Kept(_));
            self.notes.iter().any(is)
        };
        let mut lost = BTreeMap::new();
        for note in &self.notes {
            if let Fate::Lost(norm) = note.fate
                && !kept(note.node)
            {
                lost.insert(note.node, norm);
            }
        }
        Loss {
            residuals: lost.len() as u64,
            norm: lost
                .values()
                .filter(|norm| norm.is_finite())
                .fold(0.0, |sum, norm| sum + norm),
        }
    }
}

impl Note {
    /// As `history.jsonl` has it.
    pub(crate) fn to_json(self) -> serde_json::Value {
        let node = self.node;
        match self.fate {
            Fate::Flushed(step) => serde_json::json!({ "node": node, "flushed_at": step }),
            Fate::Kept(by) => serde_json::json!({ "node": node, "kept_by": by }),
            Fate::Lost(norm) => serde_json::json!({ "node": node, "lost_norm": norm }),
        }
    }
}

fn members_of(view: &View) -> BTreeSet<NodeId> {
    view.members.iter().map(|member| member.node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(number: ViewNumber, first_step: Step, nodes: &[NodeId]) -> View {
        let member = |node: &NodeId| ecq_cluster::Member {
            node: *node,
            address: String::new(),
        };
        View {
            number,
            first_step,
            consumed: 0,
            members: nodes.iter().map(member).collect(),
        }
    }

    fn fates(notes: &[Note]) -> Vec<(NodeId, Fate)> {
        notes.iter().map(|note| (note.node, note.fate)).collect()
    }

    #[test]
    fn what_is_neither_flushed_nor_kept_is_lost() {
        let mut residuals = Residuals::default();
        assert!(residuals.install(&view(1, 0, &[1, 2, 3]), &[]).is_empty());
        for (node, norm) in [(1, 0.5), (2, 0.25), (3, 2.0), (2, 0.75)] {
            residuals.report(node, norm);
        }
        let (node, step) = (1, 6);
        let flushed = Legacy::Flushed { node, step };
        let notes = residuals.install(&view(2, 7, &[3]), &[flushed]);
        assert_eq!(fates(notes), [(1, Fate::Flushed(6)), (2, Fate::Lost(0.75))]);
        let expected = |residuals, norm| Loss { residuals, norm };
        assert_eq!(residuals.loss(), expected(1, 0.75));
        let kept = Legacy::Kept { node: 2, by: 4 };
        let notes = residuals.install(&view(3, 9, &[3, 4]), &[kept]);
        assert_eq!(fates(notes), [(2, Fate::Kept(4))]);
        assert_eq!(residuals.loss(), expected(0, 0.0));
        residuals.install(&view(4, 10, &[3]), &[]);
        let loss = residuals.loss();
        assert_eq!(loss, expected(1, 0.0), "of node 4 nothing was reported");
    }

    #[test]
    fn a_flush_that_is_void_after_all_is_a_loss() {
        let mut residuals = Residuals::default();
        residuals.install(&view(1, 0, &[1, 2, 3]), &[]);
        residuals.report(1, 0.5);
        let (node, step) = (1, 6);
        residuals.install(&view(2, 7, &[2, 3]), &[Legacy::Flushed { node, step }]);
        let notes = residuals.install(&view(3, 6, &[3]), &[]);
        assert_eq!(fates(notes)[0], (1, Fate::Lost(0.5)));
    }

    #[test]
    fn before_the_first_step_there_is_nothing_to_lose() {
        let mut residuals = Residuals::default();
        residuals.install(&view(1, 0, &[1, 2]), &[]);
        assert!(residuals.install(&view(2, 0, &[3, 4]), &[]).is_empty());
        assert_eq!(residuals.loss(), Loss::default());
    }

    /// A run that goes on from checkpoints, whose members are other nodes.
    #[test]
    fn what_is_taken_up_again_is_not_lost() {
        let mut residuals = Residuals::default();
        residuals.install(&view(1, 0, &[1, 2, 3]), &[]);
        residuals.report(1, 0.5);
        residuals.install(&view(2, 7, &[2, 3]), &[]);
        assert_eq!(residuals.loss().residuals, 1);
        let kept = |node, by| Legacy::Kept { node, by };
        let all = [kept(1, 4), kept(2, 5), kept(3, 6)];
        let notes = residuals.install(&view(3, 5, &[4, 5, 6]), &all);
        let expected = [(1, Fate::Kept(4)), (2, Fate::Kept(5)), (3, Fate::Kept(6))];
        assert_eq!(fates(notes), expected);
        assert_eq!(residuals.loss(), Loss::default());
    }

    #[test]
    fn a_coordinator_that_begins_again_knows_what_was_lost() {
        let note = Note {
            view: 2,
            node: 1,
            fate: Fate::Lost(1.5),
        };
        let views = [view(1, 0, &[1, 2, 3]), view(2, 3, &[2, 3])];
        let mut residuals = Residuals::resume(&views, vec![note], 0.5);
        residuals.install(&view(3, 6, &[3]), &[]);
        let (loss, expected) = (residuals.loss(), (2, 2.0));
        assert_eq!((loss.residuals, loss.norm), expected);
    }
}
