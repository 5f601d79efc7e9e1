//! Agreement: whoever has applied a step holds the same replica after it.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, earlier) in record.fresh_applied() {
        let other = earlier.iter().find(|other| other.step == applied.step);
        if let Some(other) = other.filter(|other| other.digest != applied.digest) {
            return Err(format!(
                "after step {} node {} holds {}, node {} holds {}",
                applied.step, applied.node, applied.digest, other.node, other.digest
            ));
        }
    }
    Ok(())
}
