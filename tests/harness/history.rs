//! What a run says of its views.

use std::path::Path;

use serde_json::Value;

use super::read;

/// A view as `history.jsonl` says it.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) first_step: u64,
    /// The members in rank order.
    pub(crate) nodes: Vec<u64>,
}

/// The views of the run in this directory.
pub(crate) fn views(run: &Path) -> Vec<View> {
    let number = |value: &Value| value.as_u64().expect("it is a number");
    let view = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("it is JSON");
        let members = line["members"].as_array().expect("there are members");
        View {
            first_step: number(&line["first_step"]),
            nodes: members
                .iter()
                .map(|member| number(&member["node"]))
                .collect(),
        }
    };
    read(run.join("history.jsonl")).lines().map(view).collect()
}
