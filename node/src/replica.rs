//! The state of the replicated machine: parameters and optimizer.

use std::borrow::Cow;

use bytes::Bytes;
use crc32c::crc32c;
use ecq_cluster::Digest;
use ecq_nn::TensorSpec;
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
            hasher.update(&little_endian(values));
        }
        Digest(hasher.finalize().into())
    }

    /// CRC-32C of each of these tensors, and of the optimizer's state for it if it has some: far cheaper than
    /// the digest, and enough to say in what replicas differ that do.
    pub(crate) fn sums(&self, tensors: &[TensorSpec]) -> Vec<(String, u32)> {
        let parts = [
            ("", &self.parameters[..]),
            ("the velocity of ", self.optimizer.state()),
        ];
        let mut sums = Vec::new();
        for (prefix, mut values) in parts {
            for TensorSpec { name, shape } in tensors {
                let size: usize = shape.iter().product();
                let Some((tensor, rest)) = values.split_at_checked(size) else {
                    break;
                };
                sums.push((format!("{prefix}{name}"), crc32c(&little_endian(tensor))));
                values = rest;
            }
        }
        sums
    }
}

/// The values' bytes; a copy only where the machine has them the other way round.
fn little_endian(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        Cow::Owned(
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect(),
        )
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
        let tensor = |name: &str| TensorSpec {
            name: name.into(),
            shape: vec![1],
        };
        let tensors = [tensor("weight"), tensor("bias")];
        let sums = replica.sums(&tensors);
        let names: Vec<&str> = sums.iter().map(|(name, _)| &name[..]).collect();
        let velocities = ["the velocity of weight", "the velocity of bias"];
        assert_eq!(names, [&["weight", "bias"], &velocities[..]].concat());
        replica.parameters[1] = 3.0;
        let found = replica.sums(&tensors);
        let differ: Vec<usize> = (0..4).filter(|i| found[*i] != sums[*i]).collect();
        assert_eq!(differ, [1], "the bias and nothing else");
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
