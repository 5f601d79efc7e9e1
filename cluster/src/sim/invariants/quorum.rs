//! Quorum: no step goes on with fewer contributions than it must have, none leaves out a member too often in a
//! row, and the first of a view nobody.

use crate::id::Step;
use crate::quorum::LEFT_OUT_MAX;
use crate::sim::record::Record;

pub(super) fn check(record: &Record) -> Result<(), String> {
    let Some(quorum) = record.quorum else {
        return Ok(());
    };
    for (applied, _) in record.fresh_applied() {
        let (step, node) = (applied.step, applied.node);
        let Some(view) = record.view(applied.view) else {
            continue;
        };
        let ranks = record.ranks(view, step).unwrap_or_default();
        if ranks.len() < quorum.least_of(view.size()) as usize {
            return Err(format!(
                "node {node} applies step {step} of {ranks:?} alone, where it takes {}",
                quorum.least
            ));
        }
        let first = step.saturating_sub(LEFT_OUT_MAX).max(view.first_step);
        let part_of = |step: Step, rank| {
            let ranks = record.decided.get(&(view.number, step));
            ranks.is_some_and(|ranks| ranks.contains(&rank))
        };
        let starves = |rank: &u32| !(first..=step).any(|step| part_of(step, *rank));
        if let Some(rank) = (0..view.size()).find(starves) {
            return Err(format!(
                "step {step} goes on without rank {rank}, of which no step since {first} has been"
            ));
        }
    }
    Ok(())
}
