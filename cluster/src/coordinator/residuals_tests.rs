//! What becomes of the residuals of those who go.

use super::*;
use crate::message::{Legacy, Residual};

fn freeze(to: NodeId, view: ViewNumber) -> Command {
    send(to, ToNode::Freeze { view })
}

fn frozen(view: ViewNumber, next: Step) -> ToCoordinator {
    ToCoordinator::Frozen { view, next }
}

fn depart(step: Step) -> ToCoordinator {
    let failure = Failure::Stopped("told to stop".into());
    ToCoordinator::Depart { step, failure }
}

fn flushed(node: NodeId, step: Step) -> Command {
    Command::Bequeath(Legacy::Flushed { node, step })
}

fn nodes(view: &View) -> Vec<NodeId> {
    view.members.iter().map(|member| member.node).collect()
}

fn stored(commands: &[Command]) -> &View {
    match commands.last() {
        Some(Command::Persist(view)) => view,
        _ => panic!("a view is to be stored: {commands:?}"),
    }
}

/// It takes part in the change, so that what it has applied counts whoever else has.
#[test]
fn the_view_without_a_leaver_begins_after_its_last_contribution() {
    let (mut bench, _) = Bench::training(3);
    let asked = [10, 11, 12].map(|node| freeze(node, 1));
    assert_eq!(bench.says(11, depart(6)), asked);
    bench.says(10, frozen(1, 6));
    bench.says(12, frozen(1, 6));
    let commands = bench.says(11, frozen(1, 7));
    assert_eq!(commands[0], flushed(11, 6));
    let view = stored(&commands).clone();
    assert_eq!((view.first_step, nodes(&view)), (7, vec![10, 12]));
    let commands = bench.handle(Event::Persisted(2));
    let to_leaver = commands.iter().find_map(|command| match command {
        Command::Send {
            to: 11,
            message: ToNode::Install(it),
        } => Some(it.supply.iter().map(|member| member.node).collect()),
        _ => None,
    });
    assert_eq!(to_leaver, Some(vec![10, 12]), "it supplies what they lack");
    assert!(bench.machine.seats.get(11).is_none());
    assert!(bench.handle(Event::Disconnected(11)).is_empty());
}

#[test]
fn a_leaver_that_dies_before_the_others_have_its_last_contribution_has_flushed_nothing() {
    let (mut bench, _) = Bench::training(2);
    bench.says(11, depart(6));
    bench.says(10, frozen(1, 6));
    let commands = bench.handle(Event::Disconnected(11));
    assert!(
        matches!(commands[..], [Command::Persist(_)]),
        "{commands:?}"
    );
    assert_eq!(stored(&commands).first_step, 6);
    // And one that dies afterwards has.
    let (mut bench, _) = Bench::training(2);
    bench.says(11, depart(6));
    bench.says(10, frozen(1, 7));
    let commands = bench.handle(Event::Disconnected(11));
    assert_eq!(commands[0], flushed(11, 6));
}

#[test]
fn who_leaves_while_a_view_is_stored_is_in_it_and_not_in_the_next() {
    let (mut bench, _) = Bench::training(3);
    bench.handle(Event::Disconnected(12));
    bench.says(10, frozen(1, 7));
    bench.says(11, frozen(1, 7));
    assert!(bench.says(11, depart(6)).is_empty());
    let commands = bench.handle(Event::Persisted(2));
    assert_eq!(commands[2..], [freeze(10, 2), freeze(11, 2)]);
    bench.says(10, frozen(2, 7));
    let commands = bench.says(11, frozen(2, 7));
    assert_eq!(commands[0], flushed(11, 6));
    let view = stored(&commands);
    assert_eq!((view.first_step, nodes(view)), (7, vec![10]));
}

#[test]
fn when_all_leave_the_run_is_over() {
    let (mut bench, _) = Bench::training(2);
    bench.says(10, depart(6));
    let commands = bench.says(11, depart(6));
    let over = |command: &Command| matches!(command, Command::Conclude(Outcome::Failed(_)));
    assert!(commands.last().is_some_and(over), "{commands:?}");
    // Unless there are checkpoints.
    let (mut bench, _) = Bench::training(2);
    bench.machine.config.checkpoint_every = Some(1);
    bench.says(10, depart(6));
    let commands = bench.says(11, depart(6));
    let told = |command: &Command| {
        matches!(
            command,
            Command::Send {
                message: ToNode::Excluded(_),
                ..
            }
        )
    };
    assert!(
        commands.len() == 2 && commands.iter().all(told),
        "{commands:?}"
    );
    assert!(matches!(bench.machine.phase, Phase::Recovering(_)));
}

/// Node 20, which was 11, follows; the answer is the step before which its residual counts.
fn follows(bench: &mut Bench, first: Step) -> Option<Step> {
    let residual = Some(Residual { node: 11, first });
    let ToCoordinator::Hello(hello) = hello(None) else {
        panic!("it is one");
    };
    bench.says(20, ToCoordinator::Hello(Hello { residual, ..hello }));
    let commands = bench.prepared(20);
    let answer = commands.into_iter().find_map(|command| match command {
        Command::Send {
            to: 20,
            message: ToNode::Follow { residual, .. },
        } => Some(residual),
        _ => None,
    });
    answer.expect("it follows")
}

/// Node 11 was left out of view 2, which begins at step 7.
fn left_out() -> Bench {
    let (mut bench, _) = Bench::training(2);
    bench.handle(Event::Disconnected(11));
    bench.says(10, frozen(1, 7));
    bench.handle(Event::Persisted(2));
    bench
}

#[test]
fn who_comes_back_goes_on_with_its_residual_from_before_the_view_that_left_it_out() {
    let mut bench = left_out();
    assert_eq!(follows(&mut bench, 7), Some(7));
    bench.says(20, ToCoordinator::CaughtUp { view: 2 });
    bench.says(20, frozen(2, 9));
    let commands = bench.says(10, frozen(2, 9));
    let kept = Legacy::Kept { node: 11, by: 20 };
    assert_eq!(commands[0], Command::Bequeath(kept));
    bench.handle(Event::Persisted(3));
    // It is said once.
    bench.handle(Event::Disconnected(10));
    let commands = bench.says(20, frozen(3, 12));
    assert!(
        matches!(commands[..], [Command::Persist(_)]),
        "{commands:?}"
    );
}

#[test]
fn a_residual_is_refused_that_cannot_go_back_far_enough() {
    assert_eq!(follows(&mut left_out(), 8), None);
    // Or whose owner is still there, or never was a member.
    let (mut bench, _) = Bench::training(3);
    bench.handle(Event::Disconnected(12));
    bench.says(10, frozen(1, 7));
    bench.says(11, frozen(1, 7));
    bench.handle(Event::Persisted(2));
    assert_eq!(follows(&mut bench, 0), None);
}
