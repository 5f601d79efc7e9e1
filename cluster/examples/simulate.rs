//! Simulates many clusters, or one of them event by event.
//!
//! ```text
//! simulate --seeds 100000 [--first 0] [--faults 3] [--bug NAME]
//! simulate --seed 17      [--faults 3] [--bug NAME]
//! simulate --explore all  [--bug NAME]
//! simulate --explore pair [--path 0.2.1] [--bug NAME]
//! ```
//!
//! The third form explores all small worlds exhaustively, the last one of them, or takes one path through it.
//! A bug can be planted where cargo builds with `--features planted`.
//!
//! Unless `--faults` is given, the first form simulates every other seed without faults and the rest
//! with up to three; the second form simulates none.

#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use ecq_cluster::sim::{
    Bug, Coverage, Ended, Options, Planted, SMALL, Small, Violation, explore, retrace, simulate,
    watch,
};

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    first: u64,
    seeds: u64,
    faults: Option<u64>,
    options: Options,
    explore: Option<String>,
    path: Option<Vec<usize>>,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let planted = arguments.options.planted;
    let result = match (&arguments.explore, arguments.seed) {
        (Some(name), _) => small_worlds(name, arguments.path.as_deref(), planted),
        (None, Some(seed)) => show(seed, arguments.options),
        (None, None) => survey(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(violation) => {
            eprintln!("{violation}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Arguments, Box<dyn Error>> {
    let mut arguments = Arguments {
        seeds: 1000,
        ..Arguments::default()
    };
    while let Some(word) = words.next() {
        let value = words
            .next()
            .ok_or_else(|| format!("{word} takes a value"))?;
        match word.as_str() {
            "--seed" => arguments.seed = Some(value.parse()?),
            "--first" => arguments.first = value.parse()?,
            "--seeds" => arguments.seeds = value.parse()?,
            "--faults" => arguments.faults = Some(value.parse()?),
            "--explore" if value == "all" || Small::named(&value).is_some() => {
                arguments.explore = Some(value);
            }
            "--explore" => {
                let names = SMALL.map(|small| small.name).join(", ");
                return Err(format!("small worlds are all, {names}").into());
            }
            "--path" => {
                let path: Result<_, _> = value.split('.').map(str::parse).collect();
                arguments.path = Some(path?);
            }
            "--bug" => arguments.options.planted = plant(value.parse()?)?,
            _ => return Err(format!("no option is called {word}").into()),
        }
    }
    arguments.options.faults = arguments.faults.unwrap_or(0);
    Ok(arguments)
}

#[cfg(feature = "planted")]
fn plant(bug: Bug) -> Result<Planted, Box<dyn Error>> {
    Ok(Planted::bug(bug))
}

#[cfg(not(feature = "planted"))]
fn plant(bug: Bug) -> Result<Planted, Box<dyn Error>> {
    Err(format!("{bug} can only be planted with cargo's --features planted").into())
}

/// All small worlds or one, or a path through it.
fn small_worlds(name: &str, path: Option<&[usize]>, planted: Planted) -> Result<(), Violation> {
    for small in SMALL.iter().filter(|it| name == "all" || it.name == name) {
        if let Some(path) = path {
            retrace(small, planted, path, &mut |what| println!("{what}"))?;
            continue;
        }
        let start = Instant::now();
        let Coverage {
            states,
            moves,
            ends,
            depth,
            complete,
        } = explore(small, planted)?;
        let all = if complete { "all" } else { "the first" };
        println!(
            "{}: {all} {states} states, {moves} moves, {ends} of them to an end, at most {depth} in a row, \
             in {:.1} s",
            small.name,
            start.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// One seed, event by event.
fn show(seed: u64, options: Options) -> Result<(), Violation> {
    let report = watch(seed, options, &mut |time, what| {
        println!("{time:6} ms  {what}")
    })?;
    println!("{report:?}");
    Ok(())
}

/// Many seeds, in numbers.
fn survey(arguments: &Arguments) -> Result<(), Violation> {
    let start = Instant::now();
    let mut ends = [0_u64; 3];
    let (mut events, mut elapsed, mut kept, mut dropped, mut taken_back) = (0, 0, 0, 0, 0);
    for seed in arguments.first..arguments.first + arguments.seeds {
        let faults = arguments.faults.unwrap_or(3 * (seed % 2));
        let planted = arguments.options.planted;
        let report = simulate(seed, Options { faults, planted })?;
        ends[report.ended as usize] += 1;
        events += report.events;
        elapsed += report.elapsed;
        kept += report.kept;
        dropped += report.dropped;
        taken_back += report.taken_back;
    }
    println!(
        "{} seeds in {:.1} s",
        arguments.seeds,
        start.elapsed().as_secs_f64()
    );
    for ended in [Ended::Completed, Ended::Failed, Ended::Orphaned] {
        println!("{:>12}  {ended:?}", ends[ended as usize]);
    }
    println!("{events:>12}  events");
    println!("{kept:>12}  frames kept, {dropped} dropped");
    println!("{taken_back:>12}  contributions taken back");
    println!("{:>12}  simulated seconds", elapsed / 1000);
    Ok(())
}
