//! `ecq coordinator`.

use std::io::Write as _;
use std::path::Path;

use ecq_cluster::Failure;
use ecq_coordinator::{CoordinatorError, Options, Service, Summary};

use crate::address_file::AddressFile;
use crate::cli::CoordinatorArgs;
use crate::exit::{Code, Failed};
use crate::options::Resolved;
use crate::preflight;
use crate::stop::Stop;

pub(crate) async fn command(mut args: CoordinatorArgs) -> Result<(), Failed> {
    args.run.options.nodes = args.run.options.nodes.or(args.world_size);
    let Resolved { config, run_dir } = args.run.resolve()?;
    if args.run.resume && run_dir.join(SUMMARY).is_file() {
        tracing::info!("the run in {} has completed", run_dir.display());
        return show(&read_summary(&run_dir)?, args.run.json);
    }
    preflight::names(&config)?;
    let stop = Stop::on_signals()?;
    if args.lifeline {
        stop.on_lifeline();
    }
    let address_file = args.address_file.as_deref().map(AddressFile::reserve);
    let address_file = address_file.transpose()?;
    let service = Service::bind(Options {
        listen: args.listen,
        config,
        run_dir,
        resume: args.run.resume,
    })
    .await?;
    let address = service.address().to_string();
    if !args.run.json {
        print(&format!("{LISTENING}{address}\n"))?;
    }
    if let Some(file) = address_file {
        file.publish(&address)?;
    }
    match service.run(stop.token.clone()).await {
        Ok(summary) => show(&summary, args.run.json),
        Err(error) => {
            let stopped = matches!(error, CoordinatorError::Failed(Failure::Stopped(_)));
            Err(stop.explain(error.into(), stopped))
        }
    }
}

/// What a completed run leaves in its directory.
pub(crate) const SUMMARY: &str = "summary.json";

/// The summary that a coordinator has left.
pub(crate) fn read_summary(run_dir: &Path) -> Result<Summary, Failed> {
    let path = run_dir.join(SUMMARY);
    let read = std::fs::read(&path).map_err(|error| error.to_string());
    read.and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
        .map_err(|error| Failed::new(Code::Internal, format!("{}: {error}", path.display())))
}

/// How the first line on standard output begins; the address follows.
pub(crate) const LISTENING: &str = "listening on ";

/// Prints a summary, for people or for programs.
pub(crate) fn show(summary: &Summary, json: bool) -> Result<(), Failed> {
    if !json {
        return print(&format!("{summary}\n"));
    }
    let text = serde_json::to_string_pretty(summary)
        .map_err(|error| Failed::new(Code::Internal, error.to_string()))?;
    print(&format!("{text}\n"))
}

fn print(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    written.map_err(|error| Failed::io(format!("cannot write to standard output: {error}")))
}
