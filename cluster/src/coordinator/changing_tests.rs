//! From one view to the next: who is asked, what is decided, who is told.

use super::*;

fn freeze(to: NodeId, view: ViewNumber) -> Command {
    send(to, ToNode::Freeze { view })
}

fn frozen(view: ViewNumber, next: Step) -> ToCoordinator {
    ToCoordinator::Frozen { view, next }
}

/// The view that is to be stored, the only thing to be done.
fn stored(commands: &[Command]) -> &View {
    match commands {
        [Command::Persist(view)] => view,
        other => panic!("a view is to be stored: {other:?}"),
    }
}

fn nodes(view: &View) -> Vec<NodeId> {
    view.members.iter().map(|member| member.node).collect()
}

#[test]
fn survivors_of_a_crash_go_on_where_the_first_of_them_stands() {
    let (mut bench, _) = Bench::training(3);
    let lost = bench.handle(Event::Disconnected(11));
    assert_eq!(lost, [freeze(10, 1), freeze(12, 1)]);
    assert!(bench.says(12, frozen(1, 7)).is_empty());
    assert!(
        bench.says(10, frozen(9, 7)).is_empty(),
        "another view's answer"
    );
    let commands = bench.says(10, frozen(1, 6));
    let view = stored(&commands).clone();
    assert_eq!((view.number, view.first_step), (2, 7));
    assert_eq!(view.consumed, 7 * 3 * 8);
    assert_eq!(nodes(&view), [10, 12]);
    let commands = bench.handle(Event::Persisted(2));
    let supply = |to, supply: &[NodeId]| {
        let member = |node: &NodeId| bench.machine.seats.member(*node).expect("it is here");
        let installation = Installation {
            view: view.clone(),
            hold: false,
            supply: supply.iter().map(member).collect(),
            lacking: if supply.is_empty() { 7 } else { 6 },
            restore: None,
        };
        send(to, ToNode::Install(installation))
    };
    assert_eq!(commands, [supply(10, &[]), supply(12, &[10])]);
    assert_eq!(bench.machine.view(), Some(&view));
}

#[test]
fn a_lease_that_runs_out_costs_the_silent_member_its_place_and_tells_it() {
    let (mut bench, _) = Bench::training(2);
    for now in [250, 500, 750] {
        bench.now = now;
        bench.says(10, ToCoordinator::Heartbeat);
        assert!(bench.handle(Event::Tick).is_empty());
    }
    bench.now = 1000;
    let commands = bench.handle(Event::Tick);
    let text = "rank 1 is lost: nothing was heard from it for 1.0 s".to_owned();
    let excluded = ToNode::Excluded(Failure::MemberLost(text));
    assert_eq!(commands, [send(11, excluded), freeze(10, 1)]);
}

/// Otherwise everybody would be lost whenever this process is stopped for a while.
#[test]
fn a_coordinator_that_was_frozen_itself_blames_nobody() {
    let (mut bench, _) = Bench::training(2);
    bench.now = 5000;
    assert!(bench.handle(Event::Tick).is_empty());
    assert_eq!(bench.machine.deadline(), Some(5250));
}

/// Its heartbeats arrive, but what it is asked does not, or not what it answers.
#[test]
fn a_member_that_is_heard_but_never_stands_still_is_left_out_within_the_lease() {
    let (mut bench, _) = Bench::training(3);
    bench.handle(Event::Disconnected(10));
    assert!(bench.says(11, frozen(1, 4)).is_empty());
    for now in [250, 500, 750] {
        bench.now = now;
        bench.says(11, ToCoordinator::Heartbeat);
        assert!(bench.says(12, ToCoordinator::Heartbeat).is_empty());
    }
    assert_eq!(bench.machine.deadline(), Some(1000));
    bench.now = 1000;
    let commands = bench.handle(Event::Tick);
    let text = "rank 2 is lost: it did not stand still for the next view within 1.0 s";
    let excluded = ToNode::Excluded(Failure::MemberLost(text.into()));
    assert_eq!(commands[0], send(12, excluded));
    assert_eq!(nodes(stored(&commands[1..])), [11]);
}

/// The last member and an observer fall silent together.
#[test]
fn whoever_falls_silent_with_the_last_member_hears_of_the_end_and_nothing_more() {
    let (mut bench, _) = Bench::training(1);
    let ToCoordinator::Hello(said) = hello(None) else {
        panic!("it is one");
    };
    let observes = Hello {
        observe: true,
        ..said
    };
    bench.says(11, ToCoordinator::Hello(observes));
    for now in [250, 500, 750] {
        bench.now = now;
        assert!(bench.handle(Event::Tick).is_empty());
    }
    bench.now = 1000;
    let commands = bench.handle(Event::Tick);
    assert!(
        matches!(commands.last(), Some(Command::Conclude(_))),
        "{commands:?}"
    );
}

