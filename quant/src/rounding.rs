//! The random numbers of stochastic rounding.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

use crate::frame::FrameId;

/// What indices are multiplied by: 2³² over the golden ratio.
pub(crate) const STRIDE: u32 = 0x9e37_79b9;

const STRIDES: [u32; 16] = {
    let mut strides = [0_u32; 16];
    let mut lane = 1;
    while lane < 16 {
        strides[lane] = strides[lane - 1].wrapping_add(STRIDE);
        lane += 1;
    }
    strides
};

/// A counter-based generator: the number of element *i* depends on the key and on *i* alone, so it
/// can be computed in any order, by any number of lanes.
///
/// The key comes from ChaCha8 seeded with the run's seed and the frame's identity: members draw
/// independently, so that their rounding errors average out, and any frame can be made again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounding {
    key: [u32; 2],
}

impl Rounding {
    /// The generator of one frame.
    pub(crate) fn new(seed: u64, id: FrameId) -> Self {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        bytes[8..16].copy_from_slice(&id.step.to_le_bytes());
        bytes[16..20].copy_from_slice(&id.rank.to_le_bytes());
        bytes[20..24].copy_from_slice(&id.bucket.to_le_bytes());
        bytes[24..].copy_from_slice(b"rounding");
        let mut chacha = ChaCha8Rng::from_seed(bytes);
        Self {
            key: [chacha.next_u32(), chacha.next_u32()],
        }
    }

    /// 24 random bits. Two rounds of multiply and shift, with half of the key before each.
    #[inline(always)]
    pub(crate) fn bits(self, index: u32) -> u32 {
        self.hash(index.wrapping_mul(STRIDE)) >> 8
    }

    /// The word of the element whose index times [`STRIDE`] is `place`.
    #[inline(always)]
    fn hash(self, place: u32) -> u32 {
        let mut x = place ^ self.key[0];
        x ^= x >> 16;
        x = x.wrapping_mul(Self::FACTORS[0]);
        x ^= x >> 15;
        x = x.wrapping_add(self.key[1]).wrapping_mul(Self::FACTORS[1]);
        x ^ x >> 16
    }

    /// What the hash multiplies by.
    pub(crate) const FACTORS: [u32; 2] = [0x7feb_352d, 0x846c_a68b];

    /// The two halves of the key, for kernels that compute the hash in vectors.
    pub(crate) fn keys(self) -> [u32; 2] {
        self.key
    }

    /// What the hash makes words of, for the elements from `index` on.
    #[inline(always)]
    pub(crate) fn places(index: u32) -> [u32; 16] {
        let place = index.wrapping_mul(STRIDE);
        // Not `from_fn`, which is not always inlined.
        let mut places = STRIDES;
        for stride in &mut places {
            *stride = stride.wrapping_add(place);
        }
        places
    }

    /// Uniform in [0, 1) on a grid of 2⁻²⁴.
    #[inline(always)]
    pub(crate) fn uniform(self, index: u32) -> f32 {
        // The conversion is exact; through i32, which vectorises.
        self.bits(index) as i32 as f32 * (1.0 / 16_777_216.0)
    }

    /// Sixteen words of 32 random bits, those of the elements from `index` on: enough for 32 elements
    /// that are rounded with 16 bits each.
    #[inline(always)]
    pub(crate) fn words(self, index: u32) -> [u32; 16] {
        let mut words = Self::places(index);
        for word in &mut words {
            *word = self.hash(*word);
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: FrameId = FrameId {
        step: 3,
        rank: 1,
        bucket: 2,
    };

    fn draws(rounding: Rounding) -> Vec<f64> {
        (0..1 << 18)
            .map(|i| f64::from(rounding.uniform(i)))
            .collect()
    }

    /// The halves of words, as stochastic rounding takes them.
    fn halves(rounding: Rounding) -> Vec<f64> {
        let rows = (0..1 << 18).step_by(32).map(|i| rounding.words(i));
        let low = |word: &u32| f64::from(*word as u16) / 65_536.0;
        let high = |word: &u32| f64::from(*word >> 16) / 65_536.0;
        rows.flat_map(|row| {
            row.iter()
                .map(low)
                .chain(row.iter().map(high))
                .collect::<Vec<_>>()
        })
        .collect()
    }

    #[test]
    fn draws_are_uniform_and_neighbours_independent() {
        let rounding = Rounding::new(7, ID);
        are_uniform_and_independent(&draws(rounding));
        are_uniform_and_independent(&halves(rounding));
    }

    fn are_uniform_and_independent(draws: &[f64]) {
        let n = draws.len() as f64;
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mut histogram = [0.0; 64];
        draws
            .iter()
            .for_each(|u| histogram[(u * 64.0) as usize] += 1.0);
        let chi2: f64 = histogram
            .iter()
            .map(|c: &f64| (c - n / 64.0).powi(2) / (n / 64.0))
            .sum();
        assert!(
            (20.0..120.0).contains(&chi2),
            "chi-squared {chi2} with 63 degrees of freedom"
        );
        for lag in [1, 2, 8, 16, 512] {
            let product = |(a, b): (&f64, &f64)| (a - 0.5) * (b - 0.5) * 12.0;
            let sum: f64 = draws.iter().zip(&draws[lag..]).map(product).sum();
            let correlation = sum / n;
            assert!(
                correlation.abs() < 4.5 / n.sqrt(),
                "lag {lag}: {correlation}"
            );
        }
    }

    #[test]
    fn every_part_of_the_identity_changes_the_draws() {
        let base = draws(Rounding::new(7, ID));
        let others = [
            Rounding::new(8, ID),
            Rounding::new(7, FrameId { step: 4, ..ID }),
            Rounding::new(7, FrameId { rank: 0, ..ID }),
            Rounding::new(7, FrameId { bucket: 0, ..ID }),
        ];
        for other in others {
            let other = draws(other);
            let n = base.len() as f64;
            let product = |(a, b): (&f64, &f64)| (a - 0.5) * (b - 0.5) * 12.0;
            let correlation = base.iter().zip(&other).map(product).sum::<f64>() / n;
            assert!(correlation.abs() < 4.5 / n.sqrt(), "{correlation}");
        }
    }

    #[test]
    fn the_stream_is_the_same_on_every_machine() {
        let rounding = Rounding::new(7, ID);
        let bits = [0, 1, 1000].map(|i| (rounding.uniform(i) * 16_777_216.0) as u32);
        assert_eq!(bits, GOLDEN);
    }

    const GOLDEN: [u32; 3] = [15_443_372, 8_989_165, 3_063_120];
}
