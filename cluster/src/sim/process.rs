//! A node's process: its state machine and a simulated shell around it.

use std::collections::VecDeque;
use std::ops::Range;

use crate::id::{NodeId, Rank, Step, ViewNumber};
use crate::message::{FrameKey, Residual};
use crate::node::Node;
use crate::quorum::{Quorum, reach};
use crate::view::View;

use super::bug::{Bug, Planted};
use super::ledger::Mass;
use super::replica::{Frame, Replica};
use super::scenario::Launch;
use super::world::Input;

/// What the trainer is asked to do, one order after the other.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// Take back what is not applied, and train in this view.
    Enter(View),
    /// Take over another node's replica, to follow the view.
    Adopt {
        next: Step,
        replica: Replica,
    },
    Compute {
        step: Step,
        /// Whether nothing is kept back.
        whole: bool,
    },
    /// With the others' frames, in the order in which they came.
    Apply {
        view: ViewNumber,
        step: Step,
        digest: bool,
        /// Whose contributions make up the step.
        ranks: Vec<Rank>,
        frames: Vec<Frame>,
    },
    Deliver,
}

/// A queue of orders of which the first is under way.
pub(super) type Lane = VecDeque<Order>;

/// A request for a snapshot.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) by: NodeId,
    pub(super) view: ViewNumber,
    pub(super) at_least: Step,
}

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) launch: Launch,
    pub(super) machine: Node,
    /// News of peers that wait at their streams until there is their view.
    pub(super) gate: Vec<Input>,
    /// The trainer. The second lane is empty but for [`Bug::ComputeAhead`].
    pub(super) lanes: [Lane; 2],
    /// Nodes that follow the view, and the first step whose contribution they get.
    pub(super) observers: Vec<(NodeId, Step)>,
    pub(super) wanted: Vec<Wanted>,
    /// The snapshot that has arrived last.
    pub(super) snapshot: Option<Replica>,
    /// The view and rank for which the trainer computes.
    pub(super) seat: Option<(View, Rank)>,
    /// The first step that is not applied.
    pub(super) next: Step,
    /// The last steps that it has contributed to and may have to take back: at most two.
    past: Vec<Step>,
    /// Steps that members can be apart.
    reach: Step,
    kept: Vec<Frame>,
    own: Vec<Frame>,
    replica: Replica,
    /// What was computed and not sent, by bucket.
    residual: Vec<Mass>,
    /// The last step that was computed, and the residual before it.
    before: Option<(Step, Vec<Mass>)>,
}

/// What a quantizer keeps of a gradient. The rest is the residual.
const QUANTIZED: Mass = !0 << 32;

impl Process {
    pub(super) fn new(launch: Launch, machine: Node, quorum: Option<Quorum>) -> Self {
        Self {
            launch,
            machine,
            gate: Vec::new(),
            lanes: Default::default(),
            observers: Vec::new(),
            wanted: Vec::new(),
            snapshot: None,
            seat: None,
            next: 0,
            past: Vec::new(),
            reach: reach(quorum),
            kept: Vec::new(),
            own: Vec::new(),
            replica: Replica::new(0),
            residual: Vec::new(),
            before: None,
        }
    }

    pub(super) fn replica(&self) -> &Replica {
        &self.replica
    }

    /// The residual that the process has: its own as a member, or the one that it came with.
    pub(super) fn residual(&self, node: NodeId) -> Option<Residual> {
        let own = Residual {
            node,
            first: self.past.first().copied().unwrap_or(0),
        };
        self.seat.as_ref().map(|_| own).or(self.launch.residual)
    }

    /// Holds a frame.
    pub(super) fn keep(&mut self, frame: Frame) {
        self.kept.push(frame);
    }

    /// The frames kept for `step` of `view`. They are held for as long as others may lack them.
    pub(super) fn take(&mut self, view: ViewNumber, step: Step) -> Vec<Frame> {
        self.kept.retain(|frame| frame.key.step + self.reach > step);
        let of_step = |frame: &&Frame| frame.key.step == step && frame.key.view == view;
        self.kept.iter().filter(of_step).copied().collect()
    }

    /// All that is held of these steps, to be forwarded to somebody who lacks them.
    pub(super) fn held(&self, steps: Range<Step>) -> Vec<Frame> {
        let held = self.kept.iter().chain(&self.own);
        held.filter(|frame| steps.contains(&frame.key.step))
            .copied()
            .collect()
    }

