use super::*;
use crate::view::Member;

fn view(number: u64, first_step: Step, consumed: u64, nodes: &[NodeId]) -> View {
    let member = |node: &NodeId| Member {
        node: *node,
        address: String::new(),
    };
    View {
        number,
        first_step,
        consumed,
        members: nodes.iter().map(member).collect(),
    }
}

fn supply(donor: NodeId, to: &[NodeId], lacking: Step) -> Option<Supply> {
    let to = to.to_vec();
    Some(Supply { donor, to, lacking })
}

fn answered(answers: &[(NodeId, Step)], followers: &[(NodeId, Step)]) -> Change {
    let nodes: Vec<NodeId> = answers.iter().map(|(node, _)| *node).collect();
    let old = view(1, 0, 0, &nodes);
    let mut change = Change::new(0, &old, |_| true, followers.iter().map(|(node, _)| *node));
    for (node, next) in answers.iter().chain(followers) {
        assert_eq!(change.decide(1, |_| true), None, "not all have answered");
        change.answer(*node, *next);
    }
    change
}

#[test]
fn the_next_view_begins_after_what_anybody_has_applied() {
    let decision = answered(&[(3, 6), (1, 7), (2, 7)], &[])
        .decide(1, |_| true)
        .expect("all have answered");
    assert_eq!(decision.first_step, 7);
    assert_eq!(decision.members, [3, 1, 2], "ranks keep their order");
    assert_eq!(decision.supply, supply(1, &[3], 6));
    assert!(decision.astray.is_empty());
}

#[test]
fn who_is_lost_is_not_waited_for() {
    let mut change = Change::new(
        0,
        &view(1, 0, 0, &[1, 2, 3]),
        |node| node != 3,
        [9].into_iter(),
    );
    assert_eq!(change.missing(), [1, 2, 9]);
    change.answer(1, 4);
    change.answer(9, 4);
    change.lose(2);
    let decision = change.decide(1, |_| true).expect("the rest has answered");
    assert_eq!(decision.members, [1, 9]);
    change.lose(1);
    let decision = change
        .decide(1, |_| true)
        .expect("who follows goes on alone");
    assert_eq!((decision.first_step, decision.members), (4, vec![9]));
    change.lose(9);
    assert!(change.asked().next().is_none() && change.decide(1, |_| true).is_none());
}

#[test]
fn followers_come_last_and_only_if_they_have_caught_up() {
    let followers = [(8, 5), (9, 3), (7, 4)];
    let decision = answered(&[(1, 5), (2, 5)], &followers)
        .decide(1, |_| true)
        .expect("all have answered");
    assert_eq!(decision.members, [1, 2, 8, 7]);
    assert_eq!(decision.supply, supply(1, &[7], 4));
}

#[test]
fn as_far_apart_as_a_quorum_lets_them_be_all_can_go_on() {
    let change = answered(&[(1, 15), (2, 6), (3, 9), (4, 5)], &[]);
    let decision = change.decide(9, |_| true).expect("all have answered");
    assert_eq!((decision.first_step, decision.members), (15, vec![1, 2, 3]));
    assert_eq!(decision.supply, supply(1, &[2, 3], 6));
    assert_eq!(decision.astray, [(4, 5)]);
}

/// A follower that was left out for that could be so every time. Of several members each may lack
/// contributions, which nobody could send.
#[test]
fn a_follower_that_has_applied_what_the_only_member_has_not_goes_on_with_it() {
    let decide = |answers, followers| {
        let decision = answered(answers, followers).decide(1, |_| true);
        decision.expect("all have answered")
    };
    let decision = decide(&[(1, 5)], &[(8, 6), (9, 5)]);
    assert_eq!((decision.first_step, decision.supply), (6, None));
    assert_eq!(decision.members, [1, 8, 9]);
    let decision = decide(&[(1, 5), (2, 5)], &[(8, 6)]);
    assert_eq!((decision.first_step, decision.members), (5, vec![1, 2]));
}

#[test]
fn who_is_more_than_a_step_behind_cannot_go_on() {
    let decision = answered(&[(1, 5), (2, 2)], &[])
        .decide(1, |_| true)
        .expect("all have answered");
    assert_eq!((decision.members, decision.astray), (vec![1], vec![(2, 2)]));
}

#[test]
fn samples_are_counted_by_the_views_that_consumed_them() {
    let mut history = History::default();
    assert_eq!((history.last(), history.consumed(0, |_| 10)), (0, 0));
    let per_step = |members: u32| 10 * u64::from(members);
    history.push(view(1, 0, 0, &[1, 2]));
    assert_eq!(history.consumed(3, per_step), 60);
    history.push(view(2, 3, 60, &[1]));
    assert_eq!(history.consumed(5, per_step), 80);
    assert_eq!(history.consumed(2, per_step), 40, "view 2 has made no step");
    assert_eq!(history.last(), 2);
}

/// Who leaves may be gone before the others have what they lack.
#[test]
fn who_stays_supplies_the_others_if_anybody_can() {
    let supply_of = |answers: &[(NodeId, Step)], leaves: NodeId| {
        let decision = answered(answers, &[]).decide(1, |node| *node != leaves);
        decision.expect("all have answered").supply
    };
    assert_eq!(
        supply_of(&[(1, 4), (2, 5), (3, 5)], 2),
        supply(3, &[1], 4),
        "the next that can"
    );
    assert_eq!(
        supply_of(&[(1, 4), (2, 5), (3, 4)], 2),
        supply(2, &[1, 3], 4),
        "nobody else can"
    );
}
