//! What a seed decides before anything happens.

use crate::config::RunConfig;
use crate::id::{Millis, NodeId, Rank, Step};
use crate::message::{Hello, Residual};
use crate::quorum::LEFT_OUT_MAX;

use super::clock::Clock;
use super::fault::Fault;
use super::random::SplitMix64;
use super::timing::{self, FREEZE, PACE, QUORUM_WAIT, START};

/// How a node's process is started.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    pub(super) run: Option<String>,
    pub(super) version: &'static str,
    pub(super) rank: Option<Rank>,
    pub(super) observe: bool,
    /// What it has kept of its last life.
    pub(super) residual: Option<Residual>,
    /// How many times as long as others the node takes.
    pub(super) pace: u64,
    pub(super) clock: Clock,
}

impl Launch {
    /// Whether it can be a member of the run.
    pub(super) fn trains(&self, config: &RunConfig) -> bool {
        let right = self.run.as_deref().is_none_or(|run| run == config.name);
        let rank = self.rank.is_none_or(|rank| rank < config.nodes);
        right && rank && self.version == VERSION && !self.observe
    }

    pub(super) fn hello(&self, node: NodeId) -> Hello {
        Hello {
            run: self.run.clone(),
            rank: self.rank,
            version: self.version.to_owned(),
            address: format!("node-{node}"),
            observe: self.observe,
            residual: self.residual,
        }
    }
}

/// A run and everything that will disturb it.
#[derive(Clone, Debug)]
pub(super) struct Scenario {
    pub(super) config: RunConfig,
    pub(super) steps: Step,
    /// Frames of a contribution.
    pub(super) buckets: u32,
    pub(super) launches: Vec<(Millis, Launch)>,
    pub(super) faults: Vec<(Millis, Fault)>,
}

pub(super) const RUN: &str = "simulated";
pub(super) const VERSION: &str = "1.0.0";

const NODES_MAX: u64 = 5;
const STEPS_MAX: u64 = 8;
/// Steps of a run of slow nodes, which has time to heal.
const STEPS_LONG: u64 = 60;
/// When faults strike it.
const BUSY_LONG: Millis = 1500;
const BUCKETS_MAX: u32 = 3;

impl Scenario {
    /// A run that 1 to `faults` faults will strike, or none if that is 0.
    pub(super) fn draw(random: &mut SplitMix64, faults: u64) -> Self {
        let nodes = random.within(&(1..=NODES_MAX)) as u32;
        let long = random.one_in(32);
        let quorum = random.one_in(2).then(|| {
            let least = random.within(&(1..=u64::from(nodes))) as u32;
            (least, random.within(&QUORUM_WAIT) as f64 / 1e3)
        });
        // So many that late members come to the end of what is granted them.
        let more = 2 * LEFT_OUT_MAX * Step::from(quorum.is_some());
        let steps = match long {
            true => STEPS_LONG,
            false => random.within(&(1..=STEPS_MAX + more)),
        };
        let buckets = random.within(&(1..=u64::from(BUCKETS_MAX))) as u32;
        let mut launches = launches(random, nodes);
        if long {
            let slow = *PACE.end();
            launches.iter_mut().for_each(|(_, it)| it.pace = slow);
        }
        let busy = match long {
            true => BUSY_LONG,
            false => START.end() + 100 * steps, // Most runs are over by then.
        };
        let count = if faults == 0 {
            0
        } else {
            random.within(&(1..=faults))
        };
        let strike = |_| (random.within(&(0..=busy)), Fault::draw(random));
        Self {
            faults: (0..count).map(strike).collect(),
            config: RunConfig {
                quorum: quorum.map(|(least, _)| least),
                quorum_wait: quorum.map_or(0.0, |(_, wait)| wait),
                ..config(
                    nodes,
                    random.within(&(1..=u64::from(nodes))) as u32,
                    steps,
                    random.within(&(1..=4)),
                )
            },
            steps,
            buckets,
            launches,
        }
    }

    /// The time at which any run must have ended.
    pub(super) fn end_max(&self) -> Millis {
        let starts = self.launches.iter().map(|(time, _)| *time);
        let faults = self.faults.iter().map(|(time, _)| time + FREEZE.end());
        starts.chain(faults).max().unwrap_or(0) + timing::run_max(self.steps)
    }
}

/// As many sound nodes as the run needs, and now and then one that is too many or mistaken.
fn launches(random: &mut SplitMix64, nodes: u32) -> Vec<(Millis, Launch)> {
    let sound = |random: &mut SplitMix64, rank| Launch {
        run: random.one_in(2).then(|| RUN.to_owned()),
        version: VERSION,
        rank,
        observe: false,
        residual: None,
        pace: if random.one_in(6) {
            random.within(&PACE)
        } else {
            1
        },
        clock: Clock::draw(random),
    };
    let mut launches: Vec<Launch> = (0..nodes)
        .map(|rank| {
            let rank = random.one_in(3).then_some(rank);
            sound(random, rank)
        })
        .collect();
    let odd = sound(random, None);
    match random.within(&(0..=7)) {
        0 => launches.push(odd),
        1 => launches.push(Launch {
            run: Some("another".into()),
            ..odd
        }),
        2 => launches.push(Launch {
            version: "0.9.0",
            ..odd
        }),
        3 => launches.push(Launch {
            rank: Some(nodes),
            ..odd
        }),
        _ => {}
    }
    for _ in 0..random.within(&(0..=3)).saturating_sub(1) {
        launches.push(Launch {
            observe: true,
            ..sound(random, None)
        });
    }
    let start = |launch| (random.within(&START), launch);
    launches.into_iter().map(start).collect()
}

pub(super) fn config(nodes: u32, min_nodes: u32, steps: Step, digest_every: Step) -> RunConfig {
    RunConfig {
        name: RUN.into(),
        nodes,
        min_nodes,
        data: "none".into(),
        data_dir: None,
        model: "hash chain".into(),
        hidden: Vec::new(),
        codec: "none".into(),
        steps: Some(steps),
        epochs: None,
        batch_size: 1,
        global_batch: None,
        lr: 1.0,
        lr_schedule: "constant".into(),
        momentum: 0.0,
        seed: 0,
        digest_every,
        record: false,
        quorum: None,
        quorum_wait: 0.0,
        lease_seconds: timing::LEASE as f64 / 1e3,
        checkpoint_every: None,
        keep_checkpoints: 2,
    }
}
