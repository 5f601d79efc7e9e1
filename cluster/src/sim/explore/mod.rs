//! Small worlds, explored exhaustively: every order in which messages can arrive and work can be
//! done, and every point at which faults can strike.
//!
//! A small world is a [`World`] without chance. Time stands still while there is anything to deliver or
//! to do; what happens next is a choice. Connections deliver in order, everything else in any order. Only
//! when nothing else is left does time pass, until the next heartbeat or the end of a lease. The search goes depth first and
//! turns back where it has been: in a state whose [`fingerprint`](print::of) it knows.

mod moves;
mod print;
mod small;

use std::collections::HashSet;

use super::{Options, Planted, Violation, command};
use moves::{Move, State};
pub use small::{SMALL, Small};

/// States after which a search gives up: so large a world is not a small one.
const STATES_MAX: usize = 1_000_000;

/// How much there was to explore.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Different states.
    pub states: u64,
    /// Moves from one to another.
    pub moves: u64,
    /// Moves with which a run was over.
    pub ends: u64,
    /// Length of the longest path.
    pub depth: usize,
    /// Whether the search has come to its end, and was not given up for the number of states.
    pub complete: bool,
}

/// A state on the way and the moves from it; those before `next` are explored.
struct Stop {
    state: State,
    moves: Vec<Move>,
    next: usize,
}

impl Stop {
    fn new(state: State) -> Self {
        Self {
            moves: state.moves(),
            state,
            next: 0,
        }
    }
}

/// Explores every path of a small world.
pub fn explore(small: &Small, planted: Planted) -> Result<Coverage, Violation> {
    let mut coverage = Coverage::default();
    let mut state = small.state(options(planted));
    let mut seen = HashSet::from([print::of(&mut state, None)]);
    let mut path = vec![Stop::new(state)];
    while let Some(stop) = path.last_mut() {
        if seen.len() > STATES_MAX {
            break;
        }
        let Some(choice) = stop.moves.get(stop.next) else {
            path.pop();
            continue;
        };
        stop.next += 1;
        let mut state = stop.state.clone();
        let site = state.site(choice);
        state.make(choice);
        coverage.moves += 1;
        coverage.depth = coverage.depth.max(path.len());
        judge(&mut state, small, planted, || {
            path.iter().map(|stop| stop.next - 1).collect()
        })?;
        if state.world.record.over {
            coverage.ends += 1;
        } else if seen.insert(print::of(&mut state, site)) {
            path.push(Stop::new(state));
        }
    }
    coverage.complete = path.is_empty();
    coverage.states = seen.len() as u64;
    Ok(coverage)
}

/// Takes one path through a small world and shows what happens.
pub fn retrace(
    small: &Small,
    planted: Planted,
    path: &[usize],
    show: &mut dyn FnMut(&str),
) -> Result<(), Violation> {
    let mut state = small.state(options(planted));
    state.world.shown = Some(Vec::new());
    for (length, choice) in (1..).zip(path) {
        if let Some(choice) = state.moves().get(*choice) {
            show(&format!("{choice:?}"));
            state.make(choice);
        }
        let judged = judge(&mut state, small, planted, || path[..length].to_vec());
        for (_, what) in state.world.shown.iter_mut().flat_map(std::mem::take) {
            show(&what);
        }
        judged?;
    }
    Ok(())
}

fn options(planted: Planted) -> Options {
    Options { faults: 0, planted }
}

fn judge(
    state: &mut State,
    small: &Small,
    planted: Planted,
    path: impl FnOnce() -> Vec<usize>,
) -> Result<(), Violation> {
    let world = &mut state.world;
    world.record.idle = world.queue.iter().next().is_none();
    world.judge().map_err(|(invariant, text)| {
        let name = small.name;
        let path: Vec<String> = path().iter().map(usize::to_string).collect();
        let path = path.join(".");
        Violation {
            origin: format!("a path through {name}"),
            command: command(planted, &format!("--explore {name} --path {path}")),
            time: world.record.now,
            invariant,
            text,
        }
    })
}

#[cfg(test)]
mod tests;
