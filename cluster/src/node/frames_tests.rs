//! Which frames count, and when a step is complete.

use super::*;

#[test]
fn a_step_is_applied_when_all_contributions_are_there_whatever_came_last() {
    let frames = [key(0, 0, 0), key(0, 2, 1), key(0, 0, 1), key(0, 2, 0)];
    for own_last in [false, true] {
        let mut bench = Bench::training(1, 3);
        if !own_last {
            assert!(bench.handle(contributed(0)).is_empty());
        }
        for frame in &frames[..3] {
            assert_eq!(bench.handle(Event::Frame(*frame)), [Command::Keep(*frame)]);
        }
        assert_eq!(bench.machine.waiting_for(), [2]);
        let mut commands = bench.handle(Event::Frame(frames[3]));
        if own_last {
            commands.extend(bench.handle(contributed(0)));
        }
        let keep = Command::Keep(frames[3]);
        assert_eq!(commands, [keep, apply_of(3, 0, false), Command::Compute(1)]);
    }
}

#[test]
fn frames_that_come_before_the_streams_are_open_count() {
    let mut bench = Bench::linking(1, 2);
    for bucket in 0..2 {
        let key = key(0, 0, bucket);
        assert_eq!(bench.handle(Event::Frame(key)), [Command::Keep(key)]);
    }
    assert_eq!(bench.handle(Event::Linked(1)), [Command::Compute(0)]);
    let commands = bench.handle(contributed(0));
    assert_eq!(commands, [apply(0, false), Command::Compute(1)]);
}

/// Trap T7: two steps in flight, and copies of frames.
#[test]
fn duplicate_late_early_and_foreign_frames_do_not_count() {
    let mut bench = Bench::training(1, 2);
    let mut judge = |key| match bench.handle(Event::Frame(key)).as_slice() {
        [Command::Drop(dropped, verdict)] if *dropped == key => Some(*verdict),
        _ => None,
    };
    assert_eq!(judge(key(0, 0, 0)), None);
    assert_eq!(judge(key(0, 0, 0)), Some(Verdict::Duplicate));
    assert_eq!(judge(key(1, 0, 0)), None, "it may be one step ahead");
    assert_eq!(judge(key(1, 0, 0)), Some(Verdict::Duplicate));
    assert_eq!(judge(key(2, 0, 0)), Some(Verdict::Early));
    assert_eq!(judge(key(0, 1, 0)), Some(Verdict::Unknown), "our own");
    assert_eq!(judge(key(0, 2, 0)), Some(Verdict::Unknown));
    assert_eq!(
        judge(FrameKey {
            view: 2,
            ..key(0, 0, 1)
        }),
        Some(Verdict::Foreign)
    );
    assert_eq!(judge(key(0, 0, 1)), None);
    bench.handle(contributed(0));
    let late = bench.handle(Event::Frame(key(0, 0, 1)));
    assert_eq!(late, [Command::Drop(key(0, 0, 1), Verdict::Late)]);
}

#[test]
fn frames_before_there_is_a_view_are_foreign_and_after_the_last_step_late() {
    let key = key(0, 0, 0);
    for mut bench in [Bench::greeting(), Bench::preparing(1), Bench::ready(1)] {
        let dropped = Command::Drop(key, Verdict::Foreign);
        assert_eq!(bench.handle(Event::Frame(key)), [dropped]);
    }
    let dropped = Command::Drop(key, Verdict::Late);
    assert_eq!(Bench::finishing(1).handle(Event::Frame(key)), [dropped]);
}
