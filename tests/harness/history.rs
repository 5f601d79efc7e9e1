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
    /// What became of residuals with it.
    pub(crate) residuals: Vec<Residual>,
}

/// What became of the residual of a node that is no member any more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Residual {
    Flushed { node: u64, step: u64 },
    Kept { node: u64, by: u64 },
    Lost { node: u64 },
}

/// The views of the run in this directory.
pub(crate) fn views(run: &Path) -> Vec<View> {
    let view = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("it is JSON");
        let members = line["members"].as_array().expect("there are members");
        let residuals = line["residuals"].as_array().expect("there may be some");
        View {
            first_step: number(&line["first_step"]),
            nodes: members
                .iter()
                .map(|member| number(&member["node"]))
                .collect(),
            residuals: residuals.iter().map(residual).collect(),
        }
    };
    read(run.join("history.jsonl")).lines().map(view).collect()
}

/// What became of residuals, in the order in which it was said.
pub(crate) fn residuals(views: &[View]) -> Vec<Residual> {
    let said = views.iter().flat_map(|view| &view.residuals);
    said.copied().collect()
}

fn residual(it: &Value) -> Residual {
    let node = number(&it["node"]);
    match (&it["flushed_at"], &it["kept_by"]) {
        (Value::Null, Value::Null) => {
            assert!(it["lost_norm"].as_f64().is_none_or(|norm| norm >= 0.0));
            Residual::Lost { node }
        }
        (step, Value::Null) => Residual::Flushed {
            node,
            step: number(step),
        },
        (_, by) => Residual::Kept {
            node,
            by: number(by),
        },
    }
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("it is a number")
}
