//! What the runs of an experiment left, and what that means over seeds.

use std::path::Path;

use ecq_coordinator::Summary;
use serde::{Deserialize, Serialize};

use crate::exit::Failed;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Cell {
    pub(super) codec: String,
    pub(super) seed: u64,
    /// Its summary, or why there is none.
    pub(super) outcome: Result<Summary, String>,
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
        let outcome = ended.map_err(|failed| failed.message);
        Ok(Self {
            codec: codec.to_owned(),
            seed,
            outcome,
            curve,
        })
    }
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
mod tests {
    use super::*;

    #[test]
    fn curves_hold_the_steps_and_only_them() {
        let text = r#"{"step":1,"train_loss":2.0,"bytes_sent_total":10.0,"samples":4}
{"step":1,"test_loss":2.0,"test_accuracy":0.5}
{"step":2,"train_loss":null,"bytes_sent_total":20.0}
{"step":3,"train_loss":1.0,"bytes_sent_total":30.0}
{"step":4,"train_loss":3.0,"bytes_sent_total":40.0}"#;
        let curve = curve(text);
        assert_eq!(curve.len(), 4);
        assert_eq!(
            smoothed(&curve, 2),
            [Sample {
                steps: 4.0,
                bytes: 40.0,
                loss: 2.0
            }]
        );
    }

    #[test]
    fn means_and_deviations() {
        assert_eq!(mean_and_deviation(&[1.0, 3.0]), (2.0, 2.0_f64.sqrt()));
        assert_eq!(mean_and_deviation(&[5.0]), (5.0, 0.0));
    }
}
