//! Steps: every node applies them in order, once, and skips none; no view redoes what a member of it
//! has applied.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, earlier) in record.fresh_applied() {
        let next = record.next_of(applied.node, earlier);
        if next != applied.step || applied.step >= record.steps {
            return Err(format!(
                "node {} applies step {} of {} where {next} is next",
                applied.node, applied.step, record.steps
            ));
        }
    }
    for (node, view) in record.fresh_installed() {
        let next = record.next_of(*node, &record.applied);
        if next > view.first_step {
            return Err(format!(
                "view {} begins at step {}, but its member {node} has applied {next}",
                view.number, view.first_step
            ));
        }
    }
    Ok(())
}
