//! Each planted bug is found, by the invariant that it breaks first, and each invariant finds one.

use std::collections::BTreeSet;

use super::{Bug, Options, Planted, Violation, invariants, simulate};

#[test]
fn planted_bugs_are_found() {
    let mut finders = BTreeSet::new();
    for bug in Bug::ALL {
        let options = Options {
            faults: 2,
            planted: Planted::bug(bug),
        };
        let violations = (0..1000).filter_map(|seed| simulate(seed, options).err());
        let mut expected = violations.filter(|found: &Violation| found.invariant == bug.breaks());
        let Some(violation) = expected.next() else {
            panic!("{bug} was not found by {}", bug.breaks());
        };
        assert!(
            violation
                .command
                .ends_with(&format!("--faults 2 --bug {bug}"))
        );
        assert_eq!(bug.to_string().parse::<Bug>().ok(), Some(bug));
        finders.insert(violation.invariant);
    }
    let all = invariants::names().collect();
    assert_eq!(finders, all, "every invariant can fail");
}
