//! From one view to the next, and from following to membership.

use super::*;

fn freeze(view: ViewNumber) -> ToNode {
    ToNode::Freeze { view }
}

fn frozen(view: ViewNumber, next: Step) -> Command {
    Command::Send(ToCoordinator::Frozen { view, next })
}

/// View 2 of the first members of view 1.
fn next_view(first_step: Step, members: u64) -> View {
    View {
        number: 2,
        first_step,
        ..view(members)
    }
}

#[test]
fn a_node_that_stands_still_holds_frames_and_applies_nothing() {
    let mut bench = Bench::training(1, 2);
    bench.handle(contributed(0));
    assert_eq!(bench.hears(freeze(1)), [frozen(1, 0)]);
    assert!(bench.hears(freeze(0)).is_empty(), "an earlier view");
    for bucket in 0..2 {
        let key = key(0, 0, bucket);
        assert_eq!(bench.handle(Event::Frame(key)), [Command::Keep(key)]);
    }
    // Step 0 is void: it is computed again, in the next view.
    let view = next_view(0, 2);
    assert_eq!(bench.hears(install(view.clone())), [Command::Link(view)]);
    assert!(
        bench.handle(contributed(0)).is_empty(),
        "that was the old view's"
    );
    assert!(bench.handle(Event::Linked(1)).is_empty());
    assert_eq!(bench.handle(Event::Linked(2)), [Command::Compute(0)]);
}

#[test]
fn who_is_behind_applies_what_the_next_view_needs_first() {
    let mut bench = Bench::training(1, 3);
    bench.handle(contributed(0));
    bench.handle(Event::Frame(key(0, 0, 0)));
    bench.handle(Event::Frame(key(0, 0, 1)));
    assert_eq!(bench.hears(freeze(1)), [frozen(1, 0)]);
    let view = next_view(1, 2);
    assert!(
        bench.hears(install(view.clone())).is_empty(),
        "rank 2's are missing"
    );
    // While it waits, another change begins: it still stands where it stood.
    assert_eq!(bench.hears(freeze(2)), [frozen(2, 0)]);
    let view = View { number: 3, ..view };
    bench.hears(install(view.clone()));
    bench.handle(Event::Frame(key(0, 2, 0)));
    let last = key(0, 2, 1);
    let commands = bench.handle(Event::Frame(last));
    assert_eq!(
        commands,
        [
            Command::Keep(last),
            apply_of(3, 0, false),
            Command::Link(view)
        ]
    );
}

#[test]
fn who_is_ahead_forwards_what_others_lack() {
    let mut bench = Bench::training(1, 2);
    for bucket in 0..2 {
        bench.handle(Event::Frame(key(0, 0, bucket)));
    }
    bench.handle(contributed(0));
    assert_eq!(bench.hears(freeze(1)), [frozen(1, 1)]);
    let (view, supply) = (next_view(1, 2), view(1).members);
    let installation = Installation {
        view: view.clone(),
        hold: true,
        supply: supply.clone(),
        lacking: 0,
        restore: None,
    };
    let commands = bench.hears(ToNode::Install(installation));
    let supply = Command::Supply {
        first: 0,
        end: 1,
        decisions: Vec::new(),
        to: supply,
    };
    assert_eq!(commands, [supply, Command::Link(view)]);
    assert!(
        bench.handle(Event::Linked(2)).is_empty(),
        "the view waits for more members"
    );
}

#[test]
fn a_view_without_steps_only_sees_that_everybody_has_the_same() {
    let digest = Digest([3; 32]);
    let applied = Event::Applied {
        step: 1,
        digest: Some(digest),
    };
    let finished = |view| {
        Command::Send(ToCoordinator::Finished {
            view,
            steps: 2,
            digest,
        })
    };
    let mut bench = Bench::finishing(1);
    assert_eq!(bench.hears(freeze(1)), [frozen(1, 2)]);
    assert!(bench.handle(applied.clone()).contains(&finished(1)));
    assert_eq!(bench.hears(install(next_view(2, 2))), [finished(2)]);
    // The same, but the last step is only applied afterwards.
    let mut bench = Bench::finishing(1);
    bench.hears(freeze(1));
    assert!(bench.hears(install(next_view(2, 2))).is_empty());
    assert!(bench.handle(applied).contains(&finished(2)));
}

fn following() -> Bench {
    let mut bench = Bench::ready(9);
    let (view, donor) = (view(2), 1);
    let follow = ToNode::Follow {
        view: view.clone(),
        donor,
        residual: None,
    };
    assert_eq!(bench.hears(follow), [Command::Follow(view)]);
    bench
}

