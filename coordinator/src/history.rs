//! `history.jsonl`: the views of the run for people, a line each. The store has them too, and counts.

use std::fs::File;
use std::io::Write as _;

use ecq_cluster::View;

use crate::error::CoordinatorError;
use crate::run_dir::{HISTORY, RunDir, unwritable};

/// `history.jsonl`.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    dir: RunDir,
}

impl History {
    /// The file with the views so far.
    pub(crate) fn create(dir: &RunDir, views: &[View]) -> Result<Self, CoordinatorError> {
        let lines: String = views.iter().map(line).collect();
        dir.replace(HISTORY, lines.as_bytes())?;
        Ok(Self {
            file: dir.append(HISTORY)?,
            dir: dir.clone(),
        })
    }

    /// Appends a view.
    pub(crate) fn append(&mut self, view: &View) -> Result<(), CoordinatorError> {
        let written = self.file.write_all(line(view).as_bytes());
        written.map_err(|error| unwritable(&self.dir.path(HISTORY), error))
    }
}

fn line(view: &View) -> String {
    let member = |(rank, member): (u32, &ecq_cluster::Member)| serde_json::json!({ "rank": rank, "node": member.node, "address": member.address });
    let members: Vec<_> = (0..).zip(&view.members).map(member).collect();
    let line = serde_json::json!({
        "view": view.number, "first_step": view.first_step, "consumed": view.consumed,
        "members": members
    });
    format!("{line}\n")
}
