//! `ecq replay --diff`: where two runs part.

use std::collections::BTreeSet;
use std::path::PathBuf;

use ecq_cluster::{RunConfig, Step};
use ecq_node::replay::{FrameDifference, Kind, Replay, ValueDifference};
use serde_json::{Value, json};

use super::progress::Progress;
use super::{internal, place, print};
use crate::cli::ReplayArgs;
use crate::exit::{Code, Failed};

/// A key of the configuration, and its value in both runs.
type Setting = (String, [String; 2]);

/// Where two runs part.
struct Parting {
    /// The step after which they differ; nothing if they do before the first.
    step: Option<Step>,
    value: ValueDifference,
    frame: Option<FrameDifference>,
}

pub(super) fn command(args: &ReplayArgs, runs: [&PathBuf; 2]) -> Result<(), Failed> {
    let open = |run| Replay::open(&place(run).0);
    let [a, b] = runs;
    let (mut a, mut b) = (open(a)?, open(b)?);
    let settings = settings(a.config(), b.config()).map_err(internal)?;
    if !args.json {
        let mut text = String::new();
        for (key, [a, b]) in &settings {
            text += &format!("{key}: {a} in A, {b} in B\n");
        }
        print(&text)?;
    }
    if !a.is_alike(&b) {
        return Err(Failed::usage(
            "the runs' models have other tensors, so that there is nothing to compare",
        ));
    }
    let end = a
        .steps()
        .min(b.steps())
        .min(args.to_step.unwrap_or(Step::MAX));
    let parting = part(&mut a, &mut b, end)?;
    // Who has more steps may have applied one more.
    let (shorter, name) = if a.applied() <= b.applied() {
        (&a, "A")
    } else {
        (&b, "B")
    };
    let applied = shorter.applied();
    let compared = parting.is_some() || applied == end;
    if args.json {
        let text = report(&settings, applied, parting.as_ref(), compared);
        print(&(serde_json::to_string_pretty(&text).map_err(internal)? + "\n"))?;
    }
    let Some(parting) = parting else {
        if !args.json {
            let digest = shorter.digest();
            print(&format!(
                "the runs are the same for {applied} steps, up to the digest {digest}\n"
            ))?;
        }
        if !compared {
            let text = format!(
                "the comparison ends where the log of {name} does, before step {applied} of {end}; \
                 compare less of it with --to-step {applied}"
            );
            return Err(Failed::new(Code::Data, text));
        }
        return Ok(());
    };
    Err(Failed::new(Code::Diverged, describe(&parting)))
}

/// Applies step after step to both, until they differ or one of them ends.
fn part(a: &mut Replay, b: &mut Replay, end: Step) -> Result<Option<Parting>, Failed> {
    let progress = Progress::new(end);
    let mut step = None;
    loop {
        if let Some(value) = a.value_difference(b) {
            let frame = a.frame_difference(b);
            return Ok(Some(Parting { step, value, frame }));
        }
        let next = a.applied();
        if next == end || !a.advance()? || !b.advance()? {
            return Ok(None);
        }
        step = Some(next);
        progress.at(next + 1);
    }
}

fn describe(parting: &Parting) -> String {
    let Parting { step, value, frame } = parting;
    let count = value.count;
    match step {
        None => {
            format!("the runs part at step 0, before it is applied: {value}; {count} values differ")
        }
        Some(step) => {
            let frame = frame.map_or("all frames are the same".to_owned(), |it| it.to_string());
            format!("the runs part at step {step}: {value}; {count} values differ; {frame}")
        }
    }
}

fn report(settings: &[Setting], applied: Step, parting: Option<&Parting>, compared: bool) -> Value {
    let settings = settings.iter();
    let settings: Vec<Value> = settings
        .map(|(key, values)| json!({ "key": key, "values": values }))
        .collect();
    let parting = parting.map(|Parting { step, value, frame }| {
        let of = match value.kind {
            Kind::Parameter => "parameter",
            Kind::Velocity => "velocity",
        };
        let frame =
            frame.map(|it| json!({ "rank": it.rank, "bucket": it.bucket, "bytes": it.bytes }));
        json!({
            "step": step.unwrap_or(0), "applied": step.is_some(), "of": of, "tensor": value.tensor,
            "index": value.index, "values": value.values, "count": value.count, "frame": frame
        })
    });
    json!({
        "equal": parting.is_none() && compared, "steps": applied, "settings": settings, "parting": parting
    })
}

/// The keys in which two configurations differ.
fn settings(a: &RunConfig, b: &RunConfig) -> Result<Vec<Setting>, toml::ser::Error> {
    let (a, b) = (toml::Table::try_from(a)?, toml::Table::try_from(b)?);
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let shown = |value: Option<&toml::Value>| {
        value.map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    Ok(keys
        .into_iter()
        .filter(|key| a.get(*key) != b.get(*key))
        .map(|key| (key.clone(), [&a, &b].map(|table| shown(table.get(key)))))
        .collect())
}
