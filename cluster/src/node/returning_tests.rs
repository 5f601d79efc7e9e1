//! A member without a session.

use super::*;

fn lost() -> Event {
    Event::CoordinatorLost("eof".into())
}

#[test]
fn members_train_on_and_others_come_again_as_new_nodes() {
    for mut bench in Bench::every_phase() {
        let member = matches!(
            bench.machine.phase,
            Phase::Linking(_) | Phase::Training(_) | Phase::Finishing(_)
        );
        let commands = bench.handle(lost());
        match &commands[..] {
            [Command::Reconnect] => assert!(member),
            [Command::Exit(Err(Ending::CoordinatorLost(_)))] => assert!(!member),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn who_is_back_says_where_it_stands_and_what_was_lost() {
    let mut bench = Bench::training(1, 2);
    bench.handle(lost());
    let broken = Event::PeerLost {
        view: 1,
        rank: 0,
        reason: "reset".into(),
    };
    let report = bench.handle(broken);
    let back = |frozen| {
        Command::Send(ToCoordinator::Return {
            node: 1,
            view: 1,
            frozen,
        })
    };
    let said = bench.handle(Event::Reconnected);
    assert_eq!(said[..2], [back(false), report[0].clone()]);
    bench.hears(ToNode::Freeze { view: 1 });
    bench.handle(lost());
    let said = bench.handle(Event::Reconnected);
    assert_eq!(said[0], back(true));
}

#[test]
fn who_has_finished_says_so_again() {
    let mut bench = Bench::finishing(1);
    let digest = Some(Digest([3; 32]));
    let said = bench.handle(Event::Applied { step: 1, digest });
    bench.handle(lost());
    let again = bench.handle(Event::Reconnected);
    assert!(said.contains(&again[1]), "{again:?}");
}

#[test]
fn a_view_that_could_not_be_announced_freezes_its_members_all_the_same() {
    let mut bench = Bench::training(1, 2);
    let said = bench.hears(ToNode::Freeze { view: 2 });
    let frozen = ToCoordinator::Frozen { view: 2, next: 0 };
    assert_eq!(said[0], Command::Send(frozen));
}

#[test]
fn a_run_that_goes_on_from_checkpoints_restores_before_it_links() {
    let mut bench = Bench::ready(0);
    let view = View {
        first_step: 1,
        ..view(2)
    };
    let said = bench.hears(ToNode::Install(Installation {
        view: view.clone(),
        hold: false,
        supply: Vec::new(),
        lacking: 1,
        restore: Some(1),
    }));
    let restore = Command::Restore { step: 1, rank: 1 };
    assert_eq!(said[..2], [restore, Command::Link(view)]);
}
