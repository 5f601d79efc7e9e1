//! Initial parameters, a pure function of the seed.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// Fills tensor number `index` uniformly in ±1/√fan_in: what PyTorch's `nn.Linear` draws for
/// weights and bias alike (Kaiming-uniform with a = √5).
///
/// Each tensor has a stream of its own, ChaCha8 keyed by seed and index; 24 bits become a float by
/// an exact conversion, so that every machine draws the same.
pub(crate) fn uniform(seed: u64, index: usize, fan_in: usize, tensor: &mut [f32]) {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&(index as u64).to_le_bytes());
    key[16..].copy_from_slice(b"initialise/param");
    let mut chacha = ChaCha8Rng::from_seed(key);
    let bound = 1.0 / (fan_in.max(1) as f32).sqrt();
    for value in tensor {
        let unit = (chacha.next_u32() >> 8) as f32 * (1.0 / 16_777_216.0);
        *value = (2.0 * unit - 1.0) * bound;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fill_their_range_evenly() {
        let mut tensor = vec![0.0; 100_000];
        uniform(1, 0, 100, &mut tensor);
        assert!(tensor.iter().all(|v| v.abs() <= 0.1));
        let mean = tensor.iter().map(|v| f64::from(*v)).sum::<f64>() / 1e5;
        let variance = tensor.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 4.0 * 0.1 / (3e5_f64).sqrt(), "{mean}");
        assert!((variance - 0.01 / 3.0).abs() < 1e-4, "{variance}");
    }

    #[test]
    fn seed_and_index_decide_and_nothing_else() {
        let draw = |seed, index| {
            let mut tensor = [0.0; 4];
            uniform(seed, index, 1, &mut tensor);
            tensor
        };
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(2, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_eq!(
            draw(1, 2).map(f32::to_bits),
            GOLDEN,
            "the same on every machine"
        );
    }

    const GOLDEN: [u32; 4] = [3_198_525_372, 3_204_929_792, 1_052_408_848, 1_058_123_118];
}
