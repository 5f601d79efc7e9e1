//! Which samples a step takes.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// The infinite sequence of samples of a run: permutation after permutation of the training set,
/// one an epoch.
///
/// A cluster that has consumed *c* samples takes the next ones in rank order: member *r* of a view
/// with batches of *b* takes positions `c + r·b .. c + (r+1)·b`. So each sample is visited once an
/// epoch, whoever is there, and nobody needs to be told.
#[derive(Clone, Debug)]
pub struct Sampler {
    seed: u64,
    samples: usize,
    /// The permutation used last: a cache, invisible from outside.
    epoch: Option<u64>,
    permutation: Vec<u32>,
}

impl Sampler {
    /// The sequence for a training set of `samples`, at least 1 and below 2³².
    ///
    /// # Panics
    ///
    /// If there are none, or too many.
    pub fn new(seed: u64, samples: usize) -> Self {
        assert!(samples > 0, "there is something to sample");
        assert!(
            u32::try_from(samples).is_ok(),
            "samples are numbered with 32 bits"
        );
        Self {
            seed,
            samples,
            epoch: None,
            permutation: Vec::new(),
        }
    }

    /// Replaces `indices` by the samples at positions `position .. position + count`.
    pub fn indices(&mut self, position: u64, count: usize, indices: &mut Vec<usize>) {
        indices.clear();
        let samples = self.samples as u64;
        for position in position..position + count as u64 {
            let epoch = position / samples;
            if self.epoch != Some(epoch) {
                self.shuffle(epoch);
            }
            // Invariant: a remainder below the number of samples, a usize.
            indices.push(self.permutation[(position % samples) as usize] as usize);
        }
    }

    /// Fisher–Yates from a ChaCha8 stream keyed by seed and epoch.
    fn shuffle(&mut self, epoch: u64) {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.seed.to_le_bytes());
        key[8..16].copy_from_slice(&epoch.to_le_bytes());
        key[16..].copy_from_slice(b"sampler/permuted");
        let mut chacha = ChaCha8Rng::from_seed(key);
        self.permutation.clear();
        self.permutation.extend(0..self.samples as u32);
        for last in (1..self.samples).rev() {
            // A 64-bit draw scaled to [0, last]: the bias is below 2^-32.
            let wide = u128::from(chacha.next_u64()) * (last as u128 + 1);
            self.permutation.swap(last, (wide >> 64) as usize);
        }
        self.epoch = Some(epoch);
    }
}
