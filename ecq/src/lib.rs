//! The command `ecq`: it launches clusters on one machine, runs their parts by hand on several, and
//! compares codecs in experiments.
//!
//! Arguments are read twice: [`cli`] as they are typed, [`options`] into a resolved run, with flags
//! over environment over file over defaults. Every way to fail ends in [`exit`], which alone knows
//! the exit codes. No training happens here.

pub mod cli;
pub mod exit;
pub mod launch;
pub mod options;
pub mod plot;

mod address_file;
mod bench;
mod config;
mod coordinator;
mod experiment;
mod logging;
mod node;
mod preflight;
mod replay;
mod stop;

use std::process::ExitCode;

use cli::{BenchAction, BenchCommand, Cli, Command, ExperimentAction, ExperimentCommand};
use exit::{Code, Failed};

/// Parses the arguments, runs the command and tells the exit code.
pub fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output with code 0, mistakes to standard error.
            let _nobody_reads_it = error.print();
            return ExitCode::from(if error.use_stderr() {
                Code::Usage.number()
            } else {
                0
            });
        }
    };
    logging::start(cli.log_format);
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            logging::complain(&failed.message);
            ExitCode::from(failed.code.number())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        // Streams and timers; arithmetic has its own threads.
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failed::new(Code::Internal, format!("cannot start tokio: {error}")))?;
    let result = runtime.block_on(async {
        match cli.command {
            Command::Launch(args) => launch::command(args, cli.log_format).await,
            Command::Coordinator(args) => coordinator::command(args).await,
            Command::Node(args) => node::command(args).await,
            Command::Replay(args) => replay::command(&args),
            Command::Experiment(ExperimentCommand {
                action: ExperimentAction::Run(args),
            }) => experiment::command(args).await,
            Command::Config(args) => config::command(&args),
            Command::Bench(BenchCommand {
                action: BenchAction::Codec(args),
            }) => bench::codec(&args),
        }
    });
    runtime.shutdown_background();
    result
}
