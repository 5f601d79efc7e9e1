//! What was stored is there again.

use super::*;

fn view(number: u64, first_step: Step) -> View {
    let member = |node| Member {
        node,
        address: format!("host-{node}:1"),
    };
    View {
        number,
        first_step,
        consumed: 5 * first_step,
        members: [3, number + 7].map(member).to_vec(),
    }
}

fn step(step: Step) -> StepMetrics {
    StepMetrics {
        step,
        samples: 10,
        train_loss: 0.1 * step as f64,
        bits_per_element: f64::NAN,
        ..StepMetrics::default()
    }
}

fn evaluation(step: Step) -> EvaluationLine {
    EvaluationLine {
        step,
        test_accuracy: 0.5,
        ..EvaluationLine::default()
    }
}

#[test]
fn all_of_it_is_there_when_it_is_opened_again() {
    let temporary = tempfile::tempdir().expect("there is room");
    let dir = RunDir::take(temporary.path(), "the text").expect("it is new");
    let fingerprint = Fingerprint {
        replica: Digest([1; 32]),
        data: Digest([2; 32]),
        parameters: 3,
        samples: 4,
    };
    let mut store = Store::create(&dir, "the text").expect("it is new");
    let empty = store.read().expect("it is readable");
    assert!(empty.fingerprint.is_none() && empty.views.is_empty() && empty.steps.is_empty());
    store.begin(&fingerprint).expect("it is writable");
    let fates = [
        Fate::Flushed(6),
        Fate::Lost(0.5),
        Fate::Lost(f64::NAN),
        Fate::Kept(9),
    ];
    let note = |(node, fate)| Note {
        view: 2,
        node,
        fate,
    };
    let notes: Vec<Note> = (3..).zip(fates).map(note).collect();
    store.append(&view(1, 0), &[]).expect("it is writable");
    store.append(&view(2, 7), &notes).expect("it is writable");
    let steps: Vec<StepMetrics> = (1..=5).map(step).collect();
    store
        .record(&steps, &[evaluation(2), evaluation(5)])
        .expect("it is writable");
    drop(store);
    let (mut store, config) = Store::open(&dir).expect("it is there");
    assert_eq!(config, "the text");
    let stored = store.read().expect("it is readable");
    assert_eq!(stored.fingerprint, Some(fingerprint));
    assert_eq!(stored.views, [view(1, 0), view(2, 7)]);
    // NaN is no equal of itself.
    assert_eq!(format!("{:?}", stored.notes), format!("{notes:?}"));
    assert_eq!(format!("{:?}", stored.steps), format!("{steps:?}"));
    assert_eq!(stored.evaluations, [evaluation(2), evaluation(5)]);
    store.truncate(3).expect("it is writable");
    let stored = store.read().expect("it is readable");
    assert_eq!((stored.steps.len(), stored.evaluations.len()), (3, 1));
    let twice = Store::create(&dir, "another").expect_err("it is there");
    assert!(
        matches!(twice, CoordinatorError::Occupied { .. }),
        "{twice}"
    );
}

#[test]
fn what_is_no_store_or_of_another_format_is_refused() {
    let temporary = tempfile::tempdir().expect("there is room");
    let dir = RunDir::take(temporary.path(), "the text").expect("it is new");
    std::fs::write(dir.path(STORE), "no database at all").expect("there is room");
    let error = Store::open(&dir).expect_err("it is none");
    assert!(error.to_string().contains("run.sqlite"), "{error}");
    std::fs::remove_file(dir.path(STORE)).expect("it is there");
    let store = Store::create(&dir, "the text").expect("it is new");
    store
        .db
        .pragma_update(None, "user_version", 99)
        .expect("it is writable");
    drop(store);
    let error = Store::open(&dir).expect_err("it is of another format");
    assert!(error.to_string().contains("99"), "{error}");
}
