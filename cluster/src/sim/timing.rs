//! How long things take in the simulated world, in milliseconds.

use std::ops::RangeInclusive;

use crate::id::{Millis, Step};

/// A message on its way, or the news that a connection broke.
pub(super) const DELAY: RangeInclusive<Millis> = 0..=40;
/// A copy of a frame, or a stranger's, on its way.
pub(super) const STRAY: RangeInclusive<Millis> = 0..=250;
/// Loading data and initialising the replica.
pub(super) const PREPARE: RangeInclusive<Millis> = 1..=200;
/// Storing a view durably.
pub(super) const PERSIST: RangeInclusive<Millis> = 0..=200;
/// Computing a contribution at pace 1.
pub(super) const COMPUTE: RangeInclusive<Millis> = 1..=20;
/// Applying a step at pace 1.
pub(super) const APPLY: RangeInclusive<Millis> = 1..=10;
/// How long a step waits for late members once it has its quorum.
pub(super) const QUORUM_WAIT: RangeInclusive<Millis> = 0..=60;
/// A snapshot on its way.
pub(super) const SNAPSHOT: RangeInclusive<Millis> = 1..=200;
/// Evaluating and handing over the model.
pub(super) const DELIVER: RangeInclusive<Millis> = 1..=100;
/// How many times as long as others a slow node takes.
pub(super) const PACE: RangeInclusive<u64> = 2..=10;
/// Between the start of the first and the last process of a run.
pub(super) const START: RangeInclusive<Millis> = 0..=500;
/// How long an operator takes to start a process again.
pub(super) const RESTART: RangeInclusive<Millis> = 10..=300;
/// How long a process is frozen: up to several leases.
pub(super) const FREEZE: RangeInclusive<Millis> = 20..=2500;
/// How long it takes until a connection over which nothing comes is given up.
pub(super) const NOTICE: RangeInclusive<Millis> = 50..=1500;
/// How long a node tries to reach a peer that does not answer.
pub(super) const CONNECT: Millis = 400;
/// Between a node's attempts to reach a coordinator that has gone away.
pub(super) const RECONNECT: RangeInclusive<Millis> = 10..=150;
/// How long it tries.
pub(super) const PATIENCE: Millis = 2000;
/// How long a coordinator's process is away before it is started again: what it was storing is stored
/// or lost, and nothing that was sent to it is still on its way.
pub(super) const AWAY: RangeInclusive<Millis> = 250..=1200;
/// Silence after which a node is lost.
pub(super) const LEASE: Millis = 600;
/// A node speaks at least this often.
pub(super) const HEARTBEAT: Millis = 100;
/// How much faster or slower than true time a clock may go, in parts per million.
pub(super) const DRIFT: u64 = 20_000;

/// Time within which the loss of a member is known to the coordinator: the lease on the slowest
/// clock, and the last words before it.
pub(super) const LOSS_MAX: Millis = LEASE + LEASE / 20 + 4 * *DELAY.end();

/// Time within which a change of view is stored, once it is known who is lost.
pub(super) const CHANGE_MAX: Millis = 2 * *PERSIST.end() + 4 * *DELAY.end();

/// Time within which a node knows that the run has ended: it says hello, and has its answer.
pub(super) const NEWS_MAX: Millis = 3 * *DELAY.end();

/// Longest time from the moment at which a view begins to change, a coordinator that stood still goes
/// on, or another member is lost meanwhile, to the moment at which the next view is announced.
pub(super) const CHANGING_MAX: Millis = LOSS_MAX + CHANGE_MAX;

/// Longest time until a lost node is noticed, and started again by its operator.
const fn replace_max() -> Millis {
    LOSS_MAX + CONNECT + 2 * (*RESTART.end() + NEWS_MAX)
}

/// Longest time that a node needs to be ready.
const fn prepare_max() -> Millis {
    *PREPARE.end() + *PERSIST.end() + 4 * *DELAY.end()
}

/// Longest time that a step takes, where a late member may have to end what it is at first.
const fn step_max() -> Millis {
    let slow = *PACE.end() * (*COMPUTE.end() + *APPLY.end());
    2 * (slow + *DELAY.end()) + *QUORUM_WAIT.end()
}

/// Longest time from being ready to being a member.
const fn join_max() -> Millis {
    CHANGE_MAX + CONNECT + *SNAPSHOT.end() + 2 * step_max() + 4 * *DELAY.end()
}

/// Longest time after the last fault without a new step or a new view.
pub(super) const fn still_max() -> Millis {
    replace_max() + prepare_max() + join_max()
}

/// Longest time after the last fault until all nodes are members.
pub(super) const fn heal_max() -> Millis {
    still_max() + join_max()
}

/// Longest that a run of `steps` steps takes from the moment at which all processes are started and
/// nothing is disturbed any more: lost nodes are noticed, come back and catch up, views change until
/// all are members, and everything is slow.
pub(super) fn run_max(steps: Step) -> Millis {
    let changes = 6 * still_max();
    changes + (steps + 1) * step_max() + DELIVER.end() + LOSS_MAX + NEWS_MAX
}
