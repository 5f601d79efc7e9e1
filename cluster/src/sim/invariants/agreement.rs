//! Agreement: whoever has applied a step in the same view holds the same replica after it.

use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (applied, earlier) in record.fresh_applied() {
        let same = |other: &&crate::sim::record::Applied| {
            (other.step, other.view) == (applied.step, applied.view)
        };
        let other = earlier.iter().find(same);
        if let Some(other) = other.filter(|other| other.digest != applied.digest) {
            return Err(format!(
                "after step {} node {} holds {}, node {} holds {}",
                applied.step, applied.node, applied.digest, other.node, other.digest
            ));
        }
    }
    Ok(())
}