#[test]
fn whoever_is_lost_during_a_change_is_left_out_of_it() {
    let (mut bench, _) = Bench::training(4);
    bench.handle(Event::Disconnected(11));
    bench.says(10, frozen(1, 5));
    bench.says(12, frozen(1, 5));
    let commands = bench.handle(Event::Disconnected(13));
    assert_eq!(nodes(stored(&commands)), [10, 12]);
    // And while the view is being stored, which the next one then supersedes.
    assert!(bench.handle(Event::Disconnected(10)).is_empty());
    let commands = bench.handle(Event::Persisted(2));
    let view = stored(&commands).clone();
    assert_eq!(
        (view.number, view.first_step, nodes(&view)),
        (3, 5, vec![12])
    );
    let commands = bench.handle(Event::Persisted(3));
    assert_eq!(commands, [install(12, &view)]);
}

/// The simulator found this: as many go on as were to, but they are others.
#[test]
fn a_view_whose_only_member_is_lost_while_it_is_stored_is_not_announced() {
    let (mut bench, _) = Bench::training(2);
    bench.handle(Event::Disconnected(11));
    bench.says(10, frozen(1, 5));
    bench.handle(Event::Persisted(2));
    bench.says(20, hello(None));
    bench.prepared(20);
    bench.says(20, ToCoordinator::CaughtUp { view: 2 });
    bench.says(20, frozen(2, 6));
    let commands = bench.says(10, frozen(2, 9));
    assert_eq!(
        nodes(stored(&commands)),
        [10],
        "the other is too far behind"
    );
    bench.handle(Event::Disconnected(10));
    let commands = bench.handle(Event::Persisted(3));
    let view = stored(&commands);
    assert_eq!((view.first_step, nodes(view)), (6, vec![20]));
}

#[test]
fn a_run_without_members_fails_for_the_reason_of_the_last() {
    let (mut bench, _) = Bench::training(2);
    bench.handle(Event::Disconnected(10));
    let text = failure(&bench.handle(Event::Disconnected(11)), &[]);
    assert_eq!(text, "rank 1 is lost: its connection closed");
}

#[test]
fn a_member_that_leaves_costs_only_its_part_but_divergence_is_everybodys() {
    let leave = |failure| ToCoordinator::Leave(failure);
    let (mut bench, _) = Bench::training(2);
    let commands = bench.says(11, leave(Failure::Fault("disk full".into())));
    assert_eq!(commands, [freeze(10, 1)]);
    let text = failure(&bench.says(10, leave(Failure::Stopped("bye".into()))), &[]);
    assert_eq!(text, "rank 0: bye");

    let (mut bench, _) = Bench::training(2);
    let diverged = leave(Failure::Diverged("the loss is NaN".into()));
    let text = failure(&bench.says(11, diverged), &[10, 11]);
    assert_eq!(text, "rank 1: the loss is NaN");

    let mut bench = Bench::new(2);
    bench.says(1, hello(Some(0)));
    assert!(
        bench
            .says(1, leave(Failure::Stopped("bye".into())))
            .is_empty()
    );
    assert!(
        welcomes(&bench.says(2, hello(Some(0))), 2),
        "the seat is free"
    );
}

#[test]
fn a_broken_stream_is_opened_anew_until_it_breaks_too_often() {
    let (mut bench, mut view) = Bench::training(3);
    for number in 1..3 {
        let reason = "connection reset".to_owned();
        let lost = ToCoordinator::PeerLost {
            view: number,
            rank: 2,
            reason,
        };
        let commands = bench.says(11, lost);
        let asked = [10, 11, 12].map(|node| freeze(node, number));
        assert_eq!(commands, asked, "nobody is left out");
        let mut commands = Vec::new();
        for node in [10, 11, 12] {
            commands = bench.says(node, frozen(number, 4));
        }
        view = stored(&commands).clone();
        assert_eq!(nodes(&view), [10, 11, 12]);
        bench.handle(Event::Persisted(number + 1));
    }
    let lost = ToCoordinator::PeerLost {
        view: view.number,
        rank: 2,
        reason: "connection reset".to_owned(),
    };
    let commands = bench.says(11, lost);
    let text = "rank 1 cannot reach rank 2 (connection reset)".to_owned();
    let excluded = ToNode::Excluded(Failure::MemberLost(text));
    let expected = [send(12, excluded), freeze(10, 3), freeze(11, 3)];
    assert_eq!(commands, expected);
}

