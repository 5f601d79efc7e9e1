//! The history of a run: its views, durable before anybody acts on them.

use std::fs::File;
use std::io::{self, Write as _};

use ecq_cluster::View;

use crate::error::CoordinatorError;
use crate::run_dir::{HISTORY, RunDir, unwritable};

/// `history.jsonl`: a line a view.
#[derive(Debug)]
pub(crate) struct History {
    file: File,
    dir: RunDir,
}

impl History {
    pub(crate) fn create(dir: &RunDir) -> Result<Self, CoordinatorError> {
        Ok(Self {
            file: dir.create(HISTORY)?,
            dir: dir.clone(),
        })
    }

    /// Appends a view; returns when it would survive a power failure.
    pub(crate) fn append(&mut self, view: &View) -> Result<(), CoordinatorError> {
        let members: Vec<_> = (0_u32..)
            .zip(&view.members)
            .map(|(rank, member)| {
                serde_json::json!({
                    "rank": rank, "node": member.node, "address": member.address
                })
            })
            .collect();
        let line = serde_json::json!({
            "view": view.number, "first_step": view.first_step, "consumed": view.consumed,
            "members": members
        });
        self.store(&format!("{line}\n"))
            .map_err(|e| unwritable(&self.dir.path(HISTORY), e))
    }

    fn store(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())?;
        self.file.sync_all()
    }
}
