//! The state of the replicated machine: parameters and optimizer.

use bytes::Bytes;
use ecq_cluster::Digest;
use ecq_nn::optim::Sgd;

/// What every member holds bit by bit the same.
#[derive(Debug)]
pub(crate) struct Replica {
    /// The flat parameter vector.
    pub(crate) parameters: Vec<f32>,
    /// The optimizer with its state.
    pub(crate) optimizer: Sgd,
}

impl Replica {
    /// BLAKE3 of the parameters and of the optimizer's state, as little-endian f32.
    pub(crate) fn digest(&self) -> Digest {
        let mut hasher = blake3::Hasher::new();
        for values in [&self.parameters[..], self.optimizer.state()] {
            hasher.update(&(values.len() as u64).to_le_bytes());
            if cfg!(target_endian = "little") {
                hasher.update(bytemuck::cast_slice(values));
            } else {
                for value in values {
                    hasher.update(&value.to_le_bytes());
                }
            }
        }
        Digest(hasher.finalize().into())
    }
}

impl Replica {
    /// Bytes of [`Replica::to_bytes`].
    pub(crate) fn bytes(&self) -> usize {
        4 * (self.parameters.len() + self.optimizer.state().len())
    }

    /// Parameters and optimizer state, little-endian.
    pub(crate) fn to_bytes(&self) -> Bytes {
        let values = self.parameters.iter().chain(self.optimizer.state());
        values.flat_map(|value| value.to_le_bytes()).collect()
    }

    /// Takes over another replica of the same run; says whether its digest is this.
    pub(crate) fn restore(&mut self, bytes: &[u8], digest: Digest) -> bool {
        let values = self.parameters.iter_mut().chain(self.optimizer.state_mut());
        for (value, bytes) in values.zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        self.digest() == digest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_optimizer_both_count() {
        let mut replica = Replica {
            parameters: vec![1.0, 2.0],
            optimizer: Sgd::new(0.9, 2),
        };
        let start = replica.digest();
        assert_eq!(start, replica.digest());
        replica
            .optimizer
            .apply(0.0, &[1.0, 0.0], &mut replica.parameters);
        assert_eq!(replica.parameters, [1.0, 2.0]);
        assert_ne!(start, replica.digest(), "only the velocity has changed");
        let mut other = Replica {
            parameters: vec![0.0; 2],
            optimizer: Sgd::new(0.9, 2),
        };
        let bytes = replica.to_bytes();
        assert_eq!(bytes.len(), other.bytes());
        assert!(other.restore(&bytes, replica.digest()));
        assert!(!other.restore(&bytes, start), "that is another replica's");
    }
}
