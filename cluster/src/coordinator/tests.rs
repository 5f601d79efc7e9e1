//! What the coordinator commands, event by event.

use super::*;
use crate::message::{Hello, Installation};

#[path = "changing_tests.rs"]
mod changing;
#[path = "joining_tests.rs"]
mod joining;
#[path = "recovering_tests.rs"]
mod recovering;
#[path = "residuals_tests.rs"]
mod residuals;

const VERSION: &str = "1.0.0";

fn config(nodes: u32) -> RunConfig {
    RunConfig {
        name: "digits".into(),
        nodes,
        min_nodes: 1,
        data: "digits".into(),
        data_dir: None,
        model: "softmax".into(),
        hidden: Vec::new(),
        codec: "ecq".into(),
        steps: Some(3),
        epochs: None,
        batch_size: 8,
        global_batch: None,
        lr: 0.1,
        lr_schedule: "constant".into(),
        momentum: 0.0,
        seed: 1,
        digest_every: 1,
        record: false,
        lease_seconds: 1.0,
        quorum: None,
        quorum_wait: 0.0,
        checkpoint_every: None,
        keep_checkpoints: 3,
    }
}

fn fingerprint(replica: u8, data: u8) -> Fingerprint {
    Fingerprint {
        replica: Digest([replica; 32]),
        data: Digest([data; 32]),
        parameters: 650,
        samples: 1438,
    }
}

fn hello(rank: Option<Rank>) -> ToCoordinator {
    ToCoordinator::Hello(Hello {
        run: None,
        rank,
        version: VERSION.into(),
        address: "host:1".into(),
        observe: false,
        residual: None,
    })
}

/// A coordinator under test and its clock.
struct Bench {
    machine: Coordinator,
    now: Millis,
}

impl Bench {
    fn new(nodes: u32) -> Self {
        let machine = Coordinator::new(&config(nodes), "the text".into(), VERSION.into());
        Self { machine, now: 0 }
    }

    /// All commands but explanations.
    fn handle(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        self.machine.handle(self.now, event, &mut out);
        out.retain(|command| !matches!(command, Command::Explain(_)));
        out
    }

    fn says(&mut self, from: NodeId, message: ToCoordinator) -> Vec<Command> {
        self.handle(Event::Message { from, message })
    }

    fn prepared(&mut self, from: NodeId) -> Vec<Command> {
        self.says(
            from,
            ToCoordinator::Prepared {
                fingerprint: fingerprint(1, 2),
                kept: Vec::new(),
            },
        )
    }

    /// `nodes` nodes, 10, 11, …, hold ranks 0, 1, … of view 1, which is being stored.
    fn installing(nodes: u32) -> (Self, View) {
        let mut bench = Self::new(nodes);
        let ids = 10..10 + u64::from(nodes);
        for node in ids.clone() {
            bench.says(node, hello(None));
        }
        let mut commands = Vec::new();
        for node in ids {
            commands = bench.prepared(node);
        }
        match commands.as_slice() {
            [Command::Persist(view)] => (bench, view.clone()),
            other => panic!("all are ready, so the view is stored: {other:?}"),
        }
    }

    fn training(nodes: u32) -> (Self, View) {
        let (mut bench, view) = Self::installing(nodes);
        bench.handle(Event::Persisted(1));
        (bench, view)
    }
}

fn send(to: NodeId, message: ToNode) -> Command {
    Command::Send { to, message }
}

/// How `view` is announced where nobody lacks anything.
fn install(to: NodeId, view: &View) -> Command {
    let installation = Installation {
        view: view.clone(),
        hold: false,
        supply: Vec::new(),
        lacking: view.first_step,
        restore: None,
    };
    send(to, ToNode::Install(installation))
}

/// Whether `node` is given a seat.
fn welcomes(commands: &[Command], node: NodeId) -> bool {
    let welcome = |message: &ToNode| matches!(message, ToNode::Welcome { .. });
    matches!(commands, [Command::Send { to, message }] if *to == node && welcome(message))
}

/// The text with which `commands` end the run, having told exactly `nodes`.
fn failure(commands: &[Command], nodes: &[NodeId]) -> String {
    let Some((Command::Conclude(Outcome::Failed(failure)), told)) = commands.split_last() else {
        panic!("the run fails: {commands:?}");
    };
    let abort = |node: &NodeId| send(*node, ToNode::Abort(failure.clone()));
    assert_eq!(told, nodes.iter().map(abort).collect::<Vec<_>>());
    failure.to_string()
}

#[test]
fn a_view_is_installed_only_when_it_is_durable() {
    let (mut bench, view) = Bench::installing(2);
    assert_eq!(bench.machine.view(), None);
    assert!(bench.handle(Event::Persisted(2)).is_empty(), "another view");
    let commands = bench.handle(Event::Persisted(1));
    assert_eq!(commands, [install(10, &view), install(11, &view)]);
    assert_eq!(bench.machine.view(), Some(&view));
    assert!(bench.handle(Event::Persisted(1)).is_empty(), "once");
}

