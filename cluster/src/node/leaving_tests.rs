//! A member that is told to leave.

use super::*;

fn told() -> Failure {
    Failure::Stopped("told to stop".into())
}

fn depart(step: Step) -> Command {
    let failure = told();
    Command::Send(ToCoordinator::Depart { step, failure })
}

fn applied(step: Step) -> Event {
    let digest = None;
    Event::Applied { step, digest }
}

fn exit() -> Command {
    Command::Exit(Err(Ending::Failed(told())))
}

impl Bench {
    /// Rank 1 of two, which trains so many steps.
    fn of_steps(steps: Step) -> Self {
        let mut bench = Self::preparing(1);
        let mut prepared = prepared_event();
        if let Event::Prepared { steps: all, .. } = &mut prepared {
            *all = steps;
        }
        bench.handle(prepared);
        bench.hears(install(view(2)));
        assert_eq!(bench.handle(Event::Linked(1)), [Command::Compute(0)]);
        bench
    }
}

/// Rank 1 of two, told to stop while it computes step 0; then step 0 is applied.
fn flushing() -> Bench {
    let mut bench = Bench::of_steps(3);
    assert!(bench.handle(Event::Stop(told())).is_empty());
    bench.handle(contributed(0));
    bench.handle(Event::Frame(key(0, 0, 0)));
    let commands = bench.handle(Event::Frame(key(0, 0, 1)));
    assert_eq!(commands[2..], [Command::Flush(1)], "the next is the last");
    assert!(bench.handle(applied(0)).is_empty());
    bench
}

/// Step 1 is applied too.
fn flushed() -> Bench {
    let mut bench = flushing();
    bench.handle(contributed(1));
    bench.handle(Event::Frame(key(1, 0, 0)));
    let commands = bench.handle(Event::Frame(key(1, 0, 1)));
    assert_eq!(commands[2..], [], "nothing follows");
    assert!(!bench.machine.has_flushed());
    assert_eq!(bench.handle(applied(1)), [depart(1)]);
    assert!(bench.machine.has_flushed());
    bench
}

fn next_view(number: ViewNumber, first_step: Step, members: u64) -> View {
    View {
        number,
        first_step,
        ..view(members)
    }
}

#[test]
fn the_next_contribution_is_the_last_and_the_node_stays_until_there_is_a_view_without_it() {
    let mut bench = flushed();
    assert_eq!(
        bench.hears(ToNode::Freeze { view: 1 }),
        [Command::Send(ToCoordinator::Frozen { view: 1, next: 2 })]
    );
    // The other has not applied step 1 yet: it is for this node to see that it can.
    let view = next_view(2, 2, 1);
    let supply = view.members.clone();
    let installation = Installation {
        view,
        hold: false,
        supply: supply.clone(),
        lacking: 1,
        restore: None,
    };
    let commands = bench.hears(ToNode::Install(installation));
    let supply = Command::Supply {
        first: 1,
        end: 2,
        decisions: Vec::new(),
        to: supply,
    };
    assert_eq!(commands, [supply, exit()]);
}

#[test]
fn a_last_contribution_that_is_void_is_made_again() {
    let mut bench = flushing();
    bench.handle(contributed(1));
    bench.hears(ToNode::Freeze { view: 1 });
    let view = next_view(2, 1, 2);
    assert_eq!(bench.hears(install(view.clone())), [Command::Link(view)]);
    assert_eq!(bench.handle(Event::Linked(2)), [Command::Flush(1)]);
}

#[test]
fn in_a_view_that_begins_after_it_there_is_nothing_more_to_contribute() {
    let mut bench = flushed();
    bench.hears(ToNode::Freeze { view: 1 });
    let view = next_view(2, 2, 2);
    assert_eq!(bench.hears(install(view.clone())), [Command::Link(view)]);
    assert!(bench.handle(Event::Linked(2)).is_empty());
    assert_eq!(bench.hears(install(next_view(3, 2, 1))), [exit()]);
}

#[test]
fn a_coordinator_that_was_away_is_told_again() {
    let mut bench = flushed();
    bench.handle(Event::CoordinatorLost("eof".into()));
    let said = bench.handle(Event::Reconnected);
    assert_eq!(said[1..], [depart(1)]);
    assert_eq!(bench.hears(ToNode::Excluded(told())), [exit()]);
}

/// Nobody would learn of a last contribution without a coordinator, and nobody is left to profit from one.
#[test]
fn who_can_reach_nobody_leaves_at_once() {
    let leave = || Command::Send(ToCoordinator::Leave(told()));
    let mut away = Bench::of_steps(3);
    away.handle(Event::CoordinatorLost("eof".into()));
    let mut held = Bench::ready(1);
    held.hears(ToNode::Install(Installation {
        view: view(2),
        hold: true,
        supply: Vec::new(),
        lacking: 1,
        restore: None,
    }));
    let mut twice = flushing();
    assert_eq!(twice.handle(Event::Stop(told())), [leave(), exit()]);
    let others = [
        away,
        held,
        Bench::training(0, 1),
        Bench::ready(1),
        Bench::finishing(1),
    ];
    for mut bench in others {
        assert_eq!(bench.handle(Event::Stop(told())), [leave(), exit()]);
    }
}

#[test]
fn a_coordinator_that_goes_away_puts_the_last_contribution_off() {
    let mut bench = Bench::of_steps(3);
    bench.handle(Event::Stop(told()));
    bench.handle(Event::CoordinatorLost("eof".into()));
    bench.handle(contributed(0));
    bench.handle(Event::Frame(key(0, 0, 0)));
    let commands = bench.handle(Event::Frame(key(0, 0, 1)));
    assert_eq!(commands[2..], [Command::Compute(1)]);
}

#[test]
fn with_the_last_step_of_the_run_there_is_nothing_to_leave() {
    let mut bench = Bench::of_steps(2);
    bench.handle(Event::Stop(told()));
    for step in 0..2 {
        for bucket in 0..2 {
            bench.handle(Event::Frame(key(step, 0, bucket)));
        }
        bench.handle(contributed(step));
    }
    let digest = Some(Digest([3; 32]));
    let said = bench.handle(Event::Applied { step: 1, digest });
    let finished = |it: &Command| matches!(it, Command::Send(ToCoordinator::Finished { .. }));
    assert!(
        said.iter().any(finished) && !said.contains(&depart(1)),
        "{said:?}"
    );
    assert_eq!(bench.hears(ToNode::End), [Command::Exit(Ok(2))]);
}

#[test]
fn a_node_that_has_told_of_a_residual_takes_it_up_where_it_counts() {
    let mut bench = Bench::ready(9);
    bench.machine.has_residual = true;
    for residual in [Some(7), None] {
        let view = view(2);
        let follow = ToNode::Follow {
            view: view.clone(),
            donor: 0,
            residual,
        };
        let expected = [Command::Follow(view), Command::Inherit(residual)];
        assert_eq!(bench.hears(follow), expected);
    }
}
