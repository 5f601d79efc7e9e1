//! What must be true after each event, one property a file.

mod agreement;
mod ahead;
mod ending;
mod fencing;
mod healing;
mod history;
mod mass;
mod order;
mod quorum;
mod residuals;
mod steps;
mod wait;

use super::record::Record;

/// A property of the record; the text says how it is broken.
type Check = fn(&Record) -> Result<(), String>;

/// All invariants with their names. Where one mistake breaks several, the first is reported: causes
/// stand before their consequences.
const ALL: [(&str, Check); 12] = [
    ("history", history::check),
    ("fencing", fencing::check),
    ("quorum", quorum::check),
    ("order", order::check),
    ("steps", steps::check),
    ("agreement", agreement::check),
    ("ahead", ahead::check),
    ("mass", mass::check),
    ("wait", wait::check),
    ("healing", healing::check),
    ("ending", ending::check),
    ("residuals", residuals::check),
];

/// The name of the first invariant that does not hold, and why not.
pub(super) fn check(record: &Record) -> Result<(), (&'static str, String)> {
    ALL.iter()
        .try_for_each(|(name, check)| check(record).map_err(|text| (*name, text)))
}

/// All names.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    ALL.iter().map(|(name, _)| *name)
}
