//! Thousands of simulated clusters in which every invariant holds.

use ecq_cluster::sim::{Ended, Options, Report, simulate};

fn run(seed: u64, options: Options) -> Report {
    simulate(seed, options).unwrap_or_else(|violation| panic!("{violation}"))
}

#[test]
fn without_faults_every_run_completes() {
    let mut dropped = 0;
    for seed in 0..10_000 {
        let report = run(seed, Options::default());
        assert_eq!(report.ended, Ended::Completed, "seed {seed}");
        dropped += report.dropped;
    }
    assert!(
        dropped > 10_000,
        "copies and strangers' frames were sent, but only {dropped} dropped"
    );
}

#[test]
fn whatever_fails_every_run_ends_and_everybody_knows() {
    let (mut ends, mut taken_back) = ([0; 3], 0);
    for faults in [1, 4] {
        for seed in 0..10_000 {
            let report = run(
                seed,
                Options {
                    faults,
                    ..Options::default()
                },
            );
            ends[report.ended as usize] += 1;
            taken_back += report.taken_back;
        }
    }
    assert!(
        ends.iter().all(|count| *count > 500),
        "every end is tried: {ends:?}"
    );
    assert!(
        taken_back > 10_000,
        "members were late, but only {taken_back} contributions went back"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        let options = Options {
            faults: 3,
            ..Options::default()
        };
        assert_eq!(run(seed, options), run(seed, options));
    }
}
