//! What goes wrong.

use crate::id::Millis;

use super::partition::Partition;
use super::random::SplitMix64;
use super::timing::{AWAY, FREEZE};

/// A fault. Victims are drawn as numbers and picked from whoever is there when it strikes.
#[derive(Clone, Debug)]
pub(super) enum Fault {
    /// A node's process dies; if `silent` its machine too, and nobody hears of it.
    Crash { victim: u64, silent: bool },
    /// A node's process stands still for a while.
    Freeze { victim: u64, time: Millis },
    /// The coordinator's process stands still for a while.
    FreezeCoordinator { time: Millis },
    /// A node's session breaks, and what is on its way is lost.
    CutSession { victim: u64 },
    /// A stream between two nodes breaks; what is on its way may be lost.
    CutStream { victim: u64, lose: bool },
    /// A node is told to stop, or cannot go on.
    Leave { victim: u64 },
    /// Somebody ends the run.
    Stop,
    /// The coordinator's process dies, and may be started again after a while.
    /// The view that it was storing is stored or not.
    CrashCoordinator { back: Option<Millis>, stored: bool },
    /// The network falls apart.
    Partition(Partition),
    /// A machine's clock jumps ahead, as after a migration: that of a node or of the coordinator.
    ClockJump { victim: u64, ahead: Millis },
}

impl Fault {
    pub(super) fn draw(random: &mut SplitMix64) -> Self {
        let victim = random.next();
        match random.within(&(0..=20)) {
            0..=2 => Self::Crash {
                victim,
                silent: false,
            },
            3..=4 => Self::Crash {
                victim,
                silent: true,
            },
            5..=7 => Self::Freeze {
                victim,
                time: random.within(&FREEZE),
            },
            8 => Self::FreezeCoordinator {
                time: random.within(&FREEZE),
            },
            9..=10 => Self::CutSession { victim },
            11..=12 => Self::CutStream {
                victim,
                lose: random.one_in(2),
            },
            13 => Self::Leave { victim },
            14 => Self::Stop,
            15..=18 => Self::Partition(Partition::draw(random)),
            19 => Self::ClockJump {
                victim,
                ahead: random.within(&FREEZE),
            },
            _ => Self::CrashCoordinator {
                back: (!random.one_in(4)).then(|| random.within(&AWAY)),
                stored: random.one_in(2),
            },
        }
    }
}
