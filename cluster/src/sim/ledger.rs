//! The books of error feedback: what every node has computed, sent and kept back.

use std::collections::BTreeMap;

use crate::id::{NodeId, Rank, Step, ViewNumber};
use crate::message::FrameKey;
use crate::view::View;

use super::replica::Frame;

/// An amount of gradient. It wraps, so that sums are exact.
pub(super) type Mass = u64;

/// What a node has computed for one step.
#[derive(Clone, Debug)]
pub(super) struct Contribution {
    /// The gradients, summed over buckets.
    pub(super) computed: Mass,
    /// What was sent of them and of earlier residuals.
    pub(super) frames: Vec<Frame>,
    /// Whether its owner has taken it back, because the view ended before its step was made.
    pub(super) void: bool,
    /// Whether what was sent has gone back to its owner's residual, because the step was made without it.
    pub(super) left_out: bool,
}

impl Contribution {
    fn step(&self) -> Step {
        self.frames.first().map_or(0, |frame| frame.key.step)
    }

    /// What was sent and did not come back.
    fn sent(&self) -> Mass {
        if self.left_out {
            return 0;
        }
        let sent = self.frames.iter().map(|frame| frame.gradient);
        sent.fold(0, Mass::wrapping_add)
    }
}

/// One node's books.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    pub(super) contributions: Vec<Contribution>,
    /// The residual that the node holds, summed over buckets.
    pub(super) residual: Mass,
}

impl Account {
    /// What the residual must be: all that was computed and not sent, but for what is void.
    pub(super) fn owed(&self) -> Mass {
        let standing = self.contributions.iter().filter(|it| !it.void);
        let kept_back = standing.map(|it| it.computed.wrapping_sub(it.sent()));
        kept_back.fold(0, Mass::wrapping_add)
    }
}

/// Every contribution that was ever computed, and every residual.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    accounts: BTreeMap<NodeId, Account>,
    /// Nodes with entries that have not been judged.
    fresh: Vec<NodeId>,
}

impl Ledger {
    /// A node has computed gradients and sent frames, after which it holds a residual.
    pub(super) fn contribute(
        &mut self,
        node: NodeId,
        computed: Mass,
        frames: Vec<Frame>,
        residual: Mass,
    ) {
        let account = self.account(node);
        account.residual = residual;
        account.contributions.push(Contribution {
            computed,
            frames,
            void: false,
            left_out: false,
        });
    }

    /// A node begins a view, and takes back what it has computed for its steps in earlier ones.
    pub(super) fn take_back(&mut self, node: NodeId, view: &View, residual: Mass) {
        let account = self.account(node);
        account.residual = residual;
        let contributions = account.contributions.iter_mut();
        contributions
            .filter(|it| it.step() >= view.first_step)
            .for_each(|it| it.void = true);
    }

    /// A node applies a step that these ranks make up: if it has sent something for it and is none of them, that
    /// must have gone back to its residual.
    pub(super) fn settle_step(
        &mut self,
        node: NodeId,
        view: ViewNumber,
        step: Step,
        ranks: &[Rank],
        residual: Mass,
    ) {
        let account = self.account(node);
        account.residual = residual;
        for it in &mut account.contributions {
            let key = it.frames.first().map(|frame| frame.key);
            if let Some(key) = key.filter(|key| (key.view, key.step) == (view, step)) {
                it.left_out = !ranks.contains(&key.rank);
            }
        }
    }

    /// Contributions that went back to a residual, as their steps were made without them.
    pub(super) fn taken_back(&self) -> u64 {
        let all = self
            .accounts
            .values()
            .flat_map(|account| &account.contributions);
        all.filter(|it| it.left_out).count() as u64
    }

    fn account(&mut self, node: NodeId) -> &mut Account {
        self.fresh.push(node);
        self.accounts.entry(node).or_default()
    }

    pub(super) fn accounts(&self) -> impl Iterator<Item = (NodeId, &Account)> {
        self.accounts.iter().map(|(node, account)| (*node, account))
    }

    /// Accounts with entries since the last judgement.
    pub(super) fn fresh(&self) -> impl Iterator<Item = (NodeId, &Account)> {
        let fresh = self.fresh.iter();
        fresh.filter_map(|node| Some((*node, self.accounts.get(node)?)))
    }

    /// The contribution in which `origin` has sent this frame.
    pub(super) fn find(&self, origin: NodeId, key: FrameKey) -> Option<(&Contribution, Mass)> {
        let contributions = self.accounts.get(&origin)?.contributions.iter();
        contributions.rev().find_map(|it| {
            let frame = it.frames.iter().find(|frame| frame.key == key)?;
            Some((it, frame.gradient))
        })
    }

    /// Everything up to here has been judged.
    pub(super) fn settle(&mut self) {
        self.fresh.clear();
    }
}
