//! What a node commands, event by event.

use super::*;
use crate::message::{Fingerprint, Refusal};

#[path = "changing_tests.rs"]
mod changing;
#[path = "frames_tests.rs"]
mod frames;
#[path = "leaving_tests.rs"]
mod leaving;
#[path = "returning_tests.rs"]
mod returning;

const HEARTBEAT: Millis = 100;

fn fingerprint() -> Fingerprint {
    Fingerprint {
        replica: Digest([1; 32]),
        data: Digest([2; 32]),
        parameters: 650,
        samples: 1438,
    }
}

fn view(members: u64) -> View {
    let member = |node| Member {
        node,
        address: format!("host:{node}"),
    };
    View {
        number: 1,
        first_step: 0,
        consumed: 0,
        members: (0..members).map(member).collect(),
    }
}

fn key(step: Step, rank: Rank, bucket: u32) -> FrameKey {
    FrameKey {
        view: 1,
        step,
        rank,
        bucket,
    }
}

fn install(view: View) -> ToNode {
    ToNode::Install(Installation {
        view,
        hold: false,
        supply: Vec::new(),
        lacking: 0,
        restore: None,
    })
}

fn contributed(step: Step) -> Event {
    Event::Contributed { view: 1, step }
}

/// A node under test, with node id 1 and hence rank 1 where there are others, and its clock.
struct Bench {
    machine: Node,
    now: Millis,
}

impl Bench {
    fn greeting() -> Self {
        let hello = Hello {
            run: None,
            rank: None,
            version: "1.0.0".into(),
            address: "host:1".into(),
            observe: false,
            residual: None,
        };
        let mut out = Vec::new();
        let machine = Node::new(0, hello.clone(), HEARTBEAT, &mut out);
        assert_eq!(out, [Command::Send(ToCoordinator::Hello(hello))]);
        Self { machine, now: 0 }
    }

    /// All commands but explanations.
    fn handle(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        out.retain(|command| !matches!(command, Command::Explain(_)));
        out
    }

    fn hears(&mut self, message: ToNode) -> Vec<Command> {
        self.handle(Event::Message(message))
    }

    fn preparing(id: NodeId) -> Self {
        let mut bench = Self::greeting();
        let config = "the text".to_owned();
        let welcome = ToNode::Welcome {
            node: id,
            config: config.clone(),
            begun: false,
        };
        assert_eq!(
            bench.hears(welcome),
            [Command::Prepare {
                config,
                begun: false
            }]
        );
        bench
    }

    /// Ready to train two steps of two buckets.
    fn ready(id: NodeId) -> Self {
        let mut bench = Self::preparing(id);
        let prepared = ToCoordinator::Prepared {
            fingerprint: fingerprint(),
            kept: Vec::new(),
        };
        assert_eq!(bench.handle(prepared_event()), [Command::Send(prepared)]);
        bench
    }

    fn linking(id: NodeId, members: u64) -> Self {
        let mut bench = Self::ready(id);
        let view = view(members);
        assert_eq!(bench.hears(install(view.clone())), [Command::Link(view)]);
        bench
    }

    fn training(id: NodeId, members: u64) -> Self {
        let mut bench = Self::linking(id, members);
        assert_eq!(bench.handle(Event::Linked(1)), [Command::Compute(0)]);
        bench
    }

    /// All steps applied, the digest wanted after the last.
    fn finishing(id: NodeId) -> Self {
        let mut bench = Self::training(id, 2);
        for step in 0..2 {
            for bucket in 0..2 {
                bench.handle(Event::Frame(key(step, 1 - id as Rank, bucket)));
            }
            bench.handle(contributed(step));
        }
        bench
    }

    fn every_phase() -> Vec<Self> {
        vec![
            Self::greeting(),
            Self::preparing(1),
            Self::ready(1),
            Self::linking(1, 2),
            Self::training(1, 2),
            Self::finishing(1),
        ]
    }
}

fn prepared_event() -> Event {
    Event::Prepared {
        fingerprint: fingerprint(),
        buckets: 2,
        steps: 2,
        digest_every: 2,
        quorum: None,
        kept: Vec::new(),
    }
}

