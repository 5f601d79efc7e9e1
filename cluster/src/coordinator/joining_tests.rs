//! Who is given a seat, which one, and who is refused with which words.

use super::*;

fn refusal(commands: &[Command], node: NodeId) -> String {
    match commands {
        [
            Command::Send {
                to,
                message: ToNode::Refused(refusal),
            },
        ] if *to == node => refusal.to_string(),
        other => panic!("node {node} is refused and nothing else happens: {other:?}"),
    }
}

#[test]
fn a_node_is_welcomed_with_its_identity_and_the_configuration() {
    let welcome = ToNode::Welcome {
        node: 7,
        config: "the text".into(),
        begun: false,
    };
    let mut bench = Bench::new(2);
    assert_eq!(bench.says(7, hello(None)), [send(7, welcome)]);
    assert!(bench.says(7, hello(None)).is_empty(), "it has its answer");
}

#[test]
fn asked_ranks_are_given_and_the_others_fill_the_gaps_as_they_came() {
    let mut bench = Bench::new(4);
    let wishes = [(1, None), (2, Some(0)), (3, None), (4, Some(2))];
    for (node, rank) in wishes {
        bench.says(node, hello(rank));
    }
    let mut commands = Vec::new();
    for node in [4, 3, 1, 2] {
        assert!(commands.is_empty(), "not all are ready");
        commands = bench.prepared(node);
    }
    let [Command::Persist(view)] = commands.as_slice() else {
        panic!("the view is stored: {commands:?}");
    };
    let nodes: Vec<_> = view.members.iter().map(|member| member.node).collect();
    assert_eq!(nodes, [2, 1, 4, 3]);
    assert_eq!((view.number, view.first_step), (1, 0));
}

#[test]
fn a_taken_or_impossible_rank_is_refused_and_freed_ranks_are_given_again() {
    let mut bench = Bench::new(2);
    bench.says(1, hello(Some(1)));
    let text = refusal(&bench.says(2, hello(Some(1))), 2);
    assert!(
        text.contains("rank 1 is taken; ranks go from 0 to 1"),
        "{text}"
    );
    let text = refusal(&bench.says(2, hello(Some(2))), 2);
    assert!(text.contains("rank 2 does not exist"), "{text}");
    assert!(bench.handle(Event::Disconnected(1)).is_empty());
    assert!(welcomes(&bench.says(2, hello(Some(1))), 2));
    assert!(bench.prepared(2).is_empty(), "it has the seat");
}

#[test]
fn a_full_house_takes_nobody() {
    let (mut bench, _) = Bench::installing(2);
    let text = refusal(&bench.says(30, hello(None)), 30);
    assert!(text.contains("already has its 2 nodes"), "{text}");
    let mut bench = Bench::new(1);
    bench.says(1, hello(None));
    let text = refusal(&bench.says(2, hello(None)), 2);
    assert!(text.contains("already has its 1 nodes"), "{text}");
}

#[test]
fn another_run_and_another_version_are_refused_with_both_names() {
    let mut bench = Bench::new(2);
    let ask = |run: Option<&str>, version: &str| {
        ToCoordinator::Hello(Hello {
            run: run.map(str::to_owned),
            rank: None,
            version: version.into(),
            address: String::new(),
            observe: false,
            residual: None,
        })
    };
    let text = refusal(&bench.says(1, ask(Some("letters"), VERSION)), 1);
    assert!(
        text.contains("\"digits\"") && text.contains("\"letters\""),
        "{text}"
    );
    let text = refusal(&bench.says(1, ask(None, "0.9.0")), 1);
    assert!(text.contains("0.9.0") && text.contains(VERSION), "{text}");
    assert!(welcomes(&bench.says(1, ask(Some("digits"), VERSION)), 1));
}

/// Trap T10: different initial weights.
#[test]
fn another_replica_or_data_set_is_refused_with_both_digests() {
    for (replica, data, what) in [(9, 2, "initial replica"), (1, 9, "data set")] {
        let mut bench = Bench::new(2);
        bench.says(1, hello(None));
        bench.says(2, hello(None));
        bench.prepared(1);
        let odd = ToCoordinator::Prepared {
            fingerprint: fingerprint(replica, data),
            kept: Vec::new(),
        };
        let text = refusal(&bench.says(2, odd), 2);
        let expected = if replica == 9 { 1 } else { 2 };
        assert!(text.contains(what), "{text}");
        assert!(text.contains(&Digest([9; 32]).to_string()), "{text}");
        assert!(text.contains(&Digest([expected; 32]).to_string()), "{text}");
        bench.says(3, hello(None));
        let commands = bench.prepared(3);
        assert!(
            matches!(commands[..], [Command::Persist(_)]),
            "{commands:?}"
        );
    }
}

#[test]
fn an_observer_follows_every_view_and_is_no_member_of_any() {
    let (mut bench, view) = Bench::training(2);
    let observer = ToCoordinator::Hello(Hello {
        run: None,
        rank: Some(0),
        version: VERSION.into(),
        address: "host:1".into(),
        observe: true,
        residual: None,
    });
    let followed = |said: &[Command], number: ViewNumber| {
        said.iter().any(|command| {
            matches!(command, Command::Send { to: 20, message: ToNode::Follow { view, .. } }
                if view.number == number)
        })
    };
    let said = bench.says(20, observer);
    assert!(
        matches!(
            said[0],
            Command::Send {
                message: ToNode::Welcome { .. },
                ..
            }
        ),
        "{said:?}"
    );
    assert!(followed(&bench.prepared(20), 1));
    assert!(
        bench
            .says(20, ToCoordinator::CaughtUp { view: 1 })
            .is_empty()
    );
    assert_eq!(bench.machine.view(), Some(&view));
    bench.handle(Event::Disconnected(11));
    bench.says(10, ToCoordinator::Frozen { view: 1, next: 0 });
    assert!(followed(&bench.handle(Event::Persisted(2)), 2));
    let nodes: Vec<NodeId> = bench
        .machine
        .view()
        .expect("it trains")
        .members
        .iter()
        .map(|m| m.node)
        .collect();
    assert_eq!(nodes, [10]);
}
