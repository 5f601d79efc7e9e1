//! Simulates many clusters, or one of them event by event.
//!
//! ```text
//! simulate --seeds 100000 [--first 0] [--faults 3] [--bug NAME]
//! simulate --seed 17      [--faults 3] [--bug NAME]
//! ```
//!
//! A bug can be planted where cargo builds with `--features planted`.
//!
//! Unless `--faults` is given, the first form simulates every other seed without faults and the rest
//! with up to three; the second form simulates none.

#![allow(clippy::print_stdout, clippy::print_stderr)] // It is a program.

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use ecq_cluster::sim::{Bug, Ended, Options, Planted, Violation, simulate, watch};

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    first: u64,
    seeds: u64,
    faults: Option<u64>,
    options: Options,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let result = match arguments.seed {
        Some(seed) => show(seed, arguments.options),
        None => survey(&arguments),
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
    let (mut events, mut elapsed, mut kept, mut dropped) = (0, 0, 0, 0);
    for seed in arguments.first..arguments.first + arguments.seeds {
        let faults = arguments.faults.unwrap_or(3 * (seed % 2));
        let planted = arguments.options.planted;
        let report = simulate(seed, Options { faults, planted })?;
        ends[report.ended as usize] += 1;
        events += report.events;
        elapsed += report.elapsed;
        kept += report.kept;
        dropped += report.dropped;
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
    println!("{:>12}  simulated seconds", elapsed / 1000);
    Ok(())
}
