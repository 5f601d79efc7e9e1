//! `ecq node`.

use std::time::Duration;

use ecq_cluster::Failure;
use ecq_node::{NodeError, Options};

use crate::cli::NodeArgs;
use crate::exit::Failed;
use crate::stop::Stop;

/// Variables in which batch systems tell a process its rank, besides `RANK`.
const RANK_VARIABLES: [&str; 3] = [
    "SLURM_PROCID",
    "OMPI_COMM_WORLD_RANK",
    "JOB_COMPLETION_INDEX",
];

pub(crate) async fn command(args: NodeArgs) -> Result<(), Failed> {
    let stop = Stop::on_signals()?;
    if args.lifeline {
        stop.on_lifeline();
    }
    let master = args
        .master_addr
        .map(|host| format!("{host}:{}", args.master_port));
    let coordinator = args.coordinator.or(master).ok_or_else(|| {
        Failed::usage("which coordinator? give --coordinator HOST:PORT or set MASTER_ADDR")
    })?;
    let patience = Duration::try_from_secs_f64(args.connect_timeout).map_err(|_| {
        Failed::usage(format!(
            "--connect-timeout {}: seconds from 0",
            args.connect_timeout
        ))
    })?;
    let options = Options {
        coordinator,
        listen: args.listen,
        advertise: args.advertise,
        run: args.run,
        rank: args.rank.or_else(rank_of_batch_system),
        data_dir: args.data_dir,
        observe: args.observe.then(|| args.evaluate_every.unwrap_or(0)),
        checkpoint_dir: args.checkpoint_dir,
        record_dir: args.record_dir,
        connect_timeout: patience,
    };
    let told = ecq_node::Stop {
        in_order: stop.token.clone(),
        at_once: stop.again.clone(),
    };
    match ecq_node::run(options, told).await {
        Ok(_) => Ok(()),
        Err(error) => {
            let stopped = matches!(error, NodeError::Failed(Failure::Stopped(_)));
            Err(stop.explain(error.into(), stopped))
        }
    }
}

fn rank_of_batch_system() -> Option<u32> {
    RANK_VARIABLES
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
}
