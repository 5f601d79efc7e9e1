//! The report: a table, a plot and the numbers behind both.

use std::path::Path;

use ecq_coordinator::Summary;

use super::results::{Cell, Sample, mean_and_deviation};
use super::spec::Spec;
use crate::exit::{Code, Failed};
use crate::plot::{Figure, Line, Panel, Point};

/// Writes `table.md`, `loss.svg` and `results.json` into `out`.
pub(super) fn write(spec: &Spec, cells: &[Cell], out: &Path) -> Result<(), Failed> {
    let json = serde_json::to_string(cells)
        .map_err(|error| Failed::new(Code::Internal, error.to_string()))?;
    let files = [
        ("table.md", table(spec, cells)),
        ("loss.svg", figure(spec, cells).to_svg()),
        ("results.json", json),
    ];
    for (name, text) in files {
        let path = out.join(name);
        std::fs::write(&path, text)
            .map_err(|error| Failed::io(format!("cannot write {}: {error}", path.display())))?;
        tracing::info!("wrote {}", path.display());
    }
    Ok(())
}

fn table(spec: &Spec, cells: &[Cell]) -> String {
    let mut text = format!(
        "# {}\n\n{} seeds each; test accuracy as mean ± standard deviation over seeds, everything \
         else as mean.\n\n\
         | codec | bits/element | × smaller than fp32 | test accuracy | train loss | sent a node \
         and step | step |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        spec.title,
        spec.seeds.len(),
    );
    for codec in &spec.codecs {
        let runs: Vec<&Cell> = cells.iter().filter(|cell| cell.codec == *codec).collect();
        let done: Vec<&Summary> = runs
            .iter()
            .filter_map(|c| c.outcome.as_ref().ok())
            .collect();
        if !done.is_empty() {
            let of = |field: fn(&Summary) -> f64| {
                mean_and_deviation(&done.iter().map(|run| field(run)).collect::<Vec<_>>())
            };
            let (accuracy, deviation) = of(|run| run.test_accuracy);
            text += &format!(
                "| `{codec}` | {:.3} | {:.1} | {:.2} ± {:.2} % | {:.4} | {:.1} kB | {:.2} ms |\n",
                of(|run| run.bits_per_element).0,
                of(|run| run.compression_vs_fp32).0,
                accuracy * 100.0,
                deviation * 100.0,
                of(|run| run.train_loss).0,
                of(|run| run.bytes_sent_per_node_per_step).0 / 1e3,
                of(|run| run.median_step_seconds).0 * 1e3,
            );
        }
        for run in runs {
            if let Err(reason) = &run.outcome {
                text += &format!(
                    "| `{codec}` | seed {} failed: {reason} | | | | | |\n",
                    run.seed
                );
            }
        }
    }
    text
}

fn figure(spec: &Spec, cells: &[Cell]) -> Figure {
    let panel = |x_label: &str, x_log: bool, x: fn(&Sample) -> f64| Panel {
        x_label: x_label.to_owned(),
        y_label: "training loss".to_owned(),
        x_log,
        y_log: true,
        lines: spec
            .codecs
            .iter()
            .map(|codec| line(codec, cells, x))
            .collect(),
    };
    let panels = vec![
        panel("steps", false, |sample| sample.steps),
        panel("bytes sent by a node", true, |sample| sample.bytes),
    ];
    Figure {
        title: spec.title.clone(),
        panels,
    }
}

/// The mean over seeds, with the range over seeds as the band.
fn line(codec: &str, cells: &[Cell], x: fn(&Sample) -> f64) -> Line {
    let runs: Vec<&Vec<Sample>> = cells
        .iter()
        .filter(|cell| cell.codec == codec && cell.outcome.is_ok())
        .map(|cell| &cell.curve)
        .collect();
    let length = runs.iter().map(|run| run.len()).min().unwrap_or(0);
    let point = |i: usize| {
        let samples: Vec<Sample> = runs.iter().map(|run| run[i]).collect();
        let losses: Vec<f64> = samples.iter().map(|sample| sample.loss).collect();
        Point {
            x: mean_and_deviation(&samples.iter().map(x).collect::<Vec<_>>()).0,
            y: mean_and_deviation(&losses).0,
            low: losses.iter().copied().fold(f64::INFINITY, f64::min),
            high: losses.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    };
    Line {
        name: codec.to_owned(),
        points: (0..length).map(point).collect(),
    }
}
