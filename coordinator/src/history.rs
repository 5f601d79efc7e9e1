//! `history.jsonl`: the views of the run for people, a line each. The store has them too, and counts.

use std::fs::File;
use std::io::Write as _;

use ecq_cluster::View;

use crate::error::CoordinatorError;
use crate::residuals::Note;
use crate::run_dir::{HISTORY, RunDir, unwritable};

/// `history.jsonl`.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    dir: RunDir,
}

impl History {
    /// The file with the views so far.
    pub(crate) fn create(
        dir: &RunDir,
        views: &[View],
        notes: &[Note],
    ) -> Result<Self, CoordinatorError> {
        let line = |view: &View| {
            let of_view = notes.iter().filter(|note| note.view == view.number);
            line(view, of_view)
        };
        let lines: String = views.iter().map(line).collect();
        dir.replace(HISTORY, lines.as_bytes())?;
        Ok(Self {
            file: dir.append(HISTORY)?,
            dir: dir.clone(),
        })
    }

    /// Appends a view, and what is said with it.
    pub(crate) fn append(&mut self, view: &View, notes: &[Note]) -> Result<(), CoordinatorError> {
        let written = self.file.write_all(line(view, notes.iter()).as_bytes());
        written.map_err(|error| unwritable(&self.dir.path(HISTORY), error))
    }
}

fn line<'a>(view: &View, notes: impl Iterator<Item = &'a Note>) -> String {
    let member = |(rank, member): (u32, &ecq_cluster::Member)| serde_json::json!({ "rank": rank, "node": member.node, "address": member.address });
    let members: Vec<_> = (0..).zip(&view.members).map(member).collect();
    let line = serde_json::json!({
        "view": view.number, "first_step": view.first_step, "consumed": view.consumed,
        "members": members, "residuals": notes.map(|note| note.to_json()).collect::<Vec<_>>()
    });
    format!("{line}\n")
}
