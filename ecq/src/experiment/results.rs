//! What the runs of an experiment left, and what that means over seeds.

use std::path::Path;

use ecq_coordinator::Summary;
use serde::{Deserialize, Serialize, Serializer};

use crate::exit::Failed;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cell {
    pub(super) codec: String,
    pub(super) seed: u64,
    /// Its summary, or why there is none.
    #[serde(serialize_with = "in_words")]
    pub(super) outcome: Result<Summary, Failed>,
    /// Training loss along the way.
    pub(super) curve: Vec<Sample>,
}

/// A line of `metrics.jsonl` that holds a step.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
struct Measure {
    step: u64,
    /// Null in the file where it was not finite.
    train_loss: Option<f64>,
    bytes_sent_total: f64,
}

/// Points of a curve, about.
const POINTS: usize = 60;

impl Cell {
    /// Reads what a run has left in its directory.
    pub(super) fn new(
        codec: &str,
        seed: u64,
        run_dir: &Path,
        ended: Result<Summary, Failed>,
    ) -> Result<Self, Failed> {
        let path = run_dir.join("metrics.jsonl");
        let curve = match std::fs::read_to_string(&path) {
            Ok(text) => {
                let curve = curve(&text);
                smoothed(&curve, curve.len().div_ceil(POINTS))
            }
            // A run that failed early has measured nothing.
            Err(_) if ended.is_err() => Vec::new(),
            Err(error) => {
                return Err(Failed::io(format!(
                    "cannot read {}: {error}",
                    path.display()
                )));
            }
        };
        Ok(Self {
            codec: codec.to_owned(),
            seed,
            outcome: ended,
            curve,
        })
    }
}

fn in_words<S: Serializer>(outcome: &Result<Summary, Failed>, to: S) -> Result<S::Ok, S::Error> {
    let outcome = outcome.as_ref().map_err(|failed| &failed.message);
    outcome.serialize(to)
}

/// The lines with a training loss; the others are evaluations.
fn curve(text: &str) -> Vec<Measure> {
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Mean and sample standard deviation.
pub(super) fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (
        mean,
        if values.len() > 1 {
            (squares / (n - 1.0)).sqrt()
        } else {
            0.0
        },
    )
}

/// Where a curve is after some steps.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Sample {
    pub(super) steps: f64,
    pub(super) bytes: f64,
    pub(super) loss: f64,
}

/// The mean of each `window` consecutive losses: a mini-batch's loss is too noisy to look at.
fn smoothed(curve: &[Measure], window: usize) -> Vec<Sample> {
    curve
        .chunks(window.max(1))
        .filter_map(|chunk| {
            let last = chunk.last()?;
            let losses: Option<Vec<f64>> = chunk.iter().map(|m| m.train_loss).collect();
            let (mean, _) = mean_and_deviation(&losses?);
            Some(Sample {
                steps: last.step as f64,
                bytes: last.bytes_sent_total,
                loss: mean,
            })
        })
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::exit::Code;

    /// Four steps, one of which had no finite loss, and an evaluation.
    pub(in crate::experiment) const METRICS: &str = r#"
{"step":1,"samples":4,"train_loss":2.0,"bytes_sent_total":10.0}
{"step":1,"test_loss":2.0,"test_accuracy":0.5}
{"step":2,"train_loss":null,"bytes_sent_total":20.0}
{"step":3,"train_loss":1.0,"bytes_sent_total":30.0}
{"step":4,"train_loss":3.0,"bytes_sent_total":40.0}"#;

    /// What a run with this accuracy has to say.
    pub(in crate::experiment) fn summary(test_accuracy: f64) -> Summary {
        Summary {
            name: "cell".into(),
            nodes: 2,
            data: "digits".into(),
            model: "mlp".into(),
            codec: "ecq".into(),
            seed: 1,
            parameters: 1000,
            steps: 4,
            epochs: 0.5,
            test_accuracy,
            test_loss: 0.2,
            train_loss: 0.1,
            wall_seconds: 3.0,
            median_step_seconds: 0.004,
            bits_per_element: 2.0,
            bytes_sent_per_node_per_step: 1500.0,
            compression_vs_fp32: 16.0,
            residuals_lost: 0,
            residual_norm_lost: 0.0,
            replica_digest: "d".into(),
            replicas_identical: true,
            left_out: 0,
            taken_back: 0,
        }
    }

    #[test]
    fn curves_hold_the_steps_and_only_them() {
        let curve = curve(METRICS);
        assert_eq!(curve.len(), 4);
        let expected = Sample {
            steps: 4.0,
            bytes: 40.0,
            loss: 2.0,
        };
        assert_eq!(smoothed(&curve, 2), [expected]);
    }

    #[test]
    fn a_failure_is_a_result_in_words() {
        let failed = Failed::new(Code::Diverged, "it diverged");
        let cell = Cell::new("ecq", 1, Path::new("/nowhere"), Err(failed));
        let cell = cell.expect("a run that failed need not have measured");
        let json = serde_json::to_value(&cell).expect("it is writable");
        assert_eq!(json["outcome"]["Err"], "it diverged");
    }

    #[test]
    fn means_and_deviations() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2.0_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
