//! `ecq experiment`: codecs against each other over seeds, on real clusters.

mod report;
mod results;
mod spec;

use crate::cli::ExperimentArgs;
use crate::exit::{Code, Failed};
use crate::launch;
use crate::stop::Stop;

use results::Cell;
use spec::Spec;

pub(crate) async fn command(args: ExperimentArgs) -> Result<(), Failed> {
    let spec = Spec::read(&args.file)?;
    let cells = spec.cells()?;
    let out = args.out.unwrap_or_else(|| args.file.with_extension(""));
    let runs = out.join("runs");
    if runs.exists() {
        let text = "holds runs of an earlier time, and ecq overwrites nothing";
        return Err(Failed::usage(format!(
            "{} {text}; remove it or choose --out",
            runs.display()
        )));
    }
    let stop = Stop::on_signals()?;
    let mut results = Vec::new();
    for (i, (codec, seed, options)) in cells.iter().enumerate() {
        let mut options = options.clone();
        let name = format!("cell-{:03}", i + 1);
        options.run_dir = Some(runs.join(&name));
        options.name = Some(name);
        let resolved = options.resolve(0)?;
        tracing::info!("run {} of {}: {codec}, seed {seed}", i + 1, cells.len());
        let ended = launch::run(&resolved, &stop, false).await;
        if let Some(failed) = stop.cause() {
            return Err(failed);
        }
        if let Err(failed) = &ended {
            tracing::warn!("{codec}, seed {seed}: {failed}");
        }
        results.push(Cell::new(codec, *seed, &resolved.run_dir, ended)?);
    }
    report::write(&spec, &results, &out)?;
    if !args.keep_runs {
        std::fs::remove_dir_all(&runs)
            .map_err(|error| Failed::io(format!("cannot remove {}: {error}", runs.display())))?;
    }
    let failures = results.iter().filter(|cell| cell.outcome.is_err()).count();
    if failures > 0 {
        let text = format!("{failures} of {} runs failed: see the table", results.len());
        return Err(Failed::new(Code::Child(Code::Internal.number()), text));
    }
    Ok(())
}
