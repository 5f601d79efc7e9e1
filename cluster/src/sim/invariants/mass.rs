//! Mass: no gradient is lost or counted twice. What a node has computed is what it has sent plus its
//! residual, and what it has sent counts exactly once: it is applied in the step that the history
//! decides, or its owner takes it back, or it is lost with its owner.

use crate::id::{NodeId, Step, ViewNumber};
use crate::sim::ledger::Contribution;
use crate::sim::record::{Applied, Departure, Record};

pub(super) fn check(record: &Record) -> Result<(), String> {
    for (node, account) in record.ledger.fresh() {
        let (owed, found) = (account.owed(), account.residual);
        if owed != found {
            return Err(format!(
                "node {node} has computed {owed} more than it has sent, but its residual is {found}"
            ));
        }
    }
    for (applied, _) in record.fresh_applied() {
        what_is_applied_was_sent(record, applied)?;
    }
    if record.over {
        for (node, account) in record.ledger.accounts() {
            for contribution in &account.contributions {
                it_counts_once(record, node, contribution)?;
            }
        }
    }
    Ok(())
}

/// Whether a later view makes the step anew. Who has applied it all the same was lost, and counts
/// no more.
fn made_anew(record: &Record, view: ViewNumber, step: Step) -> bool {
    let later = record.durable.iter().rev().map(|(_, view)| view);
    let mut later = later.take_while(|later| later.number > view);
    later.any(|later| later.first_step <= step)
}

fn what_is_applied_was_sent(record: &Record, applied: &Applied) -> Result<(), String> {
    if made_anew(record, applied.view, applied.step) {
        return Ok(());
    }
    for frame in &applied.frames {
        let found = record.ledger.find(frame.origin, frame.key);
        let why = match found {
            None => "has not sent",
            Some((it, _)) if it.void || it.left_out => "has taken back",
            Some((_, sent)) if sent != frame.gradient => "has sent otherwise",
            Some(_) => continue,
        };
        let (node, origin) = (applied.node, frame.origin);
        return Err(format!(
            "node {node} applies {:?}, which node {origin} {why}",
            frame.key
        ));
    }
    Ok(())
}

fn it_counts_once(record: &Record, node: NodeId, it: &Contribution) -> Result<(), String> {
    let Some(key) = it.frames.first().map(|frame| frame.key) else {
        return Ok(());
    };
    let decided = !made_anew(record, key.view, key.step);
    let applied = || {
        let summed = |applied: &Applied| {
            (applied.view, applied.step) == (key.view, key.step)
                && applied.frames.iter().any(|frame| frame.key == key)
        };
        record.applied.iter().any(summed)
    };
    let survived = record
        .life(node)
        .and_then(|life| life.ended.as_ref())
        .is_some_and(|(_, how)| matches!(how, Departure::Exited(Ok(_))));
    let what = match (it.void || it.left_out, decided) {
        (true, true) if applied() => "was applied and taken back",
        (false, true) if survived && !applied() => "was never applied nor taken back",
        (false, false) if survived => "is void, and was not taken back",
        _ => return Ok(()),
    };
    let step = key.step;
    Err(format!("what node {node} computed for step {step} {what}"))
}
