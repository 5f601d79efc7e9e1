//! Faults on purpose: `ecq launch --chaos kill=0.02,freeze=0.01,leave=0.01,coordinator=0.01,seed=7`.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use ecq_cluster::Rank;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rustix::process::{Pid, Signal, kill_process};

/// How often faults are drawn.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);
/// How long a node that has ended is away.
const AWAY: Duration = Duration::from_millis(500);
/// How long a node has to come back before it can be struck again.
const RECOVERY: Duration = Duration::from_secs(3);
/// How long after that it is counted on to be a member, on a busy machine too.
const SEASON: Duration = Duration::from_secs(12);

/// How often faults strike: the chance of each, a node and second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ChaosSpec {
    /// SIGKILL, and the node is started again.
    kill: f64,
    /// SIGSTOP for up to two leases.
    freeze: f64,
    /// SIGTERM, and the node is started again.
    leave: f64,
    /// SIGKILL, and the coordinator is started again.
    coordinator: f64,
    seed: u64,
}

/// A text that is no such specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; expected such as kill=0.02,freeze=0.01,leave=0.01,coordinator=0.01,seed=7 (chances a node, or \
     for the coordinator, and second)"
)]
pub struct ChaosError(String);

impl FromStr for ChaosSpec {
    type Err = ChaosError;

    fn from_str(text: &str) -> Result<Self, ChaosError> {
        let mut spec = Self::default();
        for part in text.split(',') {
            let (key, value) = part
                .split_once('=')
                .ok_or_else(|| ChaosError(format!("{part:?} is no key=value")))?;
            let wrong = || ChaosError(format!("{key}={value:?} is out of its range"));
            let chance = || -> Result<f64, ChaosError> {
                let chance = value.parse().ok();
                chance
                    .filter(|chance| (0.0..=1.0).contains(chance))
                    .ok_or_else(wrong)
            };
            match key {
                "kill" => spec.kill = chance()?,
                "freeze" => spec.freeze = chance()?,
                "leave" => spec.leave = chance()?,
                "seed" => spec.seed = value.parse().map_err(|_| wrong())?,
                "coordinator" => spec.coordinator = chance()?,
                _ => return Err(ChaosError(format!("there is no fault {key:?}"))),
            }
        }
        Ok(spec)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Freeze,
    Leave,
}

/// What has been done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    kills: u32,
    freezes: u32,
    leaves: u32,
    coordinators: u32,
}

/// Who has been struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Struck {
    Node(Rank),
    Coordinator,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            kills,
            freezes,
            leaves,
            coordinators,
        } = self;
        write!(
            f,
            "{kills} kills, {freezes} freezes, {leaves} leaves, {coordinators} kills of the coordinator"
        )
    }
}

/// Whoever strikes.
pub(super) struct Chaos {
    spec: ChaosSpec,
    random: ChaCha8Rng,
    lease: Duration,
    /// Nodes that have been struck, and until when they are left alone, the last time.
    struck: BTreeMap<Rank, Instant>,
    frozen: Vec<(Instant, Pid)>,
    away: Vec<(Instant, Struck)>,
    /// Until when the coordinator is left alone, which has been struck.
    coordinator: Option<Instant>,
    pub(super) tally: Tally,
}

impl Chaos {
    pub(super) fn new(spec: ChaosSpec, lease: Duration) -> Self {
        Self {
            spec,
            random: ChaCha8Rng::seed_from_u64(spec.seed),
            lease,
            struck: BTreeMap::new(),
            frozen: Vec::new(),
            away: Vec::new(),
            coordinator: None,
            tally: Tally::default(),
        }
    }

