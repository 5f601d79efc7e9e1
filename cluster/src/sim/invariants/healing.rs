//! Healing: [`heal_max`] after the last fault, all nodes that can train are members again.

use crate::sim::record::Record;
use crate::sim::timing::heal_max;

pub(super) fn check(record: &Record) -> Result<(), String> {
    let Some(long_ago) = record.now.checked_sub(heal_max()) else {
        return Ok(());
    };
    let disturbed = record.disturbed.max(record.coordinator.awake);
    let (None, None) = (&record.outcome, record.coordinator.silent()) else {
        return Ok(());
    };
    let Some((_, view)) = record.durable.last().filter(|_| disturbed < long_ago) else {
        return Ok(());
    };
    let lives = record.nodes.iter();
    let able = lives.filter(|life| life.trains && life.ended.is_none() && life.awake < long_ago);
    let expected = able.count().min(record.seats as usize);
    if view.members.len() < expected {
        return Err(format!(
            "{expected} nodes could train, but view {} has {} members since {disturbed} ms",
            view.number,
            view.members.len()
        ));
    }
    Ok(())
}
