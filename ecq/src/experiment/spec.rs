//! What an experiment is: a grid of codecs and seeds over one set of options.

use std::path::Path;

use ecq_quant::CodecSpec;
use serde::Deserialize;

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

    fn parse(text: &str) -> Result<Self, Failed> {
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
        for codec in &spec.codecs {
            codec.parse::<CodecSpec>().map_err(Failed::usage)?;
        }
        Ok(spec)
    }

    /// Every codec with every seed.
    pub(super) fn cells(&self) -> Result<Vec<(String, u64, RunOptions)>, Failed> {
        let seeds = || self.seeds.iter();
        let cells = self
            .codecs
            .iter()
            .flat_map(|codec| seeds().map(move |seed| (codec, *seed)));
        cells
            .map(|(codec, seed)| {
                let options = RunOptions {
                    codec: Some(codec.clone()),
                    seed: Some(seed),
                    ..self.run.clone()
                };
                // A mistake should show before the first run, not after hours.
                options.clone().resolve(0)?;
                Ok((codec.clone(), seed, options))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "title = 'T'\ncodecs = ['fp32', 'ecq']\nseeds = [1, 2]\n[run]\nnodes = 2";

    #[test]
    fn the_grid_is_complete() {
        let cells = Spec::parse(TEXT)
            .expect("it is valid")
            .cells()
            .expect("so are its runs");
        let cells: Vec<_> = cells
            .iter()
            .map(|(c, s, o)| (c.as_str(), *s, o.nodes))
            .collect();
        let nodes = Some(2);
        let expected = [
            ("fp32", 1, nodes),
            ("fp32", 2, nodes),
            ("ecq", 1, nodes),
            ("ecq", 2, nodes),
        ];
        assert_eq!(cells, expected);
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
            (format!("{TEXT}\nnode = 3"), "node"),
        ] {
            let error = Spec::parse(&wrong).expect_err("it is wrong");
            assert!(error.message.contains(expected), "{error}");
        }
        let wrong = Spec::parse(&format!("{TEXT}\nlr = -1.0")).expect("it parses");
        assert!(wrong.cells().is_err());
    }
}
