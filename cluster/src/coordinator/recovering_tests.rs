//! A coordinator that begins in the middle of a run.

use super::*;
use crate::message::Legacy;
use crate::view::Member;

fn bench(checkpoint_every: Option<Step>, views: &[View]) -> Bench {
    of_run(2, checkpoint_every, views, 1)
}

/// A coordinator that begins in the middle of a run of so many nodes, which has made at least so many steps.
fn of_run(nodes: u32, checkpoint_every: Option<Step>, views: &[View], made: Step) -> Bench {
    let config = RunConfig {
        checkpoint_every,
        ..config(nodes)
    };
    let standard = Some(fingerprint(1, 2));
    let views = views.iter().cloned();
    let version = VERSION.into();
    let machine = Coordinator::resume(&config, "the text".into(), version, views, made, standard);
    Bench { machine, now: 0 }
}

fn view(number: ViewNumber, first_step: Step) -> View {
    let member = |node| Member {
        node,
        address: format!("host-{node}:1"),
    };
    View {
        number,
        first_step,
        consumed: 10 * first_step,
        members: [1, 2].map(member).to_vec(),
    }
}

fn back(view: ViewNumber, frozen: bool) -> ToCoordinator {
    ToCoordinator::Return {
        node: 0,
        view,
        frozen,
    }
}

#[test]
fn members_that_heard_the_last_view_train_on() {
    for every in [None, Some(5)] {
        let mut bench = bench(every, &[view(1, 0), view(2, 7)]);
        for node in [1, 2] {
            let said = bench.says(node, back(2, false));
            let words = said.iter().filter(|c| matches!(c, Command::Send { .. }));
            assert_eq!(words.count(), 0, "{said:?}");
        }
        assert_eq!(bench.machine.view(), Some(&view(2, 7)));
    }
}

#[test]
fn who_stands_still_or_missed_the_last_view_makes_it_change() {
    for (missed, frozen) in [(1, false), (1, true), (2, true)] {
        let mut bench = bench(None, &[view(1, 0), view(2, 7)]);
        bench.says(1, back(missed, frozen));
        let freeze = |to| Command::Send {
            to,
            message: ToNode::Freeze { view: 2 },
        };
        let said = bench.says(2, back(2, false));
        assert!(said.contains(&freeze(2)), "the one that was away: {said:?}");
        bench.says(1, ToCoordinator::Frozen { view: 2, next: 6 });
        let said = bench.says(2, ToCoordinator::Frozen { view: 2, next: 7 });
        let next = View {
            consumed: 70,
            ..view(3, 7)
        };
        assert!(said.contains(&Command::Persist(next)), "{said:?}");
    }
}

#[test]
fn who_does_not_come_back_within_the_lease_is_lost() {
    let mut bench = bench(None, &[view(1, 0)]);
    bench.says(1, back(1, false));
    for now in [400, 800] {
        bench.now = now;
        bench.says(1, ToCoordinator::Heartbeat);
    }
    bench.now = 1100;
    let said = bench.handle(Event::Tick);
    let freeze = Command::Send {
        to: 1,
        message: ToNode::Freeze { view: 1 },
    };
    assert!(said.contains(&freeze), "{said:?}");
}

#[test]
fn nobody_comes_back_twice_or_from_nowhere() {
    let mut bench = bench(None, &[view(1, 0)]);
    bench.says(1, back(1, false));
    for (node, view) in [(9, 1), (2, 3), (1, 1)] {
        let said = bench.says(node, back(view, false));
        let excluded = |command: &Command| matches!(command, Command::Send { to, message: ToNode::Excluded(_) } if *to == node);
        assert!(said.iter().any(excluded), "{said:?}");
    }
}

