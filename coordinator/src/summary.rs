//! What a completed run amounts to: `summary.json`, and the table that people read.

use std::fmt;

use ecq_cluster::{Digest, RunConfig, Step};
use serde::{Deserialize, Deserializer, Serialize};

use crate::metrics::Metrics;
use crate::residuals::Loss;

/// A completed run. What is not finite is null in JSON, and not a number when it is read back.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Summary {
    /// Name of the run.
    pub name: String,
    /// Number of nodes.
    pub nodes: u32,
    /// Data set.
    pub data: String,
    /// Model.
    pub model: String,
    /// Codec with all its settings.
    pub codec: String,
    /// Seed.
    pub seed: u64,
    /// Length of the flat parameter vector.
    pub parameters: u64,
    /// Steps applied.
    pub steps: Step,
    /// Passes over the training set.
    #[serde(deserialize_with = "number")]
    pub epochs: f64,
    /// Share of test samples whose class the final model predicts, 0 to 1.
    #[serde(deserialize_with = "number")]
    pub test_accuracy: f64,
    /// Mean loss of the final model on the test split.
    #[serde(deserialize_with = "number")]
    pub test_loss: f64,
    /// Mean training loss over the steps of the last epoch.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// Seconds from the first view to the end.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// Median over steps of the slowest member's step.
    #[serde(deserialize_with = "number")]
    pub median_step_seconds: f64,
    /// All bytes of an encoded contribution ÷ parameters × 8, mean over steps and members.
    #[serde(deserialize_with = "number")]
    pub bits_per_element: f64,
    /// Bytes written to the exchange sockets, payload and framing, mean over steps and members.
    #[serde(deserialize_with = "number")]
    pub bytes_sent_per_node_per_step: f64,
    /// 32 ÷ bits_per_element.
    #[serde(deserialize_with = "number")]
    pub compression_vs_fp32: f64,
    /// How many residuals went with members that were lost and have not come back.
    #[serde(default)]
    pub residuals_lost: u64,
    /// Σ ‖h‖ of these, each as it was reported last.
    #[serde(default)]
    pub residual_norm_lost: f64,
    /// Contributions that came too late for their step, but for those of members that were lost over it; only
    /// with a quorum.
    #[serde(default)]
    pub left_out: u64,
    /// Of these, how many went back to the residual of whoever had computed them.
    #[serde(default)]
    pub taken_back: u64,
    /// BLAKE3 of the final parameters and optimizer state.
    pub replica_digest: String,
    /// Whether all members reported that digest: a run in which they differ fails instead.
    pub replicas_identical: bool,
}

impl Summary {
    /// The summary of a run that completed with this digest.
    pub(crate) fn new(
        config: &RunConfig,
        metrics: &Metrics,
        lost: Loss,
        steps: Step,
        digest: Digest,
    ) -> Self {
        let history = &metrics.history;
        // Steps of which nobody is left to report have no measures.
        let reported = history.iter().filter(|metrics| metrics.samples() > 0);
        let mean = |values: Vec<f64>| {
            let count = values.len().max(1) as f64;
            values.into_iter().sum::<f64>() / count
        };
        let (parameters, samples) = metrics
            .dimensions()
            .map_or((0, 1), |d| (d.parameters, d.samples.max(1)));
        let per_step = config.samples_per_step(config.nodes);
        let epoch = usize::try_from(samples.div_ceil(per_step)).unwrap_or(usize::MAX);
        let last_epoch = &history[history.len().saturating_sub(epoch)..];
        let weight: f64 = last_epoch.iter().map(|m| m.samples() as f64).sum();
        let loss: f64 = last_epoch
            .iter()
            .filter(|m| m.samples() > 0)
            .map(|m| m.train_loss * m.samples() as f64)
            .sum();
        let evaluation = metrics.evaluation.unwrap_or_default();
        let bits_per_element = mean(reported.map(|m| m.bits_per_element).collect());
        Self {
            name: config.name.clone(),
            nodes: config.nodes,
            data: config.data.clone(),
            model: config.model.clone(),
            codec: config.codec.clone(),
            seed: config.seed,
            parameters,
            steps,
            epochs: metrics.consumed() as f64 / samples as f64,
            test_accuracy: evaluation.accuracy,
            test_loss: evaluation.loss,
            train_loss: loss / weight,
            wall_seconds: metrics.elapsed(),
            median_step_seconds: median(history.iter().map(|m| m.seconds()).collect()),
            bits_per_element,
            bytes_sent_per_node_per_step: metrics.bytes_sent_total()
                / (history.len().max(1)) as f64,
            compression_vs_fp32: 32.0 / bits_per_element,
            residuals_lost: lost.residuals,
            residual_norm_lost: lost.norm,
            left_out: history.iter().map(|m| m.left_out).sum(),
            taken_back: history.iter().map(|m| m.taken_back).sum(),
            replica_digest: digest.to_string(),
            replicas_identical: true,
        }
    }
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        n if n % 2 == 1 => values[n / 2],
        n => (values[n / 2 - 1] + values[n / 2]) / 2.0,
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = format!("{} ({} taken back)", self.left_out, self.taken_back);
        let mut rows = vec![
            ("run", self.name.clone()),
            ("data", self.data.clone()),
            (
                "model",
                format!("{}, {} parameters", self.model, self.parameters),
            ),
            ("codec", self.codec.clone()),
            ("nodes", self.nodes.to_string()),
            (
                "steps",
                format!("{} ({:.2} epochs)", self.steps, self.epochs),
            ),
            (
                "test accuracy",
                format!("{:.2} %", self.test_accuracy * 100.0),
            ),
            ("test loss", format!("{:.4}", self.test_loss)),
            ("train loss", format!("{:.4}", self.train_loss)),
            ("wall time", format!("{:.2} s", self.wall_seconds)),
            (
                "median step",
                format!("{:.2} ms", self.median_step_seconds * 1e3),
            ),
            ("bits an element", format!("{:.3}", self.bits_per_element)),
            (
                "against fp32",
                format!("{:.1} times smaller", self.compression_vs_fp32),
            ),
            (
                "sent a node and step",
                bytes(self.bytes_sent_per_node_per_step),
            ),
            (
                "replica digest",
                self.replica_digest.get(..16).unwrap_or_default().to_owned(),
            ),
            (
                "replicas identical",
                if self.replicas_identical { "yes" } else { "no" }.to_owned(),
            ),
        ];
        if self.residuals_lost > 0 {
            let (count, norm) = (self.residuals_lost, self.residual_norm_lost);
            let lost = match norm > 0.0 {
                true => format!("{count}, norms {norm:.4} in all"),
                false => format!("{count}, before any norm was reported"),
            };
            rows.insert(rows.len() - 2, ("residuals lost", lost));
        }
        let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (i, (name, value)) in rows.iter().enumerate() {
            let end = if i + 1 < rows.len() { "\n" } else { "" };
            write!(f, "{name:<width$}  {value}{end}")?;
        }
        if self.left_out > 0 {
            write!(f, "\n{:<width$}  {late}", "left out")?;
        }
        Ok(())
    }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        b if b >= 1e6 => format!("{:.2} MB", b / 1e6),
        b if b >= 1e3 => format!("{:.1} kB", b / 1e3),
        b => format!("{b:.0} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(vec![]), 0.0);
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.5);
    }
}
