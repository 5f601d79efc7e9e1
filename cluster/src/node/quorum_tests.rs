//! Late members: when a step goes on without them, and what they do then.

use super::*;
use crate::id::{Digest, NodeId, ViewNumber};
use crate::message::{Fingerprint, FrameKey, Hello, Installation, ToNode};
use crate::node::Event;
use crate::view::{Member, View};

const QUORUM: Quorum = Quorum { least: 2, wait: 50 };

fn view(number: ViewNumber, first_step: Step) -> View {
    let member = |node| Member {
        node,
        address: String::new(),
    };
    View {
        number,
        first_step,
        consumed: 0,
        members: (0..3).map(member).collect(),
    }
}

/// A member of a view of three that trains with a quorum of two.
struct Bench {
    machine: Node,
    now: Millis,
    said: Vec<String>,
}

impl Bench {
    fn training(rank: NodeId) -> Self {
        let hello = Hello {
            run: None,
            rank: None,
            version: String::new(),
            address: String::new(),
            observe: false,
            residual: None,
        };
        let mut bench = Self {
            machine: Node::new(0, hello, 1_000_000, &mut Vec::new()),
            now: 0,
            said: Vec::new(),
        };
        bench.handle(Event::Message(ToNode::Welcome {
            node: rank,
            config: String::new(),
            begun: false,
        }));
        let fingerprint = Fingerprint {
            replica: Digest([0; 32]),
            data: Digest([0; 32]),
            parameters: 1,
            samples: 1,
        };
        bench.handle(Event::Prepared {
            fingerprint,
            buckets: 1,
            steps: 100,
            digest_every: 1000,
            quorum: Some(QUORUM),
            kept: Vec::new(),
        });
        bench.install(view(1, 0), Vec::new(), 0);
        assert_eq!(bench.handle(Event::Linked(1)), [Command::Compute(0)]);
        bench
    }

    fn install(&mut self, view: View, supply: Vec<Member>, lacking: Step) -> Vec<Command> {
        self.handle(Event::Message(ToNode::Install(Installation {
            view,
            hold: false,
            supply,
            lacking,
            restore: None,
        })))
    }

    /// All commands but explanations, and that frames are kept.
    fn handle(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        for command in &out {
            if let Command::Explain(text) = command {
                self.said.push(text.clone());
            }
        }
        out.retain(|command| !matches!(command, Command::Explain(_) | Command::Keep(_)));
        out
    }

    fn frame(&mut self, step: Step, rank: Rank) -> Vec<Command> {
        self.handle(Event::Frame(FrameKey {
            view: 1,
            step,
            rank,
            bucket: 0,
        }))
    }

    fn contributed(&mut self, step: Step) -> Vec<Command> {
        self.handle(Event::Contributed { view: 1, step })
    }

    fn applied(&mut self, step: Step) -> Vec<Command> {
        self.handle(Event::Applied { step, digest: None })
    }

    fn learns(&mut self, step: Step, ranks: &[Rank]) -> Vec<Command> {
        self.handle(Event::Decision(decision(step, ranks)))
    }
}

fn decision(step: Step, ranks: &[Rank]) -> Decision {
    Decision {
        view: 1,
        step,
        ranks: ranks.to_vec(),
    }
}

fn apply(step: Step, ranks: &[Rank]) -> Command {
    Command::Apply {
        view: 1,
        members: 3,
        ranks: ranks.to_vec(),
        step,
        digest: false,
    }
}

fn made(step: Step, ranks: &[Rank]) -> [Command; 2] {
    [Command::Decide(decision(step, ranks)), apply(step, ranks)]
}

#[test]
fn a_step_with_its_quorum_waits_for_the_rest_and_then_goes_on() {
    let mut bench = Bench::training(0);
    bench.frame(0, 1);
    bench.frame(0, 2);
    assert_eq!(bench.contributed(0), made(0, &[0, 1, 2]), "all are there");
    assert_eq!(bench.applied(0), [Command::Compute(1)]);
    bench.now = 10;
    assert!(bench.frame(1, 1).is_empty(), "one is no quorum");
    bench.now = 1000;
    assert!(bench.contributed(1).is_empty());
    assert_eq!(bench.machine.deadline(), Some(1050));
    bench.now = 1049;
    assert!(bench.handle(Event::Tick).is_empty());
    bench.now = 1050;
    assert_eq!(bench.handle(Event::Tick), made(1, &[0, 1]));
    assert_eq!(
        bench.said.last().map(|it| &**it),
        Some("step 1 goes on without rank 2")
    );
}