#[test]
fn new_nodes_go_on_from_the_checkpoint_that_most_have() {
    let kept = |step, rank, byte| Kept {
        step,
        rank,
        view: 1,
        digest: Digest([byte; 32]),
    };
    // Node 11 was rank 1, and has a later checkpoint that node 10 lacks.
    let cases = [
        (
            vec![kept(4, 0, 1)],
            vec![kept(4, 1, 1), kept(8, 1, 1)],
            4,
            vec![10, 11],
        ),
        (
            vec![kept(4, 0, 2)],
            vec![kept(4, 1, 1), kept(8, 1, 1)],
            8,
            vec![11],
        ),
        (vec![], vec![], 0, vec![10, 11]),
    ];
    for (first, second, step, members) in cases {
        let mut bench = bench(Some(4), &[view(1, 0)]);
        for node in [10, 11] {
            bench.says(node, hello(None));
        }
        let prepared = |kept| ToCoordinator::Prepared {
            fingerprint: fingerprint(1, 2),
            kept,
        };
        bench.says(11, prepared(second));
        let said = bench.says(10, prepared(first));
        let stored = said.iter().find_map(|command| match command {
            Command::Persist(view) => Some(view.clone()),
            _ => None,
        });
        let stored = stored.expect("a view");
        let nodes: Vec<NodeId> = stored.members.iter().map(|member| member.node).collect();
        assert_eq!(
            (stored.number, stored.first_step, nodes),
            (2, step, members)
        );
        let said = bench.handle(Event::Persisted(2));
        let restores: Vec<Option<Rank>> = said
            .iter()
            .filter_map(|command| match command {
                Command::Send {
                    message: ToNode::Install(it),
                    ..
                } => Some(it.restore),
                _ => None,
            })
            .collect();
        let expected = match (step, stored.members.len()) {
            (0, _) => vec![None, None],
            (_, 1) => vec![Some(1)],
            _ => vec![Some(0), Some(1)],
        };
        assert_eq!(restores, expected);
    }
}

/// Its first view was stored, and nobody heard of it: who was to be a member comes as a new node, and no checkpoints
/// are needed to begin.
#[test]
fn a_run_that_has_made_no_step_begins_anew() {
    let mut bench = of_run(2, None, &[view(1, 0)], 0);
    let state = bench.machine.state().expect("it is not over");
    assert!(state.contains("2 nodes to begin anew: 0 are"), "{state}");
    let prepared = || ToCoordinator::Prepared {
        fingerprint: fingerprint(1, 2),
        kept: Vec::new(),
    };
    for node in [3, 4] {
        let said = bench.says(node, hello(None));
        let welcome = |command: &Command| matches!(command, Command::Send { to, message: ToNode::Welcome { .. } } if *to == node);
        assert!(said.iter().any(welcome), "{said:?}");
    }
    bench.says(3, prepared());
    let said = bench.says(4, prepared());
    let stored = said.iter().find_map(|command| match command {
        Command::Persist(view) => Some(view.clone()),
        _ => None,
    });
    let stored = stored.expect("a view");
    let nodes: Vec<NodeId> = stored.members.iter().map(|member| member.node).collect();
    assert_eq!(
        (stored.number, stored.first_step, stored.consumed),
        (2, 0, 0)
    );
    assert_eq!(nodes, [3, 4]);
}

/// Of the members of such a view, one that has heard of it takes its place, and a node that came for the other is told
/// to come again.
#[test]
fn whoever_has_heard_of_the_first_view_goes_on_with_it() {
    let mut bench = of_run(2, None, &[view(1, 0)], 0);
    bench.says(3, hello(None));
    let said = bench.says(1, back(1, false));
    let excluded = |command: &Command| {
        matches!(
            command,
            Command::Send {
                to: 3,
                message: ToNode::Excluded(_)
            }
        )
    };
    assert!(said.iter().any(excluded), "{said:?}");
    assert_eq!(bench.machine.view(), Some(&view(1, 0)));
}

/// Steps that are made and not kept are not made again by themselves.
#[test]
fn a_run_without_checkpoints_that_has_made_steps_fails_with_its_members() {
    for (views, made) in [(vec![view(1, 0)], 1), (vec![view(1, 0), view(2, 7)], 0)] {
        let mut bench = of_run(2, None, &views, made);
        let mut said = Vec::new();
        for now in [400, 800, 1100] {
            bench.now = now;
            said = bench.handle(Event::Tick);
        }
        let failed = |command: &Command| matches!(command, Command::Conclude(Outcome::Failed(_)));
        assert!(said.iter().any(failed), "{said:?}");
    }
}