    /// Forgets all frames, to follow a view.
    pub(super) fn follow(&mut self) {
        self.kept.clear();
        self.own.clear();
    }

    pub(super) fn enter(&mut self, node: NodeId, view: View, planted: Planted) {
        if !planted.is(Bug::KeepVoid) {
            self.own.retain(|frame| frame.key.step < view.first_step);
        }
        let void = self.before.take_if(|(step, _)| *step >= view.first_step);
        if let Some((_, residual)) = void.filter(|_| !planted.is(Bug::KeepResidual)) {
            self.residual = residual;
        }
        self.past.retain(|step| *step < view.first_step);
        self.observers
            .retain(|(observer, _)| view.rank_of(*observer).is_none());
        self.seat = view.rank_of(node).map(|rank| (view, rank));
    }

    pub(super) fn adopt(&mut self, next: Step, replica: Replica) {
        (self.next, self.replica) = (next, replica);
    }

    /// The residual, summed over buckets.
    pub(super) fn mass(&self) -> Mass {
        self.residual.iter().copied().fold(0, Mass::wrapping_add)
    }

    /// The own contribution to `step`, which is kept for as long as others may lack it, and what was
    /// computed for it. A `whole` one keeps nothing back.
    pub(super) fn compute(
        &mut self,
        node: NodeId,
        step: Step,
        whole: bool,
        buckets: u32,
    ) -> (Vec<Frame>, Mass) {
        let Some((view, rank)) = &self.seat else {
            return Default::default(); // Invariant: steps are computed in views.
        };
        self.residual.resize(buckets as usize, 0);
        self.before = Some((step, self.residual.clone()));
        let mut computed: Mass = 0;
        let residuals = (0..).zip(&mut self.residual);
        let frame = |(bucket, residual): (u32, &mut Mass)| {
            let key = FrameKey {
                view: view.number,
                step,
                rank: *rank,
                bucket,
            };
            let gradient = self.replica.gradient(key);
            computed = computed.wrapping_add(gradient);
            let input = gradient.wrapping_add(*residual);
            let sent = if whole { input } else { input & QUANTIZED };
            *residual = input.wrapping_sub(sent);
            Frame {
                key,
                origin: node,
                gradient: sent,
            }
        };
        let frames: Vec<Frame> = residuals.map(frame).collect();
        self.past.retain(|past| past + 1 >= step);
        self.past.push(step);
        self.own.retain(|frame| frame.key.step + self.reach >= step);
        self.own.extend(&frames);
        (frames, computed)
    }

    /// Takes back what was sent for `step`, if that is made without it.
    pub(super) fn settle(
        &mut self,
        view: ViewNumber,
        step: Step,
        ranks: &[Rank],
        planted: Planted,
    ) {
        let own = self.own.iter();
        for Frame { key, gradient, .. } in
            own.filter(|it| (it.key.view, it.key.step) == (view, step))
        {
            let left_out = !ranks.contains(&key.rank) && !planted.is(Bug::ForgetLeftOut);
            if left_out || planted.is(Bug::TakeBackApplied) {
                let residual = &mut self.residual[key.bucket as usize];
                *residual = residual.wrapping_add(*gradient);
            }
        }
    }

    /// Applies a step; returns what was summed, in order.
    pub(super) fn apply(
        &mut self,
        step: Step,
        ranks: &[Rank],
        mut frames: Vec<Frame>,
        planted: Planted,
    ) -> Vec<Frame> {
        let own = self.own.iter().filter(|frame| frame.key.step == step);
        frames.extend(own);
        let members = self.seat.as_ref().map_or(u32::MAX, |(view, _)| view.size());
        frames.retain(|Frame { key, .. }| {
            let stranger = planted.is(Bug::MissingFence) && key.rank >= members;
            stranger || planted.is(Bug::IgnoreDecision) || ranks.contains(&key.rank)
        });
        if !planted.is(Bug::ArrivalOrder) {
            frames.sort_by_key(|frame| frame.key);
        }
        self.replica.apply(step, &frames);
        if planted.is(Bug::OddRounding) && self.launch.pace > 1 {
            self.replica.apply(step, &[]);
        }
        self.next = step + 1;
        frames
    }
}
