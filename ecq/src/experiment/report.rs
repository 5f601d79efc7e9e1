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
    let seeds: Vec<String> = spec.seeds.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "# {}\n\nSeeds {}; test accuracy as mean ± standard deviation over seeds, everything else \
         as mean.\n\n\
         | codec | bits/element | × smaller than fp32 | test accuracy | train loss | sent a node \
         and step | step |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n",
        spec.title,
        seeds.join(", "),
    );
    for codec in &spec.codecs {
        let runs: Vec<&Cell> = cells.iter().filter(|cell| cell.codec == *codec).collect();
        let done: Vec<&Summary> = runs
            .iter()
            .filter_map(|c| c.outcome.as_ref().ok())
            .collect();
        if !done.is_empty() {
            text += &row(codec, &done);
        }
        for run in runs {
            if let Err(failed) = &run.outcome {
                // A bar or a line's end in the reason would break the table.
                let reason = failed.message.replace('|', "\\|").replace('\n', " ");
                let seed = run.seed;
                text += &format!("| `{codec}` | seed {seed} failed: {reason} | | | | | |\n");
            }
        }
    }
    text
}

/// The line of a codec over the runs that completed.
fn row(codec: &str, done: &[&Summary]) -> String {
    let of = |field: fn(&Summary) -> f64| {
        mean_and_deviation(&done.iter().map(|run| field(run)).collect::<Vec<_>>())
    };
    let (accuracy, deviation) = of(|run| run.test_accuracy);
    // One run says nothing about how runs differ.
    let deviation = if done.len() > 1 {
        format!(" ± {:.2}", deviation * 100.0)
    } else {
        String::new()
    };
    format!(
        "| `{codec}` | {:.3} | {:.1} | {:.2}{deviation} % | {:.4} | {:.1} kB | {:.2} ms |\n",
        of(|run| run.bits_per_element).0,
        of(|run| run.compression_vs_fp32).0,
        accuracy * 100.0,
        of(|run| run.train_loss).0,
        of(|run| run.bytes_sent_per_node_per_step).0 / 1e3,
        of(|run| run.median_step_seconds).0 * 1e3,
    )
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::results::tests::summary;

    /// Two codecs over seeds 1 and 2; the last run of the second codec has failed.
    fn experiment() -> (Spec, Vec<Cell>) {
        let text = "title = 'T'\ncodecs = ['fp32', 'ecq']\nseeds = [1, 2]";
        let spec = Spec::parse(text).expect("it is valid");
        let sample = |steps, loss| Sample {
            steps,
            bytes: steps * 100.0,
            loss,
        };
        let cell = |codec: &str, seed: u64, outcome, losses: [f64; 2]| Cell {
            codec: codec.to_owned(),
            seed,
            outcome,
            curve: vec![sample(1.0, losses[0]), sample(2.0, losses[1])],
        };
        let failed = Failed::new(Code::Lost, "rank 1 | lost\nfor good");
        let cells = vec![
            cell("fp32", 1, Ok(summary(0.90)), [4.0, 1.0]),
            cell("fp32", 2, Ok(summary(0.94)), [2.0, 2.0]),
            cell("ecq", 1, Ok(summary(0.80)), [3.0, 1.0]),
            cell("ecq", 2, Err(failed), [9.0, 9.0]),
        ];
        (spec, cells)
    }

    #[test]
    fn the_table_has_a_line_a_codec_and_a_line_a_failure() {
        let (spec, cells) = experiment();
        let table = table(&spec, &cells);
        let lines: Vec<&str> = table.lines().skip(6).collect();
        let expected = [
            "| `fp32` | 2.000 | 16.0 | 92.00 ± 2.83 % | 0.1000 | 1.5 kB | 4.00 ms |",
            "| `ecq` | 2.000 | 16.0 | 80.00 % | 0.1000 | 1.5 kB | 4.00 ms |",
            "| `ecq` | seed 2 failed: rank 1 \\| lost for good | | | | | |",
        ];
        assert_eq!(lines, expected, "{table}");
    }

    #[test]
    fn curves_are_means_in_bands_of_the_runs_that_completed() {
        let (spec, cells) = experiment();
        let figure = figure(&spec, &cells);
        let point = |x, y, low, high| Point { x, y, low, high };
        let [steps, bytes] = &figure.panels[..] else {
            panic!("two panels")
        };
        let fp32 = [point(1.0, 3.0, 2.0, 4.0), point(2.0, 1.5, 1.0, 2.0)];
        assert_eq!(steps.lines[0].points, fp32);
        let ecq = [point(100.0, 3.0, 3.0, 3.0), point(200.0, 1.0, 1.0, 1.0)];
        assert_eq!(bytes.lines[1].points, ecq);
    }
}