fn apply(step: Step, digest: bool) -> Command {
    apply_of(2, step, digest)
}

/// The same in a view of so many members.
fn apply_of(members: u32, step: Step, digest: bool) -> Command {
    Command::Apply {
        view: 1,
        members,
        ranks: (0..members).collect(),
        step,
        digest,
    }
}

#[test]
fn digests_are_wanted_as_often_as_the_run_says_and_at_the_end() {
    let mut bench = Bench::preparing(0);
    bench.handle(Event::Prepared {
        fingerprint: fingerprint(),
        buckets: 1,
        steps: 5,
        digest_every: 2,
        quorum: None,
        kept: Vec::new(),
    });
    bench.hears(install(view(1)));
    bench.handle(Event::Linked(1));
    let wanted: Vec<bool> = (0..5)
        .filter_map(|step| match bench.handle(contributed(step))[..] {
            [Command::Apply { digest, .. }, ..] => Some(digest),
            _ => None,
        })
        .collect();
    assert_eq!(wanted, [false, true, false, true, true]);
}

/// Trap T11: alone in the run.
#[test]
fn alone_a_node_trains_and_finishes() {
    let mut bench = Bench::training(0, 1);
    let commands = bench.handle(contributed(0));
    assert_eq!(commands, [apply_of(1, 0, false), Command::Compute(1)]);
    let (step, digest) = (0, None);
    assert!(bench.handle(Event::Applied { step, digest }).is_empty());
    assert_eq!(bench.handle(contributed(1)), [apply_of(1, 1, true)]);
    let digest = Digest([3; 32]);
    let applied = Event::Applied {
        step: 1,
        digest: Some(digest),
    };
    let report = Command::Send(ToCoordinator::Digest { step: 1, digest });
    assert_eq!(bench.handle(applied), [report, Command::Deliver]);
    let (view, steps) = (1, 2);
    let finished = Command::Send(ToCoordinator::Finished {
        view,
        steps,
        digest,
    });
    assert_eq!(bench.handle(Event::Delivered), [finished]);
    assert_eq!(bench.hears(ToNode::End), [Command::Exit(Ok(2))]);
}

#[test]
fn only_rank_0_delivers_the_model() {
    let digest = Digest([3; 32]);
    let applied = Event::Applied {
        step: 1,
        digest: Some(digest),
    };
    let report = Command::Send(ToCoordinator::Digest { step: 1, digest });
    let (view, steps) = (1, 2);
    let finished = Command::Send(ToCoordinator::Finished {
        view,
        steps,
        digest,
    });
    let commands = Bench::finishing(0).handle(applied.clone());
    assert_eq!(commands, [report.clone(), Command::Deliver]);
    assert_eq!(Bench::finishing(1).handle(applied), [report, finished]);
}

#[test]
fn an_end_before_the_last_step_is_no_success() {
    for mut bench in Bench::every_phase() {
        let finishing = matches!(bench.machine.phase, Phase::Finishing(_));
        let commands = bench.hears(ToNode::End);
        match &commands[..] {
            [Command::Exit(Ok(2))] => assert!(finishing),
            [Command::Exit(Err(Ending::CoordinatorLost(reason)))] => {
                assert!(!finishing && reason.contains("before this node had applied"));
            }
            other => panic!("it exits: {other:?}"),
        }
    }
}

#[test]
fn an_abort_a_refusal_and_a_lost_coordinator_end_it_in_every_phase() {
    let failure = || Failure::MemberLost("rank 0 is lost".into());
    let refusal = || Refusal::Full { nodes: 2 };
    for (event, ending) in [
        (
            Event::Message(ToNode::Abort(failure())),
            Ending::Aborted(failure()),
        ),
        (
            Event::Message(ToNode::Excluded(failure())),
            Ending::Excluded(failure()),
        ),
        (
            Event::Message(ToNode::Refused(refusal())),
            Ending::Refused(refusal()),
        ),
        (
            Event::CoordinatorGone("eof".into()),
            Ending::CoordinatorLost("eof".into()),
        ),
    ] {
        for mut bench in Bench::every_phase() {
            let exit = Command::Exit(Err(ending.clone()));
            assert_eq!(bench.handle(event.clone()), [exit]);
            bench.now = 10 * HEARTBEAT;
            assert_eq!(bench.machine.deadline(), None);
            for event in [Event::Tick, Event::Linked(1), Event::Message(ToNode::End)] {
                assert!(bench.handle(event).is_empty(), "nothing follows");
            }
        }
    }
}

