//! A replica that is nothing but its history.

use crate::id::{Digest, NodeId, Step};
use crate::message::FrameKey;

use super::random::mix;

/// One frame on its way: its identity, who really sent it, and its gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) key: FrameKey,
    pub(super) origin: NodeId,
    pub(super) gradient: u64,
}

/// A hash chain in place of parameters: equal exactly if the same frames were applied in the same
/// order from the same start.
#[derive(Clone, Debug)]
pub(super) struct Replica(u64);

impl Replica {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(!seed)) // The mixer leaves 0 as it is.
    }

    /// A gradient that depends on the parameters, as gradients do.
    pub(super) fn gradient(&self, key: FrameKey) -> u64 {
        let place = chain(chain(key.step, u64::from(key.rank)), u64::from(key.bucket));
        chain(self.0, place)
    }

    /// Applies a step. The order of the frames matters.
    pub(super) fn apply(&mut self, step: Step, frames: &[Frame]) {
        let start = chain(self.0, step);
        let gradients = frames.iter().map(|frame| frame.gradient);
        self.0 = gradients.fold(start, chain);
    }

    pub(super) fn digest(&self) -> Digest {
        let word = |i| mix(self.0 ^ i).to_le_bytes();
        let mut bytes = [0; 32];
        for (i, chunk) in (0..).zip(bytes.chunks_exact_mut(8)) {
            chunk.copy_from_slice(&word(i));
        }
        Digest(bytes)
    }
}

fn chain(state: u64, value: u64) -> u64 {
    mix(state.rotate_left(17) ^ mix(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_frames_and_each_of_them_matter() {
        let key = FrameKey {
            view: 1,
            step: 0,
            rank: 0,
            bucket: 0,
        };
        let frame = |gradient| Frame {
            key,
            origin: 1,
            gradient,
        };
        let after = |frames: &[Frame]| {
            let mut replica = Replica::new(1);
            replica.apply(0, frames);
            replica.digest()
        };
        let sum = after(&[frame(1), frame(2)]);
        assert_eq!(sum, after(&[frame(1), frame(2)]));
        assert_ne!(sum, after(&[frame(2), frame(1)]));
        assert_ne!(sum, after(&[frame(1), frame(2), frame(2)]));
        assert_ne!(sum, after(&[frame(1)]));
    }
}
