//! The simulator's only source of randomness.

use std::ops::RangeInclusive;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): a counter and a mixing function.
///
/// The seed of a simulation picks a schedule, not the numbers of a run, so a generator of three
/// lines serves; it keeps this crate free of one more dependency.
#[derive(Clone, Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Uniform in `range`, to within 2^-64.
    pub(super) fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        let (low, high) = (*range.start(), *range.end());
        let width = u128::from(high - low) + 1;
        low + ((u128::from(self.next()) * width) >> 64) as u64
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.within(&(1..=n)) == 1
    }
}

/// What decides, in a world, what the machines do not.
#[derive(Clone, Debug)]
pub(super) enum Chance {
    Random(SplitMix64),
    /// Nothing: all takes its least time, and what may happen now and then does not.
    Fixed,
}

impl Chance {
    pub(super) fn next(&mut self) -> u64 {
        match self {
            Self::Random(random) => random.next(),
            Self::Fixed => 0,
        }
    }

    /// As of [`SplitMix64`].
    pub(super) fn within(&mut self, range: &RangeInclusive<u64>) -> u64 {
        match self {
            Self::Random(random) => random.within(range),
            Self::Fixed => *range.start(),
        }
    }

    /// As of [`SplitMix64`].
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        match self {
            Self::Random(random) => random.one_in(n),
            Self::Fixed => false,
        }
    }
}

/// The finalizer of SplitMix64, a bijection that scatters its bits.
pub(super) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_that_of_the_reference_implementation() {
        let mut random = SplitMix64::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([random.next(), random.next()], expected);
    }

    #[test]
    fn draws_reach_both_ends_of_the_range_and_no_further() {
        let mut random = SplitMix64::new(1);
        let drawn: Vec<u64> = (0..100).map(|_| random.within(&(3..=5))).collect();
        assert!((3..=5).all(|value| drawn.contains(&value)));
        assert!(drawn.iter().all(|value| (3..=5).contains(value)));
    }
}
