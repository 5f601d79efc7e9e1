//! `ecq config`: a file to begin with, and whether a file is any good.

use std::io::Write as _;

use clap::Args as _;

use crate::cli::{ConfigAction, ConfigArgs};
use crate::exit::{Code, Failed};
use crate::options::RunOptions;
use crate::preflight;

pub(crate) fn command(args: &ConfigArgs) -> Result<(), Failed> {
    match &args.action {
        ConfigAction::Init => print(&template()?),
        ConfigAction::Check { file } => {
            let resolved = RunOptions::from_file(file)?.resolve(0)?;
            preflight::names(&resolved.config)?;
            print(&format!("{} describes a run\n", file.display()))
        }
    }
}

fn print(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .map_err(|error| Failed::io(format!("stdout: {error}")))
}

/// Every key with the help of its flag; those without a default are commented out.
fn template() -> Result<String, Failed> {
    let internal = |text: String| Failed::new(Code::Internal, text);
    let defaults = RunOptions::default().resolve(0)?.config;
    let defaults = toml::Table::try_from(&defaults).map_err(|e| internal(e.to_string()))?;
    let options = RunOptions::augment_args(clap::Command::new("ecq"));
    let mut text = String::from("# Options of a run for `ecq launch --config FILE`.\n");
    for arg in options.get_arguments() {
        let Some(key) = arg.get_long() else { continue };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let help = help.split(" [default").next().unwrap_or_default();
        let line = match defaults.get(key).filter(|_| key != "name") {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} ="),
        };
        text += &format!("\n# {help}\n{line}\n");
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_holds_every_key_and_resolves_to_the_defaults() {
        let text = template().expect("the defaults are valid");
        let options: RunOptions = toml::from_str(&text).expect("it is TOML");
        let expected = RunOptions::default()
            .resolve(0)
            .expect("defaults are valid");
        assert_eq!(options.resolve(0).expect("as are these"), expected);
        for key in [
            "name",
            "data-dir",
            "steps",
            "run-dir",
            "hidden",
            "lease-seconds",
        ] {
            assert!(text.contains(&format!("{key} =")), "{key}");
        }
        // Each key that is commented out must be one that the file may have.
        for key in text
            .lines()
            .filter_map(|line| line.strip_prefix("# ")?.strip_suffix(" ="))
        {
            let number = ["steps", "global-batch", "quorum", "checkpoint-every"].contains(&key);
            let value = if number { "1" } else { "'x'" };
            let with = format!("{key} = {value}");
            assert!(toml::from_str::<RunOptions>(&with).is_ok(), "{with}");
        }
    }
}
