//! Thousands of simulated clusters in which every invariant holds, and planted bugs that are found.

use ecq_cluster::sim::{Bug, Ended, Options, Report, simulate};

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
    let mut ends = [0; 3];
    for faults in [1, 4] {
        for seed in 0..10_000 {
            let report = run(seed, Options { faults, bug: None });
            ends[report.ended as usize] += 1;
        }
    }
    assert!(
        ends.iter().all(|count| *count > 500),
        "every end is tried: {ends:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..50 {
        let options = Options {
            faults: 3,
            bug: None,
        };
        assert_eq!(run(seed, options), run(seed, options));
    }
}

/// Each bug is found, and by the invariant that it breaks first.
#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let options = Options {
            faults: 2,
            bug: Some(bug),
        };
        let found = (0..300).find_map(|seed| simulate(seed, options).err());
        let violation = found.unwrap_or_else(|| panic!("{bug} was not found"));
        assert_eq!(violation.invariant, bug.breaks(), "{bug}: {violation}");
        assert!(
            violation
                .command()
                .ends_with(&format!("--faults 2 --bug {bug}"))
        );
        assert_eq!(bug.to_string().parse::<Bug>().ok(), Some(bug));
    }
}
