//! A node's side of the protocol: when to compute, what counts, when to apply.

mod changing;
mod follow;
mod interface;
mod leaving;
mod quorum;
mod reason;
mod returning;
mod round;

use std::collections::BTreeMap;

use crate::id::{Digest, Millis, NodeId, Rank, Step, ViewNumber};
use crate::message::{Failure, FrameKey, Hello, Installation, ToCoordinator, ToNode};
use crate::quorum::{Decision, Quorum, reach};
use crate::view::{Member, View};
use follow::Follow;
pub use interface::{Command, Ending, Event};
use leaving::Leaving;
use round::Round;
pub use round::Verdict;

#[derive(Clone, Debug)]
enum Phase {
    Greeting,
    Preparing,
    Ready,
    /// No member, but on the way to it.
    Following(Place, Follow),
    /// In the view, opening streams; the others' frames may come already.
    Linking(Place),
    Training(Place),
    /// Every step of the run is applied, or about to be.
    Finishing(Place),
    Over,
}

/// A view, and where the node stands in it.
#[derive(Clone, Debug)]
struct Place {
    view: View,
    round: Round,
    /// Whether the contribution to the step under way has been asked for.
    computing: bool,
    /// Whether the view waits for more members before it trains.
    hold: bool,
    /// Whether the view is about to end: nothing is applied but what the next one needs.
    frozen: bool,
    /// The next view, which begins when what comes before it is applied.
    next: Option<Installation>,
    /// Nodes that follow the view, as long as there is no stream to send to them.
    observers: Vec<Member>,
    /// Members whose streams broke, and how.
    lost: BTreeMap<Rank, String>,
}

/// A node's state machine.
#[derive(Clone, Debug)]
pub struct Node {
    phase: Phase,
    id: NodeId,
    buckets: u32,
    steps: Step,
    digest_every: Step,
    quorum: Option<Quorum>,
    /// Steps that the trainer was asked to apply and has not.
    applying: u64,
    /// Who made up the last steps that were applied: others may lack them when the view changes.
    made: BTreeMap<Step, Decision>,
    /// When the event under way is handled.
    now: Millis,
    heartbeat: Millis,
    beat_due: Millis,
    final_digest: Option<Digest>,
    /// Whether this member has lost its session and goes on without.
    away: bool,
    /// Whether its process has a residual from before it came.
    has_residual: bool,
    leaving: Option<Leaving>,
    reason: String,
}

impl Place {
    fn new(
        view: View,
        own: Option<Rank>,
        buckets: u32,
        quorum: Option<Quorum>,
        hold: bool,
    ) -> Self {
        Self {
            round: Round::new(&view, own, buckets, quorum),
            view,
            computing: false,
            hold,
            frozen: false,
            next: None,
            observers: Vec::new(),
            lost: BTreeMap::new(),
        }
    }

    /// The view that was announced last.
    fn announced(&self) -> ViewNumber {
        let next = self.next.as_ref();
        next.map_or(self.view.number, |next| next.view.number)
    }

    /// Whether the step under way may be applied when it is complete.
    fn may_apply(&self) -> bool {
        let first = self.next.as_ref().map(|next| next.view.first_step);
        !self.frozen || first.is_some_and(|first| self.round.step() < first)
    }
}

impl Node {
    /// A node that introduces itself with `hello` and speaks at least every `heartbeat`.
    pub fn new(now: Millis, hello: Hello, heartbeat: Millis, out: &mut Vec<Command>) -> Self {
        let has_residual = hello.residual.is_some();
        out.push(Command::Send(ToCoordinator::Hello(hello)));
        Self {
            has_residual,
            leaving: None,
            phase: Phase::Greeting,
            id: 0,
            buckets: 0,
            steps: 0,
            digest_every: 1,
            quorum: None,
            applying: 0,
            made: BTreeMap::new(),
            now,
            heartbeat,
            beat_due: now.saturating_add(heartbeat),
            final_digest: None,
            away: false,
            reason: String::new(),
        }
    }

    /// The view in which the node is, and its rank there if it is a member.
    pub fn view(&self) -> Option<(&View, Option<Rank>)> {
        let view = &self.place()?.view;
        let rank = match &self.phase {
            Phase::Following(..) => None,
            _ => view.rank_of(self.id),
        };
        Some((view, rank))
    }

    fn place(&self) -> Option<&Place> {
        match &self.phase {
            Phase::Following(place, _)
            | Phase::Linking(place)
            | Phase::Training(place)
            | Phase::Finishing(place) => Some(place),
            Phase::Greeting | Phase::Preparing | Phase::Ready | Phase::Over => None,
        }
    }

