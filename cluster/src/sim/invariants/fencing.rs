//! Fencing: no frame of another view, and none of a stranger, is ever applied.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, _) in record.fresh_applied() {
        let Some(view) = record.view(applied.view) else {
            return Err(format!("node {} trains without a view", applied.node));
        };
        for frame in &applied.frames {
            let member = view.members.get(frame.key.rank as usize);
            let genuine = member.is_some_and(|member| member.node == frame.origin);
            if frame.key.view != view.number || !genuine {
                return Err(format!(
                    "node {} applies, in view {}, a frame of node {}: {:?}",
                    applied.node, view.number, frame.origin, frame.key
                ));
            }
        }
    }
    Ok(())
}