#[test]
fn a_lease_that_runs_out_while_nodes_gather_frees_the_seat() {
    let mut bench = Bench::new(2);
    bench.says(1, hello(Some(0)));
    for now in [250, 500, 750, 1000] {
        assert_eq!(bench.machine.deadline(), Some(now));
        bench.now = now;
        if now < 1000 {
            assert!(bench.handle(Event::Tick).is_empty());
        }
    }
    let commands = bench.handle(Event::Tick);
    let [
        Command::Send {
            to: 1,
            message: ToNode::Excluded(Failure::MemberLost(text)),
        },
    ] = &commands[..]
    else {
        panic!("it may only have been frozen: {commands:?}");
    };
    assert!(text.contains("rank 0 is lost"), "{text}");
    assert!(welcomes(&bench.says(2, hello(Some(0))), 2));
    assert!(bench.prepared(1).is_empty(), "its words no longer count");
}

#[test]
fn the_words_of_strangers_are_ignored_in_every_phase() {
    let words = [
        ToCoordinator::Prepared {
            fingerprint: fingerprint(7, 7),
            kept: Vec::new(),
        },
        ToCoordinator::Heartbeat,
        ToCoordinator::Digest {
            step: 0,
            digest: Digest([7; 32]),
        },
        ToCoordinator::PeerLost {
            view: 1,
            rank: 0,
            reason: "gone".into(),
        },
        ToCoordinator::Frozen { view: 1, next: 0 },
        ToCoordinator::CaughtUp { view: 1 },
        ToCoordinator::Finished {
            view: 1,
            steps: 3,
            digest: Digest([7; 32]),
        },
        ToCoordinator::Leave(Failure::Stopped("bye".into())),
    ];
    for mut bench in [Bench::new(2), Bench::installing(2).0, Bench::training(2).0] {
        for message in &words {
            assert!(bench.says(99, message.clone()).is_empty(), "{message:?}");
        }
        assert!(bench.handle(Event::Disconnected(99)).is_empty());
    }
}

#[test]
fn words_out_of_turn_change_nothing() {
    let (mut bench, _) = Bench::training(2);
    assert!(bench.says(10, hello(None)).is_empty());
    assert!(
        bench
            .says(
                10,
                ToCoordinator::Prepared {
                    fingerprint: fingerprint(7, 7),
                    kept: Vec::new()
                }
            )
            .is_empty()
    );
    for (view, rank) in [(2, 1), (1, 0), (1, 2)] {
        let reason = "gone".to_owned();
        let lost = ToCoordinator::PeerLost { view, rank, reason };
        assert!(bench.says(10, lost).is_empty(), "view {view}, rank {rank}");
    }
}

#[test]
fn the_run_is_complete_when_every_member_has_finished_alike() {
    let finished = |byte| ToCoordinator::Finished {
        view: 1,
        steps: 3,
        digest: Digest([byte; 32]),
    };
    let (mut bench, _) = Bench::training(2);
    assert!(bench.says(11, finished(4)).is_empty());
    let digest = Digest([4; 32]);
    let outcome = Outcome::Completed { steps: 3, digest };
    let end = [
        send(10, ToNode::End),
        send(11, ToNode::End),
        Command::Conclude(outcome),
    ];
    assert_eq!(bench.says(10, finished(4)), end);

    let (mut bench, _) = Bench::training(2);
    bench.says(11, finished(5));
    let text = failure(&bench.says(10, finished(4)), &[10, 11]);
    assert!(
        text.contains("rank 0 holds 0404") && text.contains("rank 1 holds 0505"),
        "{text}"
    );
}

#[test]
fn nothing_follows_the_conclusion() {
    let (mut bench, _) = Bench::training(2);
    failure(&bench.handle(Event::Stop("told to".into())), &[10, 11]);
    bench.now = 5000;
    for event in [
        Event::Tick,
        Event::Stop("again".into()),
        Event::Disconnected(10),
    ] {
        assert!(bench.handle(event).is_empty());
    }
    assert!(bench.says(30, hello(None)).is_empty());
}

#[test]
fn what_it_waits_for_is_said_when_it_changes() {
    let mut bench = Bench::new(2);
    let mut said = Vec::new();
    for (from, message) in [
        (1, hello(None)),
        (1, ToCoordinator::Heartbeat),
        (2, hello(None)),
        (
            1,
            ToCoordinator::Prepared {
                fingerprint: fingerprint(1, 2),
                kept: Vec::new(),
            },
        ),
        (
            2,
            ToCoordinator::Prepared {
                fingerprint: fingerprint(1, 2),
                kept: Vec::new(),
            },
        ),
    ] {
        bench
            .machine
            .handle(0, Event::Message { from, message }, &mut said);
    }
    let reasons: Vec<_> = said
        .iter()
        .filter_map(|command| match command {
            Command::Explain(reason) => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    let expected = [
        "waiting for nodes: 1 of 2 have joined",
        "nodes prepare: 0 of 2 are ready",
        "nodes prepare: 1 of 2 are ready",
        "storing view 1",
    ];
    assert_eq!(reasons, expected);
}
