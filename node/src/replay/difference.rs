//! Where two replays differ.

use std::fmt;

use ecq_cluster::Rank;

use super::Replay;

/// Of which part of a replica a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A parameter of the model.
    Parameter,
    /// The optimizer's velocity for it.
    Velocity,
}

/// The first value in which two replicas differ: parameters before velocities, in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueDifference {
    /// Parameter or velocity.
    pub kind: Kind,
    /// PyTorch-style name of the tensor.
    pub tensor: String,
    /// Where in the tensor.
    pub index: Vec<usize>,
    /// Both values.
    pub values: [f32; 2],
    /// How many values of this kind differ.
    pub count: usize,
}

impl fmt::Display for ValueDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Velocity {
            f.write_str("the velocity of ")?;
        }
        let index: Vec<String> = self.index.iter().map(ToString::to_string).collect();
        let (tensor, [a, b]) = (&self.tensor, self.values);
        write!(
            f,
            "{tensor}[{}] is {a:?} in A and {b:?} in B",
            index.join(", ")
        )
    }
}

/// The first frame, in the order of ranks and then of buckets, that two runs do not share at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameDifference {
    /// The sender.
    pub rank: Rank,
    /// The bucket.
    pub bucket: u32,
    /// Length of the frame in each run, if it is there.
    pub bytes: [Option<usize>; 2],
}

impl fmt::Display for FrameDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, bucket, .. } = self;
        match self.bytes {
            [Some(a), Some(b)] => {
                write!(
                    f,
                    "rank {rank}'s frame for bucket {bucket} is the first that differs"
                )?;
                if a != b {
                    write!(f, " ({a} bytes in A and {b} in B)")?;
                }
                Ok(())
            }
            [Some(_), None] => write!(f, "only A has a frame of rank {rank} for bucket {bucket}"),
            [None, _] => write!(f, "only B has a frame of rank {rank} for bucket {bucket}"),
        }
    }
}

impl Replay {
    /// Whether the models of both have the same tensors.
    pub fn is_alike(&self, other: &Self) -> bool {
        self.rules.model.tensors() == other.rules.model.tensors()
    }

    /// The first value that differs, bit by bit; of models that are alike.
    pub fn value_difference(&self, other: &Self) -> Option<ValueDifference> {
        let [a, b] = [self, other].map(|replay| &replay.rules.replica);
        let parts = [
            (Kind::Parameter, &a.parameters[..], &b.parameters[..]),
            (Kind::Velocity, a.optimizer.state(), b.optimizer.state()),
        ];
        parts.into_iter().find_map(|(kind, a, b)| {
            let pairs = || a.iter().zip(b).map(|(a, b)| [*a, *b]);
            let differ = |[a, b]: &[f32; 2]| a.to_bits() != b.to_bits();
            let (position, values) = pairs().enumerate().find(|(_, pair)| differ(pair))?;
            let (tensor, index) = self.locate(position)?;
            Some(ValueDifference {
                kind,
                tensor,
                index,
                values,
                count: pairs().filter(differ).count(),
            })
        })
    }

    /// The first frame of the step applied last that is not the same in both.
    pub fn frame_difference(&self, other: &Self) -> Option<FrameDifference> {
        let [a, b] = [self, other].map(|replay| Some(&replay.last.as_ref()?.entry.frames));
        let (a, b) = (a?, b?);
        let keys = a.keys().chain(b.keys());
        let differing = keys.filter(|key| a.get(*key) != b.get(*key));
        let (rank, bucket) = *differing.min()?;
        let bytes = [a, b].map(|frames| frames.get(&(rank, bucket)).map(|frame| frame.len()));
        Some(FrameDifference {
            rank,
            bucket,
            bytes,
        })
    }

    /// The tensor of an element of the flat vector, and where in it.
    fn locate(&self, mut position: usize) -> Option<(String, Vec<usize>)> {
        for tensor in self.rules.model.tensors() {
            let size = tensor.shape.iter().product();
            if position >= size {
                position -= size;
                continue;
            }
            let mut index = Vec::new();
            for dimension in tensor.shape.iter().rev() {
                index.push(position % dimension);
                position /= dimension;
            }
            index.reverse();
            return Some((tensor.name.clone(), index));
        }
        None
    }
}
