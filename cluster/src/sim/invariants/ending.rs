//! Ending: every run ends within its bound, everybody learns of it in time, and what they learn is
//! true. Without faults it is complete; nobody ever hangs.

use crate::coordinator::Outcome;
use crate::id::{Digest, Step};
use crate::sim::record::{Departure, Record};
use crate::sim::timing::{LOSS_MAX, NEWS_MAX};

pub(super) fn check(record: &Record) -> Result<(), String> {
    if record.idle && !record.over {
        return Err("nothing happens any more, but not all processes have ended".to_owned());
    }
    if record.now > record.end_max {
        return Err(format!("the run has not ended after {} ms", record.end_max));
    }
    losses_are_noticed(record)?;
    the_end_is_known(record)?;
    if record.over {
        the_end_is_true(record)
    } else {
        Ok(())
    }
}

/// The coordinator ends a run within [`LOSS_MAX`] of losing a member, and within [`NEWS_MAX`] if
/// its connection broke.
fn losses_are_noticed(record: &Record) -> Result<(), String> {
    let Some((stored, view)) = record.durable.last() else {
        return Ok(());
    };
    if record.outcome.is_some() || record.coordinator.silent().is_some() {
        return Ok(());
    }
    for member in &view.members {
        let life = record.life(member.node);
        let Some(silent) = life.and_then(|life| life.silent()) else {
            continue;
        };
        let since = silent.max(*stored).max(record.coordinator.awake);
        let heard = matches!(
            life.and_then(|life| life.ended.as_ref()),
            Some((_, Departure::Crashed | Departure::Exited(_)))
        );
        if record.now > since + if heard { NEWS_MAX } else { LOSS_MAX } {
            return Err(format!(
                "member {} is lost since {since} ms and the coordinator does nothing",
                member.node
            ));
        }
    }
    Ok(())
}

/// A node exits within [`NEWS_MAX`] of the run's end.
fn the_end_is_known(record: &Record) -> Result<(), String> {
    let crashed = record.coordinator.ended.as_ref().map(|(time, _)| *time);
    let concluded = record.outcome.as_ref().map(|(time, _)| *time);
    let Some(end) = concluded
        .max(crashed)
        .filter(|_| record.coordinator.frozen.is_none())
    else {
        return Ok(());
    };
    for (node, life) in (1..).zip(&record.nodes) {
        let since = end.max(life.awake).max(record.coordinator.awake);
        if life.silent().is_none() && record.now > since + NEWS_MAX {
            return Err(format!(
                "node {node} goes on after the run ended at {end} ms"
            ));
        }
    }
    Ok(())
}

/// Whoever reports success has applied every step, and so has everybody else.
fn the_end_is_true(record: &Record) -> Result<(), String> {
    let completed = match &record.outcome {
        Some((_, Outcome::Completed { steps, digest })) => Some((*steps, *digest)),
        _ => None,
    };
    if let Some(completed) = completed {
        all_have_applied(record, completed)?;
    } else if !record.faulty {
        return Err(format!(
            "no fault, but the run ended with {:?}",
            record.outcome
        ));
    }
    for (node, life) in (1..).zip(&record.nodes) {
        let fine = match &life.ended {
            Some((_, Departure::Exited(Ok(steps)))) => completed.is_some_and(|end| end.0 == *steps),
            Some(_) => record.faulty || record.view_of(node).is_none(),
            None => false,
        };
        if !fine {
            let (how, outcome) = (&life.ended, &record.outcome);
            return Err(format!(
                "node {node} ended with {how:?}, the run with {outcome:?}"
            ));
        }
    }
    Ok(())
}

fn all_have_applied(record: &Record, (steps, digest): (Step, Digest)) -> Result<(), String> {
    let members = record
        .durable
        .last()
        .map(|(_, view)| view.members.as_slice());
    for member in members.unwrap_or_default() {
        let mut applied = record.applied.iter().rev();
        let last = applied.find(|applied| applied.node == member.node);
        if !last.is_some_and(|last| last.step + 1 == steps && last.digest == digest) {
            let node = member.node;
            return Err(format!(
                "the run is complete, but node {node} has applied {last:?} last"
            ));
        }
    }
    Ok(())
}
