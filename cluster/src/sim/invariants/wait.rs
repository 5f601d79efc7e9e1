//! Wait: nobody waits for longer than a bound that follows from the lease. A change of view is over
//! [`CHANGING_MAX`] after it began, whatever the network does; and [`STILL_MAX`] after the last fault
//! there is always something new: a step, or a view.

use crate::sim::record::Record;
use crate::sim::timing::{CHANGING_MAX, LOSS_MAX, still_max};

pub(super) fn check(record: &Record) -> Result<(), String> {
    if record.outcome.is_some() || record.coordinator.silent().is_some() {
        return Ok(()); // The run is over, or nobody can change views.
    }
    changes_end(record)?;
    something_happens(record)
}

fn changes_end(record: &Record) -> Result<(), String> {
    let Some(began) = record.changing else {
        return Ok(());
    };
    // A coordinator that is back gives members who trained on without it time to return.
    let returns = if record.resumed { LOSS_MAX } else { 0 };
    let began = began.max(record.coordinator.awake).max(record.lost);
    if record.now > began + CHANGING_MAX + returns {
        return Err(format!("the view changes since {began} ms"));
    }
    Ok(())
}

fn something_happens(record: &Record) -> Result<(), String> {
    let since = record
        .progress
        .max(record.disturbed)
        .max(record.coordinator.awake);
    if record.now > since + still_max() {
        return Err(format!(
            "no step is applied and no view begins since {since} ms"
        ));
    }
    Ok(())
}