/// Who takes up which rank's checkpoint.
type Restores = Vec<(NodeId, Option<Rank>)>;

/// What comes of these nodes' checkpoints: the first step, who takes up what, and all that was said.
fn recovered(
    views: &[View],
    nodes: u32,
    kept: &[(NodeId, &[Kept])],
) -> (Step, Restores, Vec<Command>) {
    let mut bench = of_run(nodes, Some(5), views, 1);
    let mut said = Vec::new();
    for (node, kept) in kept {
        bench.says(*node, hello(None));
        said = bench.says(
            *node,
            ToCoordinator::Prepared {
                fingerprint: fingerprint(1, 2),
                kept: kept.to_vec(),
            },
        );
    }
    let stored = said.iter().find_map(|command| match command {
        Command::Persist(view) => Some(view.clone()),
        _ => None,
    });
    let stored = stored.expect("a view");
    let installed = bench.handle(Event::Persisted(stored.number));
    let restores = installed.iter().filter_map(|command| match command {
        Command::Send {
            to,
            message: ToNode::Install(it),
        } => Some((*to, it.restore)),
        _ => None,
    });
    (stored.first_step, restores.collect(), said)
}

fn kept(step: Step, view: ViewNumber, rank: Rank) -> Kept {
    Kept {
        step,
        rank,
        view,
        digest: Digest([step as u8; 32]),
    }
}

/// Rank 1 of three was lost after step 7, and comes back first: it takes nothing from those who went on.
#[test]
fn the_latest_checkpoint_of_all_members_counts_whoever_comes_first() {
    let mut first = view(1, 0);
    first.members.push(Member {
        node: 3,
        address: "host-3:1".into(),
    });
    let mut second = view(2, 7);
    second.members = vec![first.members[0].clone(), first.members[2].clone()];
    let lost = [kept(5, 1, 1)];
    let (a, c) = (
        [kept(5, 1, 0), kept(30, 2, 0)],
        [kept(5, 1, 2), kept(30, 2, 1)],
    );
    let nodes: [(NodeId, &[Kept]); 3] = [(20, &lost), (21, &c), (22, &a)];
    let (step, restores, said) = recovered(&[first, second], 3, &nodes);
    assert_eq!((step, restores), (30, vec![(22, Some(0)), (21, Some(1))]));
    for (node, by) in [(1, 22), (3, 21)] {
        let legacy = Command::Bequeath(Legacy::Kept { node, by });
        assert!(said.contains(&legacy), "{said:?}");
    }
}

/// View 2 made steps to 30 and more; then the run went on from step 7, and view 3 made 7 to 11.
#[test]
fn what_no_longer_stands_is_not_gone_on_from() {
    let views = [view(1, 0), view(2, 7), view(3, 7)];
    let a = [kept(5, 1, 0), kept(30, 2, 0), kept(10, 3, 0)];
    let b = [kept(5, 1, 1), kept(30, 2, 1), kept(10, 3, 1)];
    let nodes: [(NodeId, &[Kept]); 2] = [(20, &a), (21, &b)];
    let (step, restores, _) = recovered(&views, 2, &nodes);
    assert_eq!((step, restores), (10, vec![(20, Some(0)), (21, Some(1))]));
}

/// All nodes have all checkpoints, in one directory.
#[test]
fn each_rank_of_a_shared_directory_is_taken_up_once() {
    let all = [kept(10, 1, 0), kept(10, 1, 1)];
    let nodes: [(NodeId, &[Kept]); 2] = [(20, &all), (21, &all)];
    let (step, restores, _) = recovered(&[view(1, 0)], 2, &nodes);
    assert_eq!((step, restores), (10, vec![(20, Some(0)), (21, Some(1))]));
}

#[test]
fn with_checkpoints_a_run_outlives_its_last_member() {
    let mut bench = bench(Some(4), &[view(1, 0)]);
    for node in [1, 2] {
        bench.says(node, back(1, false));
    }
    bench.handle(Event::Disconnected(1));
    assert!(bench.handle(Event::Disconnected(2)).is_empty());
    let state = bench.machine.state().expect("it is not over");
    assert!(state.contains("from their checkpoints"), "{state}");
}
