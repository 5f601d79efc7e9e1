//! A coordinator that cannot start leaves the disk as it was.

mod nodes;

use std::path::Path;

use ecq_coordinator::{CoordinatorError, Options, Service};
use nodes::config;

async fn bind(run_dir: &Path) -> Result<Service, CoordinatorError> {
    let options = Options {
        listen: ([127, 0, 0, 1], 0).into(),
        config: config(1),
        run_dir: run_dir.to_owned(),
        resume: false,
    };
    Service::bind(options).await
}

fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .expect("it is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Whatever part of a run is there, it is not touched and nothing is put beside it.
#[tokio::test]
async fn a_part_of_a_run_is_a_run() {
    for name in [
        "config.toml",
        "metrics.jsonl",
        "history.jsonl",
        "model.safetensors",
        "summary.json",
        "events.out.tfevents.1.host.2",
    ] {
        let directory = tempfile::tempdir().expect("there is room");
        std::fs::write(directory.path().join(name), "precious").expect("there is room");
        let error = bind(directory.path()).await;
        let error = error.expect_err("something is there");
        assert!(
            matches!(error, CoordinatorError::Occupied { .. }),
            "{name}: {error:?}"
        );
        assert_eq!(names(directory.path()), [name]);
        let text = std::fs::read_to_string(directory.path().join(name));
        assert_eq!(text.ok().as_deref(), Some("precious"));
    }
}

#[tokio::test]
async fn a_launchers_logs_are_not_in_the_way() {
    let directory = tempfile::tempdir().expect("there is room");
    std::fs::create_dir(directory.path().join("logs")).expect("there is room");
    let service = bind(directory.path()).await;
    service.expect("only logs are there");
    assert!(names(directory.path()).contains(&"config.toml".to_owned()));
}

#[tokio::test]
async fn a_file_where_the_run_directory_should_be_stays_what_it_is() {
    let directory = tempfile::tempdir().expect("there is room");
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").expect("there is room");
    let error = bind(&file).await.expect_err("a file is in the way");
    assert!(
        matches!(error, CoordinatorError::RunDir { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("choose another"), "{error}");
    assert_eq!(
        std::fs::read_to_string(&file).ok().as_deref(),
        Some("precious")
    );
}
