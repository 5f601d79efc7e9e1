//! Ahead: no member has applied more than one step more than another.

use crate::id::{NodeId, Step};
use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, _) in record.fresh_applied() {
        let Some(view) = record.view_of(applied.node) else {
            continue;
        };
        let members = view.members.iter();
        let counts = members.map(|member| (count(record, member.node), member.node));
        if let Some((least, node)) = counts.min().filter(|(least, _)| applied.step > *least) {
            return Err(format!(
                "node {} has applied {} steps, node {node} only {least}",
                applied.node,
                applied.step + 1,
            ));
        }
    }
    Ok(())
}

/// Steps of the run that `node` has applied.
fn count(record: &Record, node: NodeId) -> Step {
    let mut applied = record.applied.iter().rev();
    let last = applied.find(|applied| applied.node == node);
    let first = || record.view_of(node).map_or(0, |view| view.first_step);
    last.map_or_else(first, |last| last.step + 1)
}
