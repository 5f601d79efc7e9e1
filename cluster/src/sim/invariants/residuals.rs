//! Residuals: what is said to be flushed has been applied, and is the last that was; what is said to be kept
//! lacks exactly what has been applied.

use crate::id::{NodeId, Step, ViewNumber};
use crate::message::Legacy;
use crate::sim::record::{Contribution, Inherited, Record};

/// Judged at the end, when it is known what was void.
pub(super) fn check(record: &Record) -> Result<(), String> {
    if !record.over {
        return Ok(());
    }
    for (view, legacy) in &record.legacies {
        // Of a view that nobody trained in nobody need have got as far as its first step.
        if !record.applied.iter().any(|applied| applied.view >= *view) {
            continue;
        }
        let void_from = record.durable.iter().map(|(_, later)| later);
        let void_from = void_from.filter(|later| later.number > *view);
        let void_from = void_from.map(|later| later.first_step).min();
        match legacy {
            // Whoever had applied it is lost before anybody could go on from there.
            Legacy::Flushed { step, .. } if void_from.is_some_and(|first| first <= *step) => {}
            Legacy::Flushed { node, step } => flushed(record, *view, *node, *step)?,
            Legacy::Kept { node, by } => kept(record, *node, *by)?,
        }
    }
    Ok(())
}

fn flushed(record: &Record, view: ViewNumber, node: NodeId, step: Step) -> Result<(), String> {
    let made = last_contribution(record, node, step);
    let whole = made.is_some_and(|made| made.whole);
    if !whole || !made.is_some_and(|made| counts(record, made)) {
        return Err(format!(
            "view {view} says that node {node} flushed in step {step}, but that was {made:?}"
        ));
    }
    match applied_with(record, node).find(|applied| *applied > step) {
        Some(later) => Err(format!(
            "node {node} left after step {step}, but contributes to step {later}"
        )),
        None => Ok(()),
    }
}

fn kept(record: &Record, node: NodeId, by: NodeId) -> Result<(), String> {
    let taken = record.inherited.iter().rev().find(|it| it.by == by);
    let Some(Inherited { of, as_of, .. }) = taken.filter(|it| it.of == node) else {
        return Err(format!(
            "node {by} has not taken up the residual of node {node}"
        ));
    };
    let of_node = record.contributions.iter().filter(|made| made.node == node);
    let before = of_node.filter(|made| made.step < *as_of);
    for step in before.map(|made| made.step) {
        let last = last_contribution(record, node, step);
        if !last.is_some_and(|last| counts(record, last)) {
            return Err(format!(
                "node {by} goes on with the residual of node {of} after step {step}, which is void"
            ));
        }
    }
    match applied_with(record, node).find(|applied| applied >= as_of) {
        Some(step) => Err(format!(
            "node {by} goes on with the residual of node {of} before step {as_of}, but its \
             contribution to step {step} was applied"
        )),
        None => Ok(()),
    }
}

/// The contribution of a node to a step that it made last: earlier ones were void.
fn last_contribution(record: &Record, node: NodeId, step: Step) -> Option<&Contribution> {
    let made = record.contributions.iter().rev();
    let mut made = made.filter(|made| made.node == node && made.step == step);
    made.next()
}

/// Whether it has been applied for good.
fn counts(record: &Record, made: &Contribution) -> bool {
    applied_with(record, made.node).any(|step| step == made.step)
        && view_of(record, made.step) == Some(made.view)
}

/// Steps that have been applied for good with a contribution of the node.
fn applied_with(record: &Record, node: NodeId) -> impl Iterator<Item = Step> {
    let applied = record.applied.iter();
    let for_good = applied.filter(|it| view_of(record, it.step) == Some(it.view));
    let with = for_good.filter(move |it| it.frames.iter().any(|frame| frame.origin == node));
    with.map(|applied| applied.step)
}

/// The view that has made a step: the last that begins no later.
fn view_of(record: &Record, step: Step) -> Option<ViewNumber> {
    let mut views = record.durable.iter().rev().map(|(_, view)| view);
    let view = views.find(|view| view.first_step <= step);
    view.map(|view| view.number)
}
