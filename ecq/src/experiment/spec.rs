//! What an experiment is: a grid of codecs and seeds over one set of options.

use std::path::Path;

use ecq_quant::CodecSpec;
use serde::Deserialize;

use super::grid::Planned;
use crate::exit::Failed;
use crate::options::RunOptions;

/// The file of an experiment.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(super) struct Spec {
    /// Stands above the plot and the table.
    pub(super) title: String,
    /// The codecs to compare, as spec strings.
    pub(super) codecs: Vec<String>,
    /// The seeds to repeat each with.
    pub(super) seeds: Vec<u64>,
    /// Options that all runs share.
    #[serde(default)]
    pub(super) run: RunOptions,
}

impl Spec {
    /// Reads and checks the file of an experiment.
    pub(super) fn read(path: &Path) -> Result<Self, Failed> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failed::usage(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text)
            .map_err(|error| Failed::usage(format!("{}: {}", path.display(), error.message)))
    }

    pub(super) fn parse(text: &str) -> Result<Self, Failed> {
        let spec: Self = toml::from_str(text).map_err(Failed::usage)?;
        let set_here = spec.run.codec.is_some() || spec.run.seed.is_some();
        if set_here || spec.run.run_dir.is_some() || spec.run.name.is_some() {
            let text = "[run] holds what all runs share: not codec, seed, name or run-dir";
            return Err(Failed::usage(text));
        }
        if spec.codecs.is_empty() || spec.seeds.is_empty() {
            return Err(Failed::usage(
                "an experiment needs at least one codec and one seed",
            ));
        }
        // A codec that stands twice would make one line of the table out of both.
        if let Some(codec) = repeated(&spec.codecs) {
            return Err(Failed::usage(format!("the codec {codec} stands twice")));
        }
        if let Some(seed) = repeated(&spec.seeds) {
            return Err(Failed::usage(format!("the seed {seed} stands twice")));
        }
        for codec in &spec.codecs {
            codec.parse::<CodecSpec>().map_err(Failed::usage)?;
        }
        Ok(spec)
    }

    /// Every codec with every seed, each with a directory in `runs`.
    pub(super) fn plan(&self, runs: &Path) -> Result<Vec<Planned>, Failed> {
        let seeds = || self.seeds.iter();
        let grid = self
            .codecs
            .iter()
            .flat_map(|codec| seeds().map(move |seed| (codec, *seed)));
        let planned = |(i, (codec, seed)): (usize, (&String, u64))| {
            let name = format!("cell-{:03}", i + 1);
            let options = RunOptions {
                codec: Some(codec.clone()),
                seed: Some(seed),
                run_dir: Some(runs.join(&name)),
                name: Some(name),
                ..self.run.clone()
            };
            Ok(Planned {
                codec: codec.clone(),
                seed,
                // The time makes the names of nameless runs; these have theirs.
                run: options.resolve(0)?,
            })
        };
        grid.enumerate().map(planned).collect()
    }
}

fn repeated<T: PartialEq>(values: &[T]) -> Option<&T> {
    let earlier = |i: usize| &values[..i];
    let mut numbered = values.iter().enumerate();
    numbered.find_map(|(i, value)| earlier(i).contains(value).then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "title = 'T'\ncodecs = ['fp32', 'ecq']\nseeds = [1, 2]\n[run]\nnodes = 2";

    #[test]
    fn the_grid_is_complete() {
        let spec = Spec::parse(TEXT).expect("it is valid");
        let planned = spec.plan(Path::new("runs")).expect("so are its runs");
        let found: Vec<_> = planned
            .iter()
            .map(|p| {
                (
                    &*p.codec,
                    p.seed,
                    p.run.run_dir.to_str(),
                    p.run.config.nodes,
                )
            })
            .collect();
        let expected = [
            ("fp32", 1, Some("runs/cell-001"), 2),
            ("fp32", 2, Some("runs/cell-002"), 2),
            ("ecq", 1, Some("runs/cell-003"), 2),
            ("ecq", 2, Some("runs/cell-004"), 2),
        ];
        assert_eq!(found, expected);
        for Planned { codec, seed, run } in &planned {
            assert!(run.config.codec.starts_with(codec), "{codec}");
            assert_eq!(run.config.seed, *seed);
        }
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        for (wrong, expected) in [
            (TEXT.replace("'ecq'", "'zip'"), "unknown codec"),
            (TEXT.replace("[1, 2]", "[]"), "at least one"),
            (
                format!("{TEXT}\nseed = 3"),
                "[run] holds what all runs share",
            ),
            (format!("{TEXT}\nnode = 3"), "unknown field `node`"),
            (format!("codec = 'ecq'\n{TEXT}"), "unknown field `codec`"),
            (
                TEXT.replace("'ecq'", "'fp32'"),
                "the codec fp32 stands twice",
            ),
            (TEXT.replace("[1, 2]", "[2, 2]"), "the seed 2 stands twice"),
        ] {
            let error = Spec::parse(&wrong).expect_err("it is wrong");
            assert!(error.message.contains(expected), "{error}");
        }
        let wrong = Spec::parse(&format!("{TEXT}\nlr = -1.0")).expect("it parses");
        let error = wrong.plan(Path::new("runs")).expect_err("lr is wrong");
        assert!(error.message.contains("lr = -1"), "{error}");
    }
}