#[test]
fn whoever_holds_another_replica_than_most_is_excluded() {
    let (mut bench, _) = Bench::training(3);
    let report = |step, byte| ToCoordinator::Digest {
        step,
        digest: Digest([byte; 32]),
    };
    for node in [10, 11, 12] {
        assert!(bench.says(node, report(0, 1)).is_empty());
    }
    assert!(bench.says(10, report(1, 2)).is_empty());
    assert!(bench.says(12, report(1, 3)).is_empty());
    let commands = bench.says(11, report(1, 2));
    let [
        Command::Send {
            to: 12,
            message: ToNode::Excluded(Failure::ReplicasDiffer(text)),
        },
        rest @ ..,
    ] = &commands[..]
    else {
        panic!("the odd one is told: {commands:?}");
    };
    assert!(text.contains("after step 1: rank 0 holds 0202"), "{text}");
    assert!(text.contains("rank 2 holds 0303"), "{text}");
    assert_eq!(rest, [freeze(10, 1), freeze(11, 1)]);

    let (mut bench, _) = Bench::training(2);
    bench.says(10, report(0, 1));
    let text = failure(&bench.says(11, report(0, 2)), &[10, 11]);
    assert!(
        text.contains("rank 1 holds 0202"),
        "nobody knows who is right: {text}"
    );
}

/// A node that comes back follows the view, and becomes a member when it has caught up.
#[test]
fn a_node_that_comes_back_becomes_a_member_while_training_goes_on() {
    let (mut bench, _) = Bench::training(2);
    bench.handle(Event::Disconnected(11));
    bench.says(10, frozen(1, 5));
    bench.handle(Event::Persisted(2));
    assert!(welcomes(&bench.says(20, hello(Some(1))), 20));
    let view = bench.machine.view().expect("it trains").clone();
    let observer = bench.machine.seats.member(20).expect("it has a seat");
    let expected = [
        send(
            10,
            ToNode::Observe {
                view: 2,
                observer: observer.clone(),
            },
        ),
        send(
            20,
            ToNode::Follow {
                view,
                donor: 0,
                residual: None,
            },
        ),
    ];
    assert_eq!(bench.prepared(20), expected);
    // Its stream from rank 0 breaks: it is opened again.
    let lost = ToCoordinator::PeerLost {
        view: 2,
        rank: 0,
        reason: "reset".into(),
    };
    let again = [send(10, ToNode::Observe { view: 2, observer })];
    assert_eq!(bench.says(20, lost), again);
    assert!(
        bench
            .says(20, ToCoordinator::CaughtUp { view: 1 })
            .is_empty(),
        "of another view"
    );
    let commands = bench.says(20, ToCoordinator::CaughtUp { view: 2 });
    assert_eq!(commands, [freeze(10, 2), freeze(20, 2)]);
    bench.says(20, frozen(2, 8));
    let commands = bench.says(10, frozen(2, 9));
    let view = stored(&commands);
    assert_eq!((view.first_step, nodes(view)), (9, vec![10, 20]));
    assert_eq!(view.consumed, 5 * 16 + 4 * 8, "two members, then one");
}

#[test]
fn below_the_least_number_of_nodes_a_view_waits() {
    let mut bench = Bench::new(2);
    bench.machine.config.min_nodes = 2;
    for node in [10, 11] {
        bench.says(node, hello(None));
    }
    bench.prepared(10);
    bench.prepared(11);
    bench.handle(Event::Persisted(1));
    bench.handle(Event::Disconnected(11));
    bench.says(10, frozen(1, 2));
    let commands = bench.handle(Event::Persisted(2));
    let hold = |command: &Command| matches!(command, Command::Send { to: 10, message: ToNode::Install(it) } if it.hold);
    assert!(
        matches!(&commands[..], [command] if hold(command)),
        "{commands:?}"
    );
}

#[test]
fn for_whom_a_change_waits_is_said_if_it_takes_long() {
    let (mut bench, _) = Bench::training(3);
    let mut said = Vec::new();
    bench.machine.handle(0, Event::Disconnected(10), &mut said);
    for now in [200, 400] {
        let (from, message) = (11, ToCoordinator::Heartbeat);
        bench
            .machine
            .handle(now, Event::Message { from, message }, &mut said);
    }
    let said = said.iter().filter_map(|command| match command {
        Command::Explain(reason) => Some(reason.as_str()),
        _ => None,
    });
    let expected = [
        "rank 0 is lost: its connection closed",
        "view 1 ends",
        "view 1 ends: waiting for rank 1, rank 2, 0.6 s left",
    ];
    assert_eq!(said.collect::<Vec<_>>(), expected);
}
