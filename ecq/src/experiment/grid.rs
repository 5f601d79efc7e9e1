//! The runs of an experiment, one after the other.

use ecq_coordinator::Summary;

use super::results::Cell;
use crate::exit::Failed;
use crate::options::Resolved;
use crate::stop::Stop;

/// A run that is to be made.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    /// The codec as the experiment's file names it.
    pub(super) codec: String,
    pub(super) seed: u64,
    pub(super) run: Resolved,
}

/// Makes every planned run with `run`, and reads what it left.
///
/// A run that fails is a result too, and the others go on; only an order to stop ends them early.
pub(super) async fn run_all(
    planned: &[Planned],
    stop: &Stop,
    mut run: impl AsyncFnMut(&Resolved) -> Result<Summary, Failed>,
) -> Result<Vec<Cell>, Failed> {
    let mut cells = Vec::with_capacity(planned.len());
    for (
        i,
        Planned {
            codec,
            seed,
            run: resolved,
        },
    ) in planned.iter().enumerate()
    {
        tracing::info!("run {} of {}: {codec}, seed {seed}", i + 1, planned.len());
        let ended = run(resolved).await;
        if let Some(failed) = stop.cause() {
            return Err(failed);
        }
        if let Err(failed) = &ended {
            tracing::warn!("{codec}, seed {seed}: {failed}");
        }
        cells.push(Cell::new(codec, *seed, &resolved.run_dir, ended)?);
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;
    use crate::experiment::results::tests::{METRICS, summary};
    use crate::experiment::spec::Spec;

    const SPEC: &str = "title = 'T'\ncodecs = ['fp32', 'ecq']\nseeds = [1, 2]";

    fn planned(dir: &std::path::Path) -> Vec<Planned> {
        let spec = Spec::parse(SPEC).expect("it is valid");
        spec.plan(dir).expect("so are its runs")
    }

    /// Leaves what a run leaves.
    fn leave(run: &Resolved) {
        std::fs::create_dir_all(&run.run_dir).expect("it is writable");
        let metrics = run.run_dir.join("metrics.jsonl");
        std::fs::write(metrics, METRICS).expect("it is writable");
    }

    #[tokio::test]
    async fn a_run_that_fails_does_not_cost_the_others() {
        let dir = tempfile::tempdir().expect("there is room");
        let planned = planned(dir.path());
        let run = async |run: &Resolved| {
            if run.config.codec == "fp32" && run.config.seed == 2 {
                return Err(Failed::new(Code::Diverged, "it diverged"));
            }
            leave(run);
            Ok(summary(0.9))
        };
        let cells = run_all(&planned, &Stop::default(), run).await;
        let cells = cells.expect("nobody stops it");
        let found: Vec<_> = cells
            .iter()
            .map(|cell| {
                (
                    &*cell.codec,
                    cell.seed,
                    cell.outcome.is_ok(),
                    cell.curve.len(),
                )
            })
            .collect();
        let expected = [
            ("fp32", 1, true, 3),
            ("fp32", 2, false, 0),
            ("ecq", 1, true, 3),
            ("ecq", 2, true, 3),
        ];
        assert_eq!(found, expected);
        let failed = crate::experiment::verdict(&cells).expect_err("one failed");
        assert_eq!(failed.code.number(), Code::Diverged.number());
        assert!(failed.message.contains("1 of 4"), "{failed}");
    }

    #[tokio::test]
    async fn a_success_without_measurements_is_an_error() {
        let dir = tempfile::tempdir().expect("there is room");
        let run = async |_: &Resolved| Ok(summary(0.9));
        let ended = run_all(&planned(dir.path()), &Stop::default(), run).await;
        let failed = ended.expect_err("there is no file");
        assert!(failed.message.contains("metrics.jsonl"), "{failed}");
    }
}
