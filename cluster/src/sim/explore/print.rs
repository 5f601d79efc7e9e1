//! The fingerprint of a state: equal for states from which the same can follow.
//!
//! It covers all that machines and shells hold, what is on its way, and of the past what an invariant may
//! still look at. It does not cover in which order independent things have come about.

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Write};

use crate::id::{Digest, NodeId};
use crate::sim::queue::Place;
use crate::sim::random::mix;
use crate::sim::record::Record;
use crate::sim::world::{COORDINATOR, Happening, World};

use super::moves::{State, waits};

/// FNV-1a of what is written to it.
struct Hasher(u64);

impl Write for Hasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}

/// The hash of a value's debug text, which has all its fields: none can be forgotten.
fn hash(value: impl Debug) -> u64 {
    let mut hasher = Hasher(0xcbf2_9ce4_8422_2325);
    // Invariant: this writer never fails.
    let _ = write!(hasher, "{value:?}");
    mix(hasher.0)
}

/// Hashes of what seldom changes, as it was last.
#[derive(Clone, Default)]
pub(super) struct Known {
    coordinator: u64,
    processes: BTreeMap<NodeId, u64>,
    planned: BTreeMap<Place, u64>,
}

/// The fingerprint of a state in which only what belongs to `changed` is not as it was last, or
/// everything.
pub(super) fn of(state: &mut State, changed: Option<NodeId>) -> u64 {
    let State { world, known, .. } = state;
    if changed.is_none_or(|site| site == COORDINATOR) {
        known.coordinator = hash((&world.coordinator, &world.storing));
    }
    for (node, process) in &world.processes {
        if changed.is_none_or(|site| site == *node) {
            known.processes.insert(*node, hash((node, process)));
        }
    }
    known
        .planned
        .retain(|place, _| world.queue.get(*place).is_some());
    for (place, planned) in world.queue.iter() {
        known.planned.entry(place).or_insert_with(|| hash(planned));
    }
    let machines = (
        known.coordinator,
        known
            .processes
            .values()
            .fold(0, |sum: u64, it| sum.wrapping_add(*it)),
        world.wires.all(),
        (state.faults, world.restarts, world.resumes),
    );
    hash((machines, past(&world.record), on_its_way(world, known)))
}

/// What invariants may still look at.
fn past(record: &Record) -> impl Debug {
    let applied = record.applied.iter();
    let applied =
        applied.map(|it| mix(word(&it.digest) ^ mix(it.node ^ it.view << 16 ^ it.step << 32)));
    let fetched = record.fetched.iter();
    let fetched = fetched.map(|it| mix(word(&it.digest) ^ mix(!(it.node ^ it.next << 32))));
    let views = record.durable.last().map(|(_, view)| hash(view));
    let firsts = record.durable.iter().map(|(_, view)| view.first_step);
    let lives = record.nodes.iter().map(|life| hash(&life.ended));
    let accounts = record.ledger.accounts().map(|(node, account)| {
        let void = account.contributions.iter().map(|it| it.void);
        let void = void.fold(1_u64, |bits, void| bits << 1 | u64::from(void));
        mix(account.residual ^ mix(void ^ node << 32))
    });
    let sum = |sum: u64, it: u64| sum.wrapping_add(it);
    let legacies = record.legacies.iter().map(hash);
    let residuals = legacies.chain(record.inherited.iter().map(hash));
    (
        (
            applied.fold(0, sum),
            fetched.fold(0, sum),
            accounts.fold(0, sum),
            record.contributions.iter().map(hash).fold(0, sum),
            residuals.fold(0, sum),
        ),
        (
            firsts.collect::<Vec<_>>(),
            views,
            lives.fold(0, |all, it| mix(all ^ it)),
        ),
        (
            hash(&record.outcome),
            (&record.struck, &record.unannounced),
            record.changing,
            record.resumed,
        ),
    )
}

fn word(digest: &Digest) -> u64 {
    let word = digest.0.first_chunk().copied();
    u64::from_le_bytes(word.unwrap_or_default())
}

fn on_its_way(world: &World, known: &Known) -> impl Debug {
    let mut wires: BTreeMap<_, u64> = BTreeMap::new();
    let mut loose = 0_u64;
    for (place, planned) in world.queue.iter() {
        let hash = known.planned.get(&place).copied().unwrap_or_default();
        match planned {
            planned if waits(planned) => {}
            Happening::Arrive {
                ticket: Some(ticket),
                ..
            } => {
                let wire = wires.entry((ticket.from, ticket.to)).or_default();
                *wire = mix(wire.rotate_left(1) ^ hash);
            }
            _ => loose = loose.wrapping_add(hash),
        }
    }
    (wires, loose)
}
