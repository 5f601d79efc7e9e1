//! `ecq replay`: the model of a recorded run, again.

mod diff;
mod progress;
mod verify;

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ecq_cluster::Step;
use ecq_node::replay::Replay;
use serde::Serialize;

use crate::cli::ReplayArgs;
use crate::exit::{Code, Failed};
use progress::Progress;
use verify::Verified;

/// Where in a run directory the log of a recorded run is.
pub(crate) const RECORD: &str = "record";

pub(crate) fn command(args: &ReplayArgs) -> Result<(), Failed> {
    match (&args.run, args.diff.as_deref()) {
        (_, Some([a, b])) => diff::command(args, [a, b]),
        (Some(run), _) => replay(args, run),
        _ => Err(Failed::usage("which run? see ecq replay --help")),
    }
}

/// What a replay has done.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    run: String,
    /// Steps applied.
    step: Step,
    /// Steps of the run.
    steps: Step,
    digest: String,
    views: usize,
    frames: u64,
    frame_bytes: u64,
    verified: Option<Verified>,
}

fn replay(args: &ReplayArgs, run: &Path) -> Result<(), Failed> {
    if let Some(out) = args.out.as_ref().filter(|out| out.exists()) {
        let out = out.display();
        return Err(Failed::usage(format!(
            "{out} is there already, and ecq overwrites nothing; choose another --out"
        )));
    }
    let (log, run_dir) = place(run);
    let mut replay = Replay::open(&log)?;
    let end = end(args, &replay)?;
    let mut verified = args.verify.then(Verified::default);
    let progress = Progress::new(end);
    while replay.applied() < end && replay.advance()? {
        if let Some(verified) = &mut verified {
            verified.step(&replay)?;
        }
        progress.at(replay.applied());
    }
    progress.finish();
    let ended = replay.applied() < end;
    if ended {
        let (found, steps) = (replay.applied(), replay.steps());
        let text = format!("the log ends before step {found} of {steps}");
        if args.to_step.is_some() {
            return Err(Failed::new(
                Code::Data,
                format!("{}: {text}", log.display()),
            ));
        }
        tracing::warn!("{text}");
    }
    // What the run has left is of its end.
    let whole = end == replay.steps();
    if let (Some(verified), Some(run_dir), true) = (&mut verified, run_dir, whole) {
        verified.files(&replay, run_dir)?;
    }
    if let Some(out) = &args.out {
        write(&replay, out)?;
    }
    let tally = replay.tally();
    show(
        &Outcome {
            run: replay.config().name.clone(),
            step: replay.applied(),
            steps: replay.steps(),
            digest: replay.digest().to_string(),
            views: replay.views(),
            frames: tally.frames,
            frame_bytes: tally.frame_bytes,
            verified,
        },
        args.json,
    )
}

/// The log of a run, and the run directory if it is one.
fn place(run: &Path) -> (PathBuf, Option<&Path>) {
    let log = run.join(RECORD);
    if log.is_dir() {
        (log, Some(run))
    } else {
        (run.to_owned(), None)
    }
}

/// The number of steps to apply.
fn end(args: &ReplayArgs, replay: &Replay) -> Result<Step, Failed> {
    let steps = replay.steps();
    match args.to_step {
        Some(wanted) if wanted > steps => Err(Failed::usage(format!(
            "--to-step {wanted}: the run has {steps} steps"
        ))),
        wanted => Ok(wanted.unwrap_or(steps)),
    }
}

fn write(replay: &Replay, out: &Path) -> Result<(), Failed> {
    let model = replay.pack().map_err(internal)?;
    let written = File::create_new(out).and_then(|mut file| file.write_all(&model));
    written.map_err(|error| Failed::io(format!("cannot write {}: {error}", out.display())))
}

fn internal(error: impl std::fmt::Display) -> Failed {
    Failed::new(Code::Internal, error.to_string())
}

fn show(outcome: &Outcome, json: bool) -> Result<(), Failed> {
    if json {
        return print(&(serde_json::to_string_pretty(outcome).map_err(internal)? + "\n"));
    }
    let Outcome {
        run,
        step,
        steps,
        digest,
        views,
        frames,
        frame_bytes,
        verified,
    } = outcome;
    let mut text = format!(
        "run     {run}\nstep    {step} of {steps}\ndigest  {digest}\n\
         frames  {frames}, {frame_bytes} bytes, {views} views\n"
    );
    if let Some(verified) = verified {
        text += &format!("equal   {verified}\n");
    }
    print(&text)
}

fn print(text: &str) -> Result<(), Failed> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes());
    written.map_err(|error| Failed::io(format!("cannot write to standard output: {error}")))
}
