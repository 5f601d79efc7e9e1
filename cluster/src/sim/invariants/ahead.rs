//! Ahead: no member has applied more than one step more than another, or as many as a quorum lets it.

use crate::quorum::reach;
use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    let reach = reach(record.quorum);
    for (applied, _) in record.fresh_applied() {
        let Some(view) = record.view(applied.view) else {
            continue;
        };
        if view.rank_of(applied.node).is_none() {
            continue; // It only follows.
        }
        let members = view.members.iter().map(|member| member.node);
        let counts = members.map(|node| (record.next_of(node, &record.applied), node));
        if let Some((least, node)) = counts
            .min()
            .filter(|(least, _)| applied.step >= least + reach)
        {
            return Err(format!(
                "node {} has applied {} steps, node {node} only {least}",
                applied.node,
                applied.step + 1,
            ));
        }
    }
    Ok(())
}
