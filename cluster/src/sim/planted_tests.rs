//! Each planted bug is found, and by the invariant that it breaks first.

use super::{Bug, Options, Planted, simulate};

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let options = Options {
            faults: 2,
            planted: Planted::bug(bug),
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
