//! Ending: every run ends within its bound, everybody learns of it in time, and what they learn is
//! true. Without faults it is complete; nobody ever hangs.

use crate::coordinator::Outcome;
use crate::id::{Digest, Step};
use crate::sim::record::{Departure, Life, Record};
use crate::sim::timing::{CHANGE_MAX, LOSS_MAX, NEWS_MAX, RECONNECT};

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

/// Within [`LOSS_MAX`] of losing a member, and within [`NEWS_MAX`] if its connection broke, the
/// coordinator stores a view without it, or ends the run. It may have to wait for others that are
/// lost as well. One that was started again waits for members that may be frozen, if they have made no step: as
/// many nodes as it takes can come in their place.
fn losses_are_noticed(record: &Record) -> Result<(), String> {
    let Some((stored, view)) = record.durable.last() else {
        return Ok(());
    };
    if record.outcome.is_some() || record.coordinator.silent().is_some() {
        return Ok(());
    }
    let silent = |life: &Life| life.silent();
    // Answers may have waited for a node that was frozen.
    let awake = record
        .nodes
        .iter()
        .map(|life| life.silent().unwrap_or(life.awake));
    let last = awake.max().unwrap_or(0);
    let unheard = |life: &Life| {
        let heard = Some(Departure::Vanished) != life.ended.clone().map(|(_, how)| how);
        life.frozen.is_some() || !heard
    };
    let notice = if record.resumed || record.nodes.iter().any(unheard) {
        LOSS_MAX
    } else {
        NEWS_MAX
    };
    for member in &view.members {
        let Some(since) = record.life(member.node).and_then(silent).map(|_| last) else {
            continue;
        };
        let since = since.max(*stored).max(record.coordinator.awake);
        let since = since.max(record.apart).max(record.expectant);
        if record.now > since + notice + CHANGE_MAX {
            return Err(format!(
                "member {} is lost since {since} ms and the coordinator does nothing",
                member.node
            ));
        }
    }
    Ok(())
}

/// A node exits within [`NEWS_MAX`] of the run's end, or of its last attempt to reach the coordinator.
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
        // Members go on without a coordinator for as long as it may come back.
        let away = life.away.map_or(0, |until| until + RECONNECT.end());
        let since = end.max(life.awake).max(record.coordinator.awake).max(away);
        let since = since.max(record.apart);
        if life.silent().is_none() && record.now > since + NEWS_MAX {
            return Err(format!(
                "node {node} goes on after the run ended at {end} ms"
            ));
        }
    }
    Ok(())
}

/// Whoever reports success has applied every step, and so has everybody else. A run fails only if it
/// is stopped, or no member is left to go on with. Nobody is needed before anybody has heard of a view: any nodes
/// can begin.
fn the_end_is_true(record: &Record) -> Result<(), String> {
    let completed = match &record.outcome {
        Some((_, Outcome::Completed { steps, digest })) => Some((*steps, *digest)),
        _ => None,
    };
    let last = record.durable.last().map(|(_, view)| view);
    let members = last.map_or(&[][..], |view| &view.members);
    let is_member = |node| last.is_some_and(|view| view.rank_of(node).is_some());
    if let Some(completed) = completed {
        all_have_applied(record, completed)?;
    } else if let Some((_, Outcome::Failed(failure))) = &record.outcome {
        let begun = !record.installed.is_empty();
        let unannounced = |node| begun && record.unannounced.contains(&node);
        let struck = |node| record.struck.contains(&node) || unannounced(node);
        if !record.stopped && !members.iter().all(|member| struck(member.node)) {
            return Err(format!("members are left, but the run ended: {failure}"));
        }
    } else if record.coordinator.ended.is_none() {
        return Err("the run has not ended".to_owned());
    }
    for (node, life) in (1..).zip(&record.nodes) {
        let fine = match (&life.ended, completed) {
            (Some((_, Departure::Exited(Ok(steps)))), Some(end)) => {
                *steps == end.0 || !is_member(node)
            }
            (Some((_, Departure::Exited(Ok(_)))), None) | (None, _) => false,
            (Some(_), _) => record.faulty || !is_member(node),
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
        let stand = record.stand_of(member.node, &record.applied);
        if stand != Some((steps, digest)) {
            let node = member.node;
            return Err(format!(
                "the run is complete, but node {node} stands at {stand:?}"
            ));
        }
    }
    Ok(())
}
