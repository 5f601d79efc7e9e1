//! Where replicas differ that should not: `differences.jsonl`, which is there only if some did. An object a
//! line: `step` after which it was seen, `tensor`, and the `ranks` and `nodes` that do not hold what
//! most do, or all if no value is that of more than half.
//!
//! No decision is taken here: digests are, in `ecq_cluster`. Members send what their tensors amount to
//! before each digest, so that by the time one is found to differ it is known in what.

use std::collections::BTreeMap;
use std::io::Write as _;

use ecq_cluster::{NodeId, Rank, Step, TensorSums, View};
use serde::Serialize;

use crate::error::CoordinatorError;
use crate::run_dir::{DIFFERENCES, RunDir, unwritable};

/// Steps of which not all members have told: members are one step apart, and their words not much more.
const STEPS_OPEN_MAX: usize = 16;

/// A line of `differences.jsonl`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Difference {
    step: Step,
    tensor: String,
    ranks: Vec<Rank>,
    nodes: Vec<NodeId>,
}

/// Compares what members say of their tensors.
#[derive(Debug)]
pub(crate) struct Differences {
    dir: RunDir,
    /// The members of the view in rank order.
    members: Vec<NodeId>,
    open: BTreeMap<Step, BTreeMap<NodeId, TensorSums>>,
}

impl Differences {
    pub(crate) fn new(dir: &RunDir) -> Self {
        Self {
            dir: dir.clone(),
            members: Vec::new(),
            open: BTreeMap::new(),
        }
    }

    /// Another view begins.
    pub(crate) fn install(&mut self, view: &View) {
        self.members = view.members.iter().map(|member| member.node).collect();
        self.open.clear();
    }

    /// Takes what a node says; once all members have, writes and says in what they differ.
    pub(crate) fn take(&mut self, node: NodeId, sums: TensorSums) -> Result<(), CoordinatorError> {
        let step = sums.step;
        let found = self.compare(node, sums);
        let Some(first) = found.first() else {
            return Ok(());
        };
        let (tensor, ranks) = (&first.tensor, &first.ranks);
        let tensors = found.len();
        tracing::warn!(step, tensor, ?ranks, tensors, "replicas differ in a tensor");
        let mut lines = String::new();
        for difference in &found {
            // Invariant: text and numbers are JSON.
            lines += &serde_json::to_string(difference).unwrap_or_default();
            lines.push('\n');
        }
        let written = self.dir.append(DIFFERENCES)?.write_all(lines.as_bytes());
        written.map_err(|error| unwritable(&self.dir.path(DIFFERENCES), error))
    }

    fn compare(&mut self, node: NodeId, sums: TensorSums) -> Vec<Difference> {
        let step = sums.step;
        if !self.members.contains(&node) {
            return Vec::new();
        }
        let told = self.open.entry(step).or_default();
        told.insert(node, sums);
        if told.len() < self.members.len() {
            while self.open.len() > STEPS_OPEN_MAX {
                self.open.pop_first();
            }
            return Vec::new();
        }
        let later = self.open.split_off(&step.saturating_add(1));
        let mut told = std::mem::replace(&mut self.open, later);
        let told = told.remove(&step).unwrap_or_default();
        let members = (0..).zip(&self.members);
        let ranks: Vec<(Rank, NodeId, &TensorSums)> = members
            .filter_map(|(rank, node)| Some((rank, *node, told.get(node)?)))
            .collect();
        odd_ones(step, &ranks)
    }
}

/// For each tensor in which members differ, those that do not hold what most do.
fn odd_ones(step: Step, told: &[(Rank, NodeId, &TensorSums)]) -> Vec<Difference> {
    let Some((_, _, first)) = told.first() else {
        return Vec::new();
    };
    let difference = |(place, (tensor, _)): (usize, &(String, u32))| {
        let held = |sums: &TensorSums| sums.sums.get(place).map(|(_, sum)| *sum);
        let mut counts = BTreeMap::new();
        for (_, _, sums) in told {
            *counts.entry(held(sums)).or_insert(0) += 1;
        }
        let common = counts.iter().find(|(_, count)| 2 * **count > told.len());
        let common = common.map(|(sum, _)| *sum);
        let odd = told
            .iter()
            .filter(|(_, _, sums)| Some(held(sums)) != common);
        let (ranks, nodes): (Vec<Rank>, Vec<NodeId>) =
            odd.map(|(rank, node, _)| (*rank, *node)).unzip();
        (!ranks.is_empty()).then(|| Difference {
            step,
            tensor: tensor.clone(),
            ranks,
            nodes,
        })
    };
    first
        .sums
        .iter()
        .enumerate()
        .filter_map(difference)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ecq_cluster::Member;

    /// Members 4, 5 and so on, in a directory of their own.
    fn of_members(number: u64) -> (tempfile::TempDir, Differences) {
        let dir = tempfile::tempdir().expect("there is room");
        let run_dir = RunDir::take(&dir.path().join("run"), "").expect("it is empty");
        let mut differences = Differences::new(&run_dir);
        let member = |node| Member {
            node,
            address: String::new(),
        };
        differences.install(&View {
            number: 1,
            first_step: 0,
            consumed: 0,
            members: (4..4 + number).map(member).collect(),
        });
        (dir, differences)
    }

    fn sums(step: Step, weight: u32, bias: u32) -> TensorSums {
        let sums = vec![("weight".to_owned(), weight), ("bias".to_owned(), bias)];
        TensorSums { step, sums }
    }

    fn written(dir: &tempfile::TempDir) -> String {
        std::fs::read_to_string(dir.path().join("run").join(DIFFERENCES)).unwrap_or_default()
    }

    #[test]
    fn who_differs_from_most_is_named_with_step_and_tensor() {
        let (dir, mut differences) = of_members(3);
        for node in 4..7 {
            let taken = differences.take(node, sums(9, 1, 2));
            taken.expect("there is nothing to write");
        }
        assert_eq!(written(&dir), "");
        for (node, bias) in [(6, 2), (4, 2), (5, 3)] {
            differences.take(node, sums(19, 1, bias)).expect("room");
        }
        let line = "{\"step\":19,\"tensor\":\"bias\",\"ranks\":[1],\"nodes\":[5]}\n";
        assert_eq!(written(&dir), line);
        assert!(differences.open.is_empty(), "what is compared is forgotten");
    }

    #[test]
    fn without_a_majority_all_are_named() {
        let (dir, mut differences) = of_members(2);
        for (node, weight) in [(4, 1), (5, 2)] {
            differences.take(node, sums(0, weight, 7)).expect("room");
        }
        let line = "{\"step\":0,\"tensor\":\"weight\",\"ranks\":[0,1],\"nodes\":[4,5]}\n";
        assert_eq!(written(&dir), line);
    }

    #[test]
    fn strangers_and_steps_without_end_cost_nothing() {
        let (_dir, mut differences) = of_members(2);
        differences.take(99, sums(0, 1, 1)).expect("it is ignored");
        assert!(differences.open.is_empty());
        for step in 0..100 {
            let taken = differences.take(4, sums(step, 1, 1));
            taken.expect("there is nothing to write");
        }
        assert_eq!(differences.open.len(), STEPS_OPEN_MAX);
    }
}
