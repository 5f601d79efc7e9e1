//! The worlds that are small enough.

use crate::id::Step;
use crate::sim::Options;
use crate::sim::clock::Clock;
use crate::sim::process::{Order, Process};
use crate::sim::random::Chance;
use crate::sim::scenario::{self, Launch, Scenario};
use crate::sim::world::World;

use super::moves::State;
use super::print::Known;

/// What can strike a small world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Harm {
    /// A node's process dies.
    Crash,
    /// That of the node that came last.
    CrashLast,
    /// So does its machine, and nobody hears of it.
    Vanish,
    /// A node is told to stop.
    Leave,
    /// A session breaks.
    CutSession,
    /// A stream breaks.
    CutStream,
    /// The coordinator's process dies and is started again.
    CrashCoordinator,
}

/// Where a search begins.
#[derive(Debug)]
enum Begin {
    /// All processes have just been started.
    Greeting,
    /// All members have the first view.
    View,
    /// All members compute their first contribution.
    Training,
}

/// A world with few nodes, steps and faults.
#[derive(Debug)]
pub struct Small {
    /// Its name.
    pub name: &'static str,
    nodes: u32,
    steps: Step,
    /// How many faults strike, at most.
    faults: u64,
    harms: &'static [Harm],
    /// How many times a process is started again, at most.
    restarts: u64,
    begin: Begin,
}

/// Everything.
const ALL_HARMS: &[Harm] = &[
    Harm::Crash,
    Harm::Vanish,
    Harm::Leave,
    Harm::CutSession,
    Harm::CutStream,
    Harm::CrashCoordinator,
];

/// All of them.
pub const SMALL: [Small; 5] = [
    Small {
        // How nodes come together.
        name: "beginning",
        nodes: 3,
        steps: 2,
        faults: 0,
        harms: &[],
        restarts: 0,
        begin: Begin::Greeting,
    },
    Small {
        // The coordinator dies while nodes come together, and they come again.
        name: "again",
        nodes: 2,
        steps: 1,
        faults: 1,
        harms: &[Harm::CrashCoordinator],
        restarts: 2,
        begin: Begin::Greeting,
    },
    Small {
        // Whatever strikes, once.
        name: "pair",
        nodes: 2,
        steps: 1,
        faults: 1,
        harms: ALL_HARMS,
        restarts: 0,
        begin: Begin::View,
    },
    Small {
        // A fault while the last one is dealt with.
        name: "twice",
        nodes: 2,
        steps: 1,
        faults: 2,
        harms: &[Harm::Crash, Harm::CrashCoordinator],
        restarts: 0,
        begin: Begin::Training,
    },
    Small {
        // A node is lost and comes back.
        name: "return",
        nodes: 2,
        steps: 1,
        faults: 1,
        harms: &[Harm::CrashLast],
        restarts: 1,
        begin: Begin::Training,
    },
];

impl Small {
    /// The world with this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        const ALL: &[Small] = &SMALL;
        ALL.iter().find(|small| small.name == name)
    }

    /// Where the search begins.
    pub(super) fn state(&self, options: Options) -> State {
        let launch = |rank| Launch {
            run: None,
            version: scenario::VERSION,
            rank: Some(rank),
            observe: false,
            residual: None,
            pace: 1,
            clock: Clock::exact(),
        };
        let scenario = Scenario {
            config: scenario::config(self.nodes, 1, self.steps, 1),
            steps: self.steps,
            buckets: 1,
            launches: (0..self.nodes).map(|rank| (0, launch(rank))).collect(),
            faults: Vec::new(),
        };
        let mut world = World::of(scenario, options, Clock::exact(), Chance::Fixed);
        world.record.faulty = self.faults > 0;
        world.restarts = Some(self.restarts);
        let nodes = self.nodes as usize;
        let computes =
            |process: &Process| matches!(process.lanes[0].front(), Some(Order::Compute { .. }));
        let there = |world: &World| match self.begin {
            Begin::Greeting => world.record.nodes.len() == nodes,
            Begin::View => world.record.installed.len() == nodes,
            Begin::Training => {
                let mut processes = world.processes.values();
                processes.len() == nodes && processes.all(computes)
            }
        };
        let mut state = State {
            world,
            faults: 0,
            harms: self.harms,
            known: Known::default(),
        };
        while !there(&state.world)
            && let Some(first) = state.moves().first()
        {
            state.make(first);
        }
        state.world.record.settle();
        state.faults = self.faults;
        state
    }
}