fn opened(rank: Rank, first: Step) -> Event {
    let view = 1;
    Event::Opened { view, rank, first }
}

fn snapshot(next: Step) -> Event {
    Event::Snapshot {
        view: 1,
        next,
        digest: Digest([next as u8; 32]),
    }
}

fn fetch(rank: u64, at_least: Step) -> Command {
    Command::Fetch {
        view: 1,
        from: view(2).members[rank as usize].clone(),
        at_least,
    }
}

fn caught_up() -> Command {
    Command::Send(ToCoordinator::CaughtUp { view: 1 })
}

#[test]
fn a_follower_needs_a_snapshot_from_which_on_all_contributions_come() {
    let mut bench = following();
    assert!(bench.handle(opened(0, 1)).is_empty());
    assert!(bench.handle(snapshot(1)).is_empty(), "nobody asked for it");
    assert_eq!(bench.handle(opened(1, 0)), [fetch(1, 1)]);
    let missed = Event::NotFetched {
        view: 1,
        reason: "refused".into(),
    };
    assert_eq!(bench.handle(missed), [fetch(0, 1)], "from another member");
    assert!(bench.handle(snapshot(0)).is_empty(), "it is too old");
    for rank in 0..2 {
        for bucket in 0..2 {
            bench.handle(Event::Frame(key(1, rank, bucket)));
        }
    }
    let adopt = Command::Adopt { next: 1 };
    assert_eq!(
        bench.handle(snapshot(1)),
        [adopt, apply(1, true), caught_up()]
    );
}

#[test]
fn a_follower_whose_stream_broke_needs_another_snapshot() {
    let mut bench = following();
    bench.handle(opened(0, 0));
    bench.handle(opened(1, 0));
    assert_eq!(
        bench.handle(snapshot(0)),
        [Command::Adopt { next: 0 }, caught_up()]
    );
    let reason = || "reset".to_owned();
    let (view, rank) = (1, 0);
    let lost = Event::PeerLost {
        view,
        rank,
        reason: reason(),
    };
    let report = ToCoordinator::PeerLost {
        view,
        rank,
        reason: reason(),
    };
    assert_eq!(bench.handle(lost), [Command::Send(report)]);
    assert_eq!(bench.handle(opened(0, 1)), [fetch(1, 1)]);
    assert_eq!(
        bench.handle(snapshot(1)),
        [Command::Adopt { next: 1 }, caught_up()]
    );
}

#[test]
fn a_follower_that_has_caught_up_becomes_a_member() {
    let mut bench = following();
    bench.handle(opened(0, 0));
    bench.handle(opened(1, 0));
    bench.handle(snapshot(0));
    assert_eq!(bench.hears(freeze(1)), [frozen(1, 0)]);
    let mut view = next_view(1, 2);
    view.members.push(Member {
        node: 9,
        address: "host:9".into(),
    });
    assert!(
        bench.hears(install(view.clone())).is_empty(),
        "step 0 is missing"
    );
    let mut commands = Vec::new();
    for (rank, bucket) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        commands = bench.handle(Event::Frame(key(0, rank, bucket)));
    }
    assert_eq!(commands[1..], [apply(0, false), Command::Link(view)]);
    assert_eq!(bench.handle(Event::Linked(2)), [Command::Compute(1)]);
}

#[test]
fn a_run_that_ends_while_a_node_follows_it_is_no_failure() {
    assert_eq!(following().hears(ToNode::End), [Command::Exit(Ok(0))]);
}

#[test]
fn members_stream_to_a_follower_from_their_next_contribution_on() {
    let observer = Member {
        node: 9,
        address: "host:9".into(),
    };
    let observe = |view| ToNode::Observe {
        view,
        observer: observer.clone(),
    };
    let stream = |first| Command::Stream {
        to: observer.clone(),
        first,
    };
    let mut bench = Bench::training(1, 2);
    assert_eq!(
        bench.hears(observe(1)),
        [stream(1)],
        "step 0 is being computed"
    );
    assert!(bench.hears(observe(2)).is_empty(), "there is no such view");
    let mut bench = Bench::linking(1, 2);
    assert!(
        bench.hears(observe(1)).is_empty(),
        "there is nothing to send to yet"
    );
    assert_eq!(
        bench.handle(Event::Linked(1)),
        [stream(0), Command::Compute(0)]
    );
    assert!(Bench::finishing(1).hears(observe(1)).is_empty());
}