    /// Thaws whose time has come, strikes among the `nodes`, and says which to start again. At least one
    /// member is always left alone: with the last one the run would end.
    pub(super) fn strike(
        &mut self,
        now: Instant,
        nodes: &BTreeMap<Rank, u32>,
        coordinator: Option<u32>,
    ) -> Vec<Struck> {
        for (_, pid) in self.frozen.extract_if(.., |(until, _)| *until <= now) {
            let _gone_meanwhile = kill_process(pid, Signal::CONT);
        }
        for (rank, pid) in nodes {
            let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) else {
                continue;
            };
            let mut others = nodes.keys().filter(|other| *other != rank);
            let member_left = others.any(|other| self.stands(*other, now, SEASON));
            if !member_left || !self.stands(*rank, now, Duration::ZERO) {
                continue;
            }
            if let Some(fault) = self.draw() {
                self.hit(now, *rank, pid, fault);
            }
        }
        self.strike_coordinator(now, coordinator);
        let back = self.away.extract_if(.., |(until, _)| *until <= now);
        back.map(|(_, who)| who).collect()
    }

    /// Whether a node has not been struck, or has been left alone again for so long.
    fn stands(&self, rank: Rank, now: Instant, time: Duration) -> bool {
        let until = self.struck.get(&rank);
        until.is_none_or(|until| *until + time <= now)
    }

    fn strike_coordinator(&mut self, now: Instant, process: Option<u32>) {
        if self.spec.coordinator == 0.0 || self.coordinator.is_some_and(|until| until > now) {
            return;
        }
        self.coordinator = None;
        let pid = process.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let drawn = self.uniform() / INTERVAL.as_secs_f64() < self.spec.coordinator;
        if let Some(pid) = pid.filter(|_| drawn)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            self.tally.coordinators += 1;
            self.coordinator = Some(now + AWAY + self.lease + RECOVERY);
            tracing::info!("chaos: Kill the coordinator (so far {})", self.tally);
        }
    }

    fn hit(&mut self, now: Instant, rank: Rank, pid: Pid, fault: Fault) {
        let (signal, time) = match fault {
            Fault::Kill => (Signal::KILL, AWAY),
            Fault::Leave => (Signal::TERM, AWAY),
            Fault::Freeze => (Signal::STOP, self.lease.mul_f64(2.0 * self.uniform())),
        };
        if kill_process(pid, signal).is_err() {
            return; // It has ended by itself.
        }
        match fault {
            Fault::Kill => self.tally.kills += 1,
            Fault::Leave => self.tally.leaves += 1,
            Fault::Freeze => {
                self.tally.freezes += 1;
                self.frozen.push((now + time, pid));
            }
        }
        tracing::info!("chaos: {fault:?} node {rank} (so far {})", self.tally);
        self.struck.insert(rank, now + time + self.lease + RECOVERY);
    }

    /// Whether somebody who has ended was struck, and is to be started again in a while.
    pub(super) fn has_struck(&mut self, now: Instant, who: Struck) -> bool {
        let struck = match who {
            Struck::Node(rank) => !self.stands(rank, now, Duration::ZERO),
            Struck::Coordinator => self.coordinator.is_some(),
        };
        if struck {
            self.away.push((now + AWAY, who));
        }
        struck
    }

    fn draw(&mut self) -> Option<Fault> {
        let mut chance = self.uniform() / INTERVAL.as_secs_f64();
        for (fault, rate) in [
            (Fault::Kill, self.spec.kill),
            (Fault::Freeze, self.spec.freeze),
            (Fault::Leave, self.spec.leave),
        ] {
            if chance < rate {
                return Some(fault);
            }
            chance -= rate;
        }
        None
    }

    fn uniform(&mut self) -> f64 {
        f64::from(self.random.next_u32()) / 4_294_967_296.0
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        for (_, pid) in &self.frozen {
            let _gone_meanwhile = kill_process(*pid, Signal::CONT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn specifications_are_read_and_others_refused() {
        let spec: ChaosSpec = "kill=0.5,leave=1,seed=7".parse().expect("it is one");
        let expected = ChaosSpec {
            kill: 0.5,
            freeze: 0.0,
            leave: 1.0,
            coordinator: 0.0,
            seed: 7,
        };
        assert_eq!(spec, expected);
        for (text, part) in [
            ("kill", "no key=value"),
            ("kill=2", "out of its range"),
            ("kill=NaN", "out of its range"),
            ("burn=0.1", "no fault \"burn\""),
            ("coordinator=1.1", "out of its range"),
        ] {
            let error = text.parse::<ChaosSpec>().expect_err(text).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn who_was_struck_is_no_member_for_a_while() {
        let spec = "kill=1,seed=3".parse().expect("it is one");
        let mut chaos = Chaos::new(spec, Duration::from_secs(1));
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        chaos.struck = BTreeMap::from([(0, at(10)), (1, at(20))]);
        assert!(
            !chaos.stands(0, at(9), Duration::ZERO),
            "it has been struck"
        );
        assert!(chaos.stands(0, at(10), Duration::ZERO));
        assert!(
            !chaos.stands(0, at(20), SEASON),
            "it may not be a member yet"
        );
        assert!(chaos.stands(0, at(22), SEASON));
        assert!(chaos.stands(2, start, SEASON), "it never was");
    }

    #[test]
    fn faults_are_drawn_as_often_as_they_should_be() {
        let spec = "kill=0.2,freeze=0.1,seed=3".parse().expect("it is one");
        let mut chaos = Chaos::new(spec, Duration::from_secs(1));
        let draws: Vec<Option<Fault>> = (0..100_000).map(|_| chaos.draw()).collect();
        let count = |fault| draws.iter().filter(|drawn| **drawn == fault).count() as f64;
        // Ten draws a second.
        assert!((count(Some(Fault::Kill)) / 2000.0 - 1.0).abs() < 0.1);
        assert!((count(Some(Fault::Freeze)) / 1000.0 - 1.0).abs() < 0.15);
        assert_eq!(count(Some(Fault::Leave)), 0.0);
    }
}