/// A slow trainer of the one who decides does not hold up the others either.
#[test]
fn who_decides_can_be_late_itself() {
    let mut bench = Bench::training(0);
    bench.frame(0, 1);
    bench.frame(0, 2);
    bench.contributed(0);
    bench.applied(0);
    for step in [1, 2] {
        bench.frame(step, 1);
        bench.frame(step, 2);
        bench.now += QUORUM.wait;
        assert_eq!(bench.handle(Event::Tick), made(step, &[1, 2]));
    }
    assert!(bench.contributed(1).is_empty(), "it comes too late");
    assert!(bench.applied(1).is_empty(), "step 2 is not applied");
    assert_eq!(bench.applied(2), [Command::Compute(3)]);
}

#[test]
fn nobody_is_left_out_too_often_or_of_the_first_step() {
    let mut bench = Bench::training(0);
    bench.frame(0, 1);
    bench.contributed(0);
    bench.now = 500;
    assert!(
        bench.handle(Event::Tick).is_empty(),
        "rank 2 may not be in the view"
    );
    assert_eq!(bench.frame(0, 2), made(0, &[0, 1, 2]));
    for step in 1..=LEFT_OUT_MAX + 1 {
        assert_eq!(bench.applied(step - 1), [Command::Compute(step)]);
        bench.frame(step, 1);
        bench.contributed(step);
        bench.now += QUORUM.wait;
        let went_on = !bench.handle(Event::Tick).is_empty();
        assert_eq!(went_on, step <= LEFT_OUT_MAX, "step {step}");
    }
    assert_eq!(
        bench.frame(4, 2),
        [Command::Drop(
            FrameKey {
                view: 1,
                step: 4,
                rank: 2,
                bucket: 0
            },
            crate::node::Verdict::Late
        )]
    );
    let last = LEFT_OUT_MAX + 1;
    assert_eq!(bench.frame(last, 2), made(last, &[0, 1, 2]));
    let said: Vec<&str> = bench.said.iter().map(|it| &**it).collect();
    assert!(said.ends_with(&[
        "step 8 goes on without rank 2",
        "step 9 is made by all again"
    ]));
}

#[test]
fn whoever_is_left_out_catches_up_and_goes_on_with_the_newest_step() {
    let mut bench = Bench::training(1);
    bench.frame(0, 0);
    bench.frame(0, 2);
    bench.contributed(0);
    assert_eq!(bench.learns(0, &[0, 1, 2]), [apply(0, &[0, 1, 2])]);
    assert_eq!(bench.applied(0), [Command::Compute(1)]);
    // The trainer is slow: two steps go on without it.
    for step in [1, 2] {
        assert!(bench.learns(step, &[0, 2]).is_empty());
        bench.frame(step, 0);
        assert_eq!(bench.frame(step, 2), [apply(step, &[0, 2])]);
    }
    // And a third, which it knows before it is all there.
    bench.learns(3, &[0, 2]);
    assert!(bench.contributed(1).is_empty());
    assert!(bench.applied(1).is_empty());
    assert!(bench.applied(2).is_empty(), "step 3 is made without it");
    bench.frame(3, 0);
    assert_eq!(bench.frame(3, 2), [apply(3, &[0, 2])]);
    assert_eq!(bench.applied(3), [Command::Compute(4)]);
}

#[test]
fn what_nobody_can_have_decided_does_not_count() {
    let mut bench = Bench::training(1);
    for rank in [0, 2] {
        bench.frame(0, rank);
    }
    bench.contributed(0);
    for ranks in [&[2][..], &[0, 3], &[2, 0], &[0, 0], &[]] {
        assert!(bench.learns(0, ranks).is_empty(), "{ranks:?}");
    }
    bench.handle(Event::Decision(Decision {
        view: 2,
        ..decision(0, &[0, 2])
    }));
    assert_eq!(bench.learns(0, &[0, 1, 2]), [apply(0, &[0, 1, 2])]);
    assert!(bench.learns(0, &[0, 2]).is_empty(), "it is made");
}

#[test]
fn who_is_ahead_forwards_what_was_decided_too() {
    let mut bench = Bench::training(2);
    for step in 0..12 {
        for rank in [0, 1] {
            bench.frame(step, rank);
        }
        bench.contributed(step);
        bench.learns(step, &[0, 1, 2]);
        bench.applied(step);
    }
    // One more is decided, but it dies with the view: nobody has acted on it.
    bench.handle(Event::Message(ToNode::Freeze { view: 1 }));
    bench.frame(12, 0);
    bench.frame(12, 1);
    assert!(bench.learns(12, &[0, 1]).is_empty());
    let behind = view(1, 0).members;
    let commands = bench.install(view(2, 12), behind.clone(), 10);
    let supply = Command::Supply {
        first: 10,
        end: 12,
        decisions: [10, 11].map(|step| decision(step, &[0, 1, 2])).to_vec(),
        to: behind,
    };
    assert_eq!(commands, [supply, Command::Link(view(2, 12))]);
}
