//! A deterministic simulator of whole clusters.
//!
//! One seed decides everything: how many nodes there are and how fast, what their clocks show, when
//! they start, how long each message takes, which frames arrive twice, which come from strangers,
//! what breaks and when. The simulator drives the same machines as the real shells do, one
//! [`Coordinator`](crate::coordinator::Coordinator) and any number of
//! [`Node`](crate::node::Node)s, and judges the whole history after each event:
//!
//! ```text
//!   seed ─▶ scenario ─▶ world ── one happening ──▶ machines ── commands ──▶ world ─▶ record
//!             faults      ▲                                                  │         │
//!                         └──────────── queue of what is to come ◀───────────┘     invariants
//! ```
//!
//! What it takes for granted about the real world: a connection delivers in order what it delivers
//! (as TCP), but can break at any time and lose what is on its way; a node that is frozen finds
//! all that it missed when it thaws; frames that come before the view wait at the stream; an
//! operator starts a process that failed again, the coordinator too as a rule, until the run is over;
//! storage may be slow but does not lie, and what was being stored when its process died may be there. A replica is a hash chain over all that was ever applied, in order.
//!
//! Networks part for a while, or in one direction; what is sent meanwhile arrives later, as with TCP, unless
//! connections are given up.
//!
//! [`explore`] leaves nothing to chance: it takes every path through small worlds.
//!
//! Nothing here draws on time, threads, hashing or the machine. The only randomness is a
//! SplitMix64 of the seed.
//!
//! A [`Violation`] prints the command that shows it again, event by event. That the invariants can
//! fail is shown by planting each [`Bug`].

mod bug;
mod clock;
mod coordinator_shell;
mod explore;
mod fault;
mod invariants;
mod ledger;
mod network;
mod node_shell;
mod partition;
mod process;
mod queue;
mod random;
mod record;
mod replica;
mod scenario;
mod timing;
mod wires;
mod world;

use crate::id::Millis;

pub use bug::{Bug, BugError, Planted};
pub use explore::{Coverage, SMALL, Small, explore, retrace};
use world::World;

/// What is simulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Up to so many faults strike a run, and at least one; 0 for none.
    pub faults: u64,
    /// A mistake in the simulated shells.
    pub planted: Planted,
}

/// How a simulated run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// All members hold the same final replica.
    Completed,
    /// The coordinator ended it early.
    Failed,
    /// The coordinator crashed, and the nodes gave up.
    Orphaned,
}

/// A simulation in which every invariant held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// How the run ended.
    pub ended: Ended,
    /// Events that the machines have handled.
    pub events: u64,
    /// Simulated time.
    pub elapsed: Millis,
    /// Frames that counted.
    pub kept: u64,
    /// Frames that did not count.
    pub dropped: u64,
    /// Contributions that went back to a residual, as their step had gone on without them.
    pub taken_back: u64,
}

/// An invariant that did not hold.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{origin}, at {time} ms: {invariant}: {text}\nto see it: {command}")]
pub struct Violation {
    /// What was simulated, in words.
    pub origin: String,
    /// The command that simulates the same again and prints each event.
    pub command: String,
    /// When it was seen.
    pub time: Millis,
    /// The invariant.
    pub invariant: &'static str,
    /// How it does not hold.
    pub text: String,
}

/// The command that runs the simulator with these arguments.
fn command(planted: Planted, arguments: &str) -> String {
    let (feature, bug) = planted.words();
    format!("cargo run -p ecq-cluster{feature} --example simulate -- {arguments}{bug}")
}

/// Simulates one run.
pub fn simulate(seed: u64, options: Options) -> Result<Report, Violation> {
    run(seed, World::new(seed, options), &mut |_, _| ())
}

/// Simulates one run and shows what happens, with its time.
pub fn watch(
    seed: u64,
    options: Options,
    show: &mut dyn FnMut(Millis, &str),
) -> Result<Report, Violation> {
    let mut world = World::new(seed, options);
    world.shown = Some(Vec::new());
    run(seed, world, show)
}

fn run(
    seed: u64,
    mut world: World,
    show: &mut dyn FnMut(Millis, &str),
) -> Result<Report, Violation> {
    let Options { faults, planted } = world.options;
    loop {
        world.record.idle = !world.proceed();
        let judged = world.judge();
        for (time, what) in world.shown.iter_mut().flat_map(std::mem::take) {
            show(time, &what);
        }
        judged.map_err(|(invariant, text)| Violation {
            origin: format!("seed {seed}"),
            command: command(planted, &format!("--seed {seed} --faults {faults}")),
            time: world.record.now,
            invariant,
            text,
        })?;
        if world.record.over {
            return Ok(world.report());
        }
    }
}

#[cfg(test)]
mod planted_tests;
