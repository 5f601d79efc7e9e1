//! One history: views are numbered without gaps and durable before any member acts on them.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (node, view) in record.fresh_installed() {
        if !record.durable.iter().any(|(_, durable)| durable == view) {
            return Err(format!(
                "node {node} acts on view {} before it is durable",
                view.number
            ));
        }
    }
    for (expected, (_, view)) in (1..).zip(&record.durable) {
        if view.number != expected {
            return Err(format!(
                "view {} is stored where view {expected} is next",
                view.number
            ));
        }
    }
    Ok(())
}
