#![allow(clippy::print_stdout)] // How much was explored is worth a line.

use super::*;
use crate::sim::Bug;

#[test]
fn every_path_through_every_small_world_is_sound() {
    for small in &SMALL {
        let coverage = explore(small, Planted::default());
        let coverage = coverage.unwrap_or_else(|violation| panic!("{violation}"));
        println!("{}: {coverage:?}", small.name);
        assert!(
            coverage.complete,
            "{} is not small: {coverage:?}",
            small.name
        );
        assert!(coverage.ends > 1000, "{}: {coverage:?}", small.name);
    }
}

/// A violation names the path to it, which shows the same again.
#[test]
fn planted_bugs_are_found_and_shown_again() {
    let small = Small::named("pair").expect("there is one");
    // Depth first, a path on which a forgotten view is waited for comes before one on which it is another.
    for (bug, invariant) in [
        (Bug::KeepVoid, Bug::KeepVoid.breaks()),
        (Bug::KeepResidual, Bug::KeepResidual.breaks()),
        (Bug::ForgetView, "ending"),
    ] {
        let planted = Planted::bug(bug);
        let found = explore(small, planted).expect_err("there is a bug");
        assert_eq!(found.invariant, invariant, "{found}");
        let path = found.command.split("--path ").nth(1);
        let path = path.and_then(|path| path.split(' ').next());
        let path: Result<Vec<usize>, _> = path
            .unwrap_or_default()
            .split('.')
            .map(str::parse)
            .collect();
        let mut shown = 0;
        let again = retrace(small, planted, &path.expect("numbers"), &mut |_| shown += 1);
        let again = again.expect_err("it is the same path");
        assert_eq!((again.command, again.text), (found.command, found.text));
        assert!(shown > 10, "{shown} events");
    }
}
