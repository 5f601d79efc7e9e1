//! Steps: every node applies them in order, once, and skips none.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, earlier) in record.fresh_applied() {
        let mut own = earlier.iter().rev();
        let last = own.find(|other| other.node == applied.node);
        let first = record.view_of(applied.node).map(|view| view.first_step);
        let next = last.map(|last| last.step + 1).or(first);
        if next != Some(applied.step) || applied.step >= record.steps {
            return Err(format!(
                "node {} applies step {} of {} where {next:?} is next",
                applied.node, applied.step, record.steps
            ));
        }
    }
    Ok(())
}
