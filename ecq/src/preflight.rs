//! Everything that can be known to be wrong before anything is started or written.

use ecq_cluster::RunConfig;
use ecq_nn::ModelName;
use ecq_nn::data::{self, DataName};
use ecq_nn::optim::Schedule;

use crate::exit::Failed;

/// Checks that every name means something here.
pub(crate) fn names(config: &RunConfig) -> Result<DataName, Failed> {
    let _: ModelName = config.model.parse().map_err(Failed::usage)?;
    let _: Schedule = config.lr_schedule.parse().map_err(Failed::usage)?;
    let _: ecq_quant::CodecSpec = config.codec.parse().map_err(Failed::usage)?;
    config.data.parse().map_err(Failed::usage)
}

/// Loads the data once, so that a missing or broken file is one error instead of one a node.
pub(crate) fn data(config: &RunConfig) -> Result<(), Failed> {
    data::load(names(config)?, config.data_dir.as_deref())?;
    Ok(())
}
