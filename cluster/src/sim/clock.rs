//! Clocks that neither agree nor go equally fast.

use crate::id::Millis;

use super::random::SplitMix64;
use super::timing::DRIFT;

const MILLION: u64 = 1_000_000;

/// The clock of one machine.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    offset: Millis,
    /// Own milliseconds in a million true ones.
    rate: u64,
}

impl Clock {
    /// A clock that is always right.
    pub(super) fn exact() -> Self {
        Self {
            offset: 0,
            rate: MILLION,
        }
    }

    pub(super) fn draw(random: &mut SplitMix64) -> Self {
        Self {
            offset: random.within(&(0..=MILLION)),
            rate: random.within(&(MILLION - DRIFT..=MILLION + DRIFT)),
        }
    }

    pub(super) fn jump(&mut self, ahead: Millis) {
        self.offset += ahead;
    }

    /// What the clock shows at a true time.
    pub(super) fn shows(&self, time: Millis) -> Millis {
        self.offset + time * self.rate / MILLION
    }

    /// The first true time at which the clock shows `reading`.
    pub(super) fn when(&self, reading: Millis) -> Millis {
        let elapsed = reading.saturating_sub(self.offset);
        (elapsed * MILLION).div_ceil(self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_shows_a_reading_when_it_says_and_not_before() {
        let mut random = SplitMix64::new(3);
        for _ in 0..100 {
            let clock = Clock::draw(&mut random);
            let reading = clock.offset + random.within(&(1..=100_000));
            let time = clock.when(reading);
            assert!(clock.shows(time) >= reading && clock.shows(time - 1) < reading);
        }
    }
}