    fn place_mut(&mut self) -> Option<&mut Place> {
        match &mut self.phase {
            Phase::Following(place, _)
            | Phase::Linking(place)
            | Phase::Training(place)
            | Phase::Finishing(place) => Some(place),
            Phase::Greeting | Phase::Preparing | Phase::Ready | Phase::Over => None,
        }
    }

    /// When the next heartbeat is due, or the decision on a step.
    pub fn deadline(&self) -> Option<Millis> {
        let due = match &self.phase {
            Phase::Over => return None,
            Phase::Training(place) if !place.frozen => place.round.due(),
            _ => None,
        };
        Some(due.map_or(self.beat_due, |due| due.min(self.beat_due)))
    }

    /// Takes an event and appends what is to be done about it.
    pub fn handle(&mut self, now: Millis, event: Event, out: &mut Vec<Command>) {
        if matches!(self.phase, Phase::Over) {
            return;
        }
        self.now = now;
        match event {
            Event::Message(message) => self.message(message, out),
            Event::Prepared {
                fingerprint,
                buckets,
                steps,
                digest_every,
                quorum,
                kept,
            } if matches!(self.phase, Phase::Preparing) => {
                (self.buckets, self.steps, self.digest_every) = (buckets, steps, digest_every);
                self.quorum = quorum;
                self.phase = Phase::Ready;
                let prepared = ToCoordinator::Prepared { fingerprint, kept };
                out.push(Command::Send(prepared));
            }
            Event::Prepared { .. } => {} // Nobody asked.
            Event::Linked(view) => self.linked(view, out),
            Event::Opened { view, rank, first } => {
                self.follow(view, out, |follow, view| follow.open(view, rank, first));
            }
            Event::NotFetched { view, reason } => {
                out.push(Command::Explain(format!("no snapshot yet: {reason}")));
                self.follow(view, out, |follow, view| follow.retry(view));
            }
            Event::Snapshot { view, next, digest } => self.adopt(view, next, digest, out),
            Event::Frame(key) => self.frame(key, out),
            Event::Decision(decision) => self.decided(decision, out),
            Event::Contributed { view, step } => {
                if let Phase::Training(place) = &mut self.phase
                    && place.view.number == view
                {
                    place.round.contribute(step);
                }
                self.advance(out);
            }
            Event::Applied { step, digest } => self.applied(step, digest, out),
            Event::Delivered => self.finish(out),
            Event::PeerLost { view, rank, reason } => self.peer_lost(view, rank, reason, out),
            Event::CoordinatorLost(reason) => self.lose_coordinator(reason, out),
            Event::Reconnected => self.come_back(out),
            Event::CoordinatorGone(reason) => self.exit(Err(Ending::CoordinatorLost(reason)), out),
            Event::Stop(failure) => self.stop(failure, out),
            Event::Failed(failure) => self.fail(failure, out),
            Event::Tick => {}
        }
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.advance(out);
        }
        self.beat(now, out);
        self.explain(out);
    }

    fn message(&mut self, message: ToNode, out: &mut Vec<Command>) {
        match message {
            ToNode::Welcome {
                node,
                config,
                begun,
            } => {
                if matches!(self.phase, Phase::Greeting) {
                    self.id = node;
                    self.phase = Phase::Preparing;
                    out.push(Command::Prepare { config, begun });
                }
            }
            ToNode::Refused(refusal) => self.exit(Err(Ending::Refused(refusal)), out),
            ToNode::Freeze { view } => self.freeze(view, out),
            ToNode::Install(installation) => self.install(installation, out),
            ToNode::Follow {
                view,
                donor,
                residual,
            } => {
                let may = matches!(self.phase, Phase::Ready | Phase::Following(..));
                if may && donor < view.size() && view.rank_of(self.id).is_none() {
                    out.push(Command::Follow(view.clone()));
                    if self.has_residual {
                        out.push(Command::Inherit(residual));
                    }
                    let place = Place::new(view, None, self.buckets, self.quorum, false);
                    self.phase = Phase::Following(place, Follow::new(donor));
                }
            }
            ToNode::Observe { view, observer } => self.observe(view, observer, out),
            ToNode::End => {
                let steps = match &self.phase {
                    Phase::Finishing(_) => self.steps,
                    Phase::Following(place, _) => place.round.step(),
                    _ => {
                        let text = "it ended the run before this node had applied every step";
                        return self.exit(Err(Ending::CoordinatorLost(text.to_owned())), out);
                    }
                };
                self.exit(Ok(steps), out);
            }
            ToNode::Excluded(failure) => self.exit(Err(Ending::Excluded(failure)), out),
            ToNode::Abort(failure) => self.exit(Err(Ending::Aborted(failure)), out),
        }
    }

    fn frame(&mut self, key: FrameKey, out: &mut Vec<Command>) {
        let verdict = match &mut self.phase {
            Phase::Following(place, _) | Phase::Linking(place) | Phase::Training(place) => {
                place.round.arrive(key)
            }
            Phase::Finishing(_) | Phase::Over => Verdict::Late,
            Phase::Greeting | Phase::Preparing | Phase::Ready => Verdict::Foreign,
        };
        if verdict == Verdict::Keep {
            out.push(Command::Keep(key));
            self.advance(out);
        } else {
            out.push(Command::Drop(key, verdict));
        }
    }

    /// Applies what is complete and may be applied, and goes on to the next step or view.
    fn advance(&mut self, out: &mut Vec<Command>) {
        loop {
            self.decide(out);
            let place = match &mut self.phase {
                Phase::Training(place) => place,
                Phase::Following(place, follow) if follow.adopted => place,
                _ => break,
            };
            let step = place.round.step();
            if step >= self.steps || !place.may_apply() {
                break;
            }
            let Some(ranks) = place.round.advance() else {
                break;
            };
            place.computing = false;
            let last = step + 1 == self.steps;
            let digest = last || (step + 1).is_multiple_of(self.digest_every);
            let view = place.view.number;
            let members = place.view.size();
            if self.quorum.is_some() {
                let ranks = ranks.clone();
                self.made.insert(step, Decision { view, step, ranks });
                let past = (step + 1).saturating_sub(reach(self.quorum));
                self.made = self.made.split_off(&past);
            }
            let rank = place.view.rank_of(self.id);
            if rank.is_some_and(|rank| !ranks.contains(&rank)) {
                self.miss(step);
            }
            self.applying = self.applying.saturating_add(1);
            out.push(Command::Apply {
                view,
                members,
                ranks,
                step,
                digest,
            });
            match std::mem::replace(&mut self.phase, Phase::Over) {
                Phase::Training(place) if last => self.phase = Phase::Finishing(place),
                other => self.phase = other,
            }
        }
        self.ask(out);
        self.change(out);
        if let Phase::Following(place, follow) = &mut self.phase
            && follow.fetched
            && !std::mem::replace(&mut follow.told, true)
        {
            let view = place.view.number;
            out.push(Command::Send(ToCoordinator::CaughtUp { view }));
        }
    }

    fn applied(&mut self, step: Step, digest: Option<Digest>, out: &mut Vec<Command>) {
        self.applying = self.applying.saturating_sub(1);
        if self.place().is_none() {
            return;
        }
        if let Some(digest) = digest {
            out.push(Command::Send(ToCoordinator::Digest { step, digest }));
        }
        if step.checked_add(1) == Some(self.steps) {
            self.final_digest = digest;
            self.complete(out);
        }
        self.depart(step, out);
        self.ask(out);
    }

    /// Delivers the model if that is this node's part, and reports.
    fn complete(&mut self, out: &mut Vec<Command>) {
        if let Phase::Finishing(place) = &self.phase {
            if place.view.rank_of(self.id) == Some(0) {
                out.push(Command::Deliver);
            } else {
                self.finish(out);
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<Command>) {
        if let (Phase::Finishing(place), Some(digest)) = (&self.phase, self.final_digest) {
            out.push(Command::Send(ToCoordinator::Finished {
                view: place.view.number,
                steps: self.steps,
                digest,
            }));
        }
    }

    /// Once all contributions have arrived, nobody's streams are needed any more.
    fn peer_lost(
        &mut self,
        number: ViewNumber,
        rank: Rank,
        reason: String,
        out: &mut Vec<Command>,
    ) {
        let (Phase::Following(place, _) | Phase::Linking(place) | Phase::Training(place)) =
            &mut self.phase
        else {
            return;
        };
        if place.view.number == number {
            place.lost.insert(rank, reason.clone());
            if let Phase::Following(_, follow) = &mut self.phase {
                follow.close(rank);
            }
            out.push(Command::Send(ToCoordinator::PeerLost {
                view: number,
                rank,
                reason,
            }));
        }
    }

    fn fail(&mut self, failure: Failure, out: &mut Vec<Command>) {
        out.push(Command::Send(ToCoordinator::Leave(failure.clone())));
        self.exit(Err(Ending::Failed(failure)), out);
    }

    fn exit(&mut self, result: Result<Step, Ending>, out: &mut Vec<Command>) {
        let result = result.map_err(|ending| self.as_told(ending));
        self.phase = Phase::Over;
        out.push(Command::Exit(result));
    }

    fn beat(&mut self, now: Millis, out: &mut Vec<Command>) {
        if now >= self.beat_due && !matches!(self.phase, Phase::Over) {
            self.beat_due = now.saturating_add(self.heartbeat);
            out.push(Command::Send(ToCoordinator::Heartbeat));
        }
    }

    /// The ranks for whose contribution the step under way waits.
    pub fn waiting_for(&self) -> Vec<Rank> {
        match &self.phase {
            Phase::Training(place) => place.round.missing(),
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
