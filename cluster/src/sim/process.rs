//! A node's process: its state machine and a simulated shell around it.

use std::collections::{BTreeMap, VecDeque};

use crate::id::{NodeId, Step};
use crate::message::FrameKey;
use crate::node::Node;

use super::bug::Bug;
use super::replica::{Frame, Replica};
use super::scenario::Launch;
use super::world::Input;

/// What the trainer is asked to do, one order after the other.
#[derive(Clone, Debug)]
pub(super) enum Order {
    Compute(Step),
    /// With the others' frames, in the order in which they came.
    Apply {
        step: Step,
        digest: bool,
        frames: Vec<Frame>,
    },
    Deliver,
}

/// A queue of orders of which the first is under way.
pub(super) type Lane = VecDeque<Order>;

#[derive(Debug)]
pub(super) struct Process {
    pub(super) launch: Launch,
    pub(super) machine: Node,
    /// News of peers that wait at their streams until there is a view.
    pub(super) gate: Vec<Input>,
    /// The trainer. The second lane is empty but for [`Bug::ComputeAhead`].
    pub(super) lanes: [Lane; 2],
    kept: Vec<Frame>,
    own: BTreeMap<Step, Vec<Frame>>,
    replica: Replica,
}

impl Process {
    pub(super) fn new(launch: Launch, machine: Node) -> Self {
        Self {
            launch,
            machine,
            gate: Vec::new(),
            lanes: Default::default(),
            kept: Vec::new(),
            own: BTreeMap::new(),
            replica: Replica::new(0),
        }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// Holds a frame until its step is applied.
    pub(super) fn keep(&mut self, frame: Frame) {
        self.kept.push(frame);
    }

    /// The frames kept for `step`.
    pub(super) fn take(&mut self, step: Step) -> Vec<Frame> {
        self.kept
            .extract_if(.., |frame| frame.key.step == step)
            .collect()
    }

    /// The own contribution to `step`, which is kept until it is applied.
    pub(super) fn compute(&mut self, node: NodeId, step: Step, buckets: u32) -> Vec<Frame> {
        let Some((view, rank)) = self.machine.view() else {
            return Vec::new(); // Invariant: steps are computed in views.
        };
        let frame = |bucket| {
            let key = FrameKey {
                view: view.number,
                step,
                rank,
                bucket,
            };
            let gradient = self.replica.gradient(key);
            Frame {
                key,
                origin: node,
                gradient,
            }
        };
        let frames: Vec<Frame> = (0..buckets).map(frame).collect();
        self.own.insert(step, frames.clone());
        frames
    }

    /// Applies a step; returns what was summed, in order.
    pub(super) fn apply(
        &mut self,
        step: Step,
        mut frames: Vec<Frame>,
        bug: Option<Bug>,
    ) -> Vec<Frame> {
        frames.extend(self.own.remove(&step).unwrap_or_default());
        if bug != Some(Bug::ArrivalOrder) {
            frames.sort_by_key(|frame| frame.key);
        }
        self.replica.apply(step, &frames);
        if bug == Some(Bug::OddRounding) && self.launch.pace > 1 {
            self.replica.apply(step, &[]);
        }
        frames
    }
}
