//! `ecq experiment`: codecs against each other over seeds, on real clusters.

mod grid;
mod report;
mod results;
mod spec;

use std::path::Path;

use crate::cli::ExperimentArgs;
use crate::exit::{Code, Failed};
use crate::launch;
use crate::preflight;
use crate::stop::Stop;

use results::Cell;
use spec::Spec;

pub(crate) async fn command(args: ExperimentArgs) -> Result<(), Failed> {
    let mut spec = Spec::read(&args.file)?;
    spec.run.data_dir = args.data_dir.or(spec.run.data_dir);
    let out = args.out.unwrap_or_else(|| args.file.with_extension(""));
    let runs = out.join("runs");
    let planned = spec.plan(&runs)?;
    // A mistake should show before the first run and not after hours, and leave nothing behind.
    if let Some(any) = planned.first() {
        preflight::data(&any.run.config)?;
    }
    prepare(&runs)?;
    let stop = Stop::on_signals()?;
    let run = async |run: &_| launch::run(run, &stop, launch::How::default()).await;
    let cells = grid::run_all(&planned, &stop, run).await?;
    report::write(&spec, &cells, &out)?;
    if !args.keep_runs {
        std::fs::remove_dir_all(&runs)
            .map_err(|error| Failed::io(format!("cannot remove {}: {error}", runs.display())))?;
    }
    verdict(&cells)
}

/// Makes the directory of the single runs.
fn prepare(runs: &Path) -> Result<(), Failed> {
    if runs.exists() {
        let text = "holds runs of an earlier time, and ecq overwrites nothing";
        return Err(Failed::usage(format!(
            "{} {text}; remove it or choose --out",
            runs.display()
        )));
    }
    std::fs::create_dir_all(runs).map_err(|error| {
        let dir = runs.display();
        Failed::io(format!("cannot make {dir}: {error}; choose another --out"))
    })
}

/// The first failure's exit code is passed on, as `launch` does.
fn verdict(cells: &[Cell]) -> Result<(), Failed> {
    let failures = || cells.iter().filter_map(|cell| cell.outcome.as_ref().err());
    match failures().next() {
        None => Ok(()),
        Some(first) => Err(Failed::new(
            Code::Child(first.code.number()),
            format!(
                "{} of {} runs failed: see the table",
                failures().count(),
                cells.len()
            ),
        )),
    }
}
