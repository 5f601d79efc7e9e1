//! What reports amount to, and that none can do harm.

use super::*;

fn metrics() -> (tempfile::TempDir, Metrics) {
    let temporary = tempfile::tempdir().expect("there is room");
    let dir = RunDir::take(temporary.path(), "").expect("it is new");
    let mut metrics = Metrics::create(&dir).expect("it is writable");
    metrics.begin(Dimensions {
        parameters: 100,
        samples: 20,
        steps: 3,
    });
    metrics.install(0, [0, 1].into()).expect("written");
    (temporary, metrics)
}

fn report(step: Step, loss_sum: f64, step_seconds: f32) -> StepReport {
    StepReport {
        step,
        loss_sum,
        correct: 3.0,
        samples: 5,
        frame_bytes: 25,
        socket_bytes: 30,
        gradient_norm_squared: 4.0,
        residual_norm_squared: 9.0,
        input_norm_squared: 8.0,
        error_squared: 2.0,
        guarded_frames: 3,
        step_seconds,
        ..StepReport::default()
    }
}

#[test]
fn a_step_is_written_when_everybody_has_reported_it() {
    let (dir, mut metrics) = metrics();
    metrics
        .report(0, vec![report(0, 10.0, 0.5), report(1, 1.0, 0.1)])
        .expect("written");
    assert!(metrics.history.is_empty());
    metrics
        .report(1, vec![report(0, 20.0, 0.25)])
        .expect("written");
    let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).expect("it is there");
    let line: serde_json::Value = serde_json::from_str(text.trim()).expect("one line of JSON");
    for (key, expected) in [
        ("step", 1.0),
        ("epoch", 0.5),
        ("train_loss", 3.0),
        ("train_accuracy", 0.6),
        ("samples", 10.0),
        ("bits_per_element", 2.0),
        ("bytes_sent", 30.0),
        ("bytes_sent_total", 30.0),
        ("gradient_norm", 2.0),
        ("residual_norm", 3.0),
        ("residual_ratio", 2.25),
        ("omega", 0.25),
        ("guarded_frames", 6.0),
        ("step_seconds", 0.5),
    ] {
        assert_eq!(line[key].as_f64(), Some(expected), "{key}");
    }
}

#[test]
fn steps_come_in_order_whatever_order_reports_have() {
    let (_dir, mut metrics) = metrics();
    let (first, second) = (report(0, 1.0, 0.0), report(1, 2.0, 0.0));
    metrics.report(0, vec![second, first]).expect("written");
    metrics.report(1, vec![second]).expect("written");
    assert!(metrics.history.is_empty());
    // Reports of steps that are done or that the run does not have change nothing.
    metrics
        .report(1, vec![first, report(9, 9.0, 0.0)])
        .expect("written");
    metrics
        .report(1, vec![report(0, 77.0, 0.0)])
        .expect("written");
    let losses: Vec<f64> = metrics.history.iter().map(|m| m.train_loss).collect();
    assert_eq!(losses, [0.2, 0.4]);
    assert!(metrics.open.is_empty());
}

#[test]
fn a_report_of_the_far_future_does_not_keep_the_next_step_out() {
    let (_dir, mut metrics) = metrics();
    let steps = Step::MAX;
    let dimensions = metrics.dimensions.expect("it has begun");
    metrics.begin(Dimensions {
        steps,
        ..dimensions
    });
    let nonsense = (2..2 * STEPS_AHEAD_MAX).map(|step| report(step, 0.0, 0.0));
    metrics.report(0, nonsense.collect()).expect("written");
    assert!((metrics.open.len() as Step) < STEPS_AHEAD_MAX);
    for rank in [0, 1] {
        let first = report(0, 1.0, 0.0);
        metrics.report(rank, vec![first]).expect("written");
    }
    assert_eq!(metrics.history.len(), 1);
}

#[test]
fn an_evaluation_follows_the_steps_before_it() {
    let (dir, mut metrics) = metrics();
    let evaluation = |steps| Evaluation {
        steps,
        loss: 1.0,
        accuracy: 0.5,
    };
    for steps in [2, 9] {
        metrics.evaluation(evaluation(steps)).expect("written");
    }
    for rank in [0, 1] {
        let reports = (0..3).map(|step| report(step, 1.0, 0.0));
        metrics.report(rank, reports.collect()).expect("written");
    }
    let text = std::fs::read_to_string(dir.path().join(METRICS)).expect("it is there");
    let kind = |line: &str| line.contains("test_loss");
    let kinds: Vec<bool> = text.lines().map(kind).collect();
    assert_eq!(kinds, [false, false, true, false], "{text}");
    assert_eq!(metrics.evaluation, Some(evaluation(2)));
}

#[test]
fn what_is_not_finite_is_null() {
    let (dir, mut metrics) = metrics();
    metrics
        .report(0, vec![report(0, f64::NAN, 0.0)])
        .expect("written");
    metrics
        .report(1, vec![report(0, 1.0, 0.0)])
        .expect("written");
    let text = std::fs::read_to_string(dir.path().join("metrics.jsonl")).expect("it is there");
    assert!(text.contains("\"train_loss\":null"), "{text}");
}

#[test]
fn nobody_waits_for_the_reports_of_who_is_gone() {
    let (_dir, mut metrics) = metrics();
    metrics
        .report(0, vec![report(0, 10.0, 0.0), report(1, 10.0, 0.0)])
        .expect("written");
    assert!(metrics.history.is_empty(), "node 1 may still report");
    metrics.install(1, [0, 7].into()).expect("written");
    assert_eq!(metrics.history.len(), 1, "it is gone");
    metrics
        .report(1, vec![report(1, 5.0, 0.0)])
        .expect("written");
    assert_eq!(metrics.history.len(), 1, "it does not make this step");
    metrics
        .report(7, vec![report(1, 20.0, 0.0)])
        .expect("written");
    assert_eq!(metrics.history[1].train_loss, 3.0);
}

#[test]
fn a_step_of_which_nobody_is_left_holds_nothing_up() {
    let (_dir, mut metrics) = metrics();
    metrics.install(1, [7].into()).expect("written");
    metrics
        .report(7, vec![report(1, 5.0, 0.0)])
        .expect("written");
    assert_eq!(metrics.history.len(), 2);
    assert!(metrics.history[0].train_loss.is_nan());
}

#[test]
fn time_goes_on_when_the_oldest_member_is_gone() {
    let (_dir, mut metrics) = metrics();
    let at = |step, elapsed_seconds| StepReport {
        elapsed_seconds,
        ..report(step, 1.0, 0.1)
    };
    for (node, elapsed) in [(0, 100.0), (1, 20.0)] {
        metrics.report(node, vec![at(0, elapsed)]).expect("written");
    }
    metrics.install(1, [1].into()).expect("written");
    for (step, elapsed) in [(1, 21.0), (2, 23.5)] {
        metrics.report(1, vec![at(step, elapsed)]).expect("written");
    }
    let times: Vec<f64> = metrics
        .history
        .iter()
        .map(|step| step.wall_seconds)
        .collect();
    assert_eq!(times, [100.0, 100.0, 102.5]);
}