#[test]
fn a_node_that_cannot_go_on_says_so_before_it_exits() {
    let failure = Failure::Stopped("told to stop".into());
    for mut bench in Bench::every_phase() {
        let leave = Command::Send(ToCoordinator::Leave(failure.clone()));
        let exit = Command::Exit(Err(Ending::Failed(failure.clone())));
        assert_eq!(bench.handle(Event::Failed(failure.clone())), [leave, exit]);
    }
}

#[test]
fn a_lost_peer_is_reported_while_its_frames_are_needed() {
    let event = || Event::PeerLost {
        view: 1,
        rank: 0,
        reason: "reset".into(),
    };
    for mut bench in [Bench::linking(1, 2), Bench::training(1, 2)] {
        let lost = ToCoordinator::PeerLost {
            view: 1,
            rank: 0,
            reason: "reset".into(),
        };
        assert_eq!(bench.handle(event()), [Command::Send(lost)]);
    }
    for mut bench in [Bench::ready(1), Bench::finishing(1)] {
        assert!(bench.handle(event()).is_empty());
    }
}

#[test]
fn events_out_of_turn_change_nothing() {
    let (step, digest) = (1, Some(Digest([3; 32])));
    for mut bench in Bench::every_phase().into_iter().take(4) {
        for event in [contributed(0), Event::Delivered] {
            assert!(bench.handle(event).is_empty());
        }
    }
    // While it links, the last step of the view before may still be under way.
    for mut bench in Bench::every_phase().into_iter().take(3) {
        assert!(bench.handle(Event::Applied { step, digest }).is_empty());
    }
    let welcome = || ToNode::Welcome {
        node: 5,
        config: String::new(),
        begun: false,
    };
    for mut bench in Bench::every_phase().into_iter().skip(3) {
        assert!(bench.handle(prepared_event()).is_empty());
        assert!(bench.hears(welcome()).is_empty());
        assert!(bench.hears(install(view(2))).is_empty());
    }
    let mut bench = Bench::training(1, 2);
    assert!(
        bench.handle(Event::Linked(1)).is_empty(),
        "streams are open already"
    );
    assert!(
        bench.handle(contributed(1)).is_empty(),
        "nobody asked for it"
    );
    assert!(
        Bench::ready(9).hears(install(view(2))).is_empty(),
        "no member"
    );
}

#[test]
fn it_speaks_at_least_every_heartbeat() {
    let beat = || Command::Send(ToCoordinator::Heartbeat);
    let mut bench = Bench::training(1, 2);
    for due in [100, 200, 300] {
        assert_eq!(bench.machine.deadline(), Some(due));
        bench.now = due - 1;
        assert!(bench.handle(Event::Tick).is_empty());
        bench.now = due;
        assert_eq!(bench.handle(Event::Tick), [beat()]);
    }
    bench.now = 1234;
    let frame = key(0, 0, 0);
    let commands = bench.handle(Event::Frame(frame));
    assert_eq!(
        commands,
        [Command::Keep(frame), beat()],
        "any event will do"
    );
    assert_eq!(bench.machine.deadline(), Some(1334));
}

#[test]
fn a_view_that_begins_after_the_last_step_cannot_be_trained_in() {
    let mut bench = Bench::ready(1);
    let late = View {
        first_step: 3,
        ..view(2)
    };
    let commands = bench.hears(install(late));
    let [
        Command::Send(ToCoordinator::Leave(_)),
        Command::Exit(Err(ending)),
    ] = &commands[..]
    else {
        panic!("it leaves: {commands:?}");
    };
    assert!(
        ending
            .to_string()
            .contains("begins at step 3, but the run has 2 steps"),
        "{ending}"
    );
}
