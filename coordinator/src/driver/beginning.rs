//! How a coordinator begins: with a new run, or in the middle of one.

use std::collections::BTreeMap;
use std::time::Instant;

use ecq_cluster::coordinator::Coordinator;
use ecq_cluster::{Fingerprint, RunConfig, Step, View};
use ecq_proto::v1::RunStatus;
use tokio::sync::{mpsc, watch};

use super::{Driver, Input};
use crate::differences::Differences;
use crate::error::CoordinatorError;
use crate::history::History;
use crate::metrics::{Dimensions, Metrics};
use crate::residuals::{Note, Residuals};
use crate::run_dir::{MODEL, RunDir};
use crate::store::Store;

impl Driver {
    /// Begins a run in `dir`.
    pub(crate) fn new(
        config: RunConfig,
        text: String,
        dir: RunDir,
        inputs: mpsc::Receiver<Input>,
    ) -> Result<Self, CoordinatorError> {
        let machine = Coordinator::new(&config, text.clone(), ecq_proto::VERSION.to_owned());
        let store = Store::create(&dir, &text)?;
        Self::with(config, machine, dir, store, (&[], &[]), inputs)
    }

    /// Goes on with the run in `dir`.
    pub(crate) fn resume(
        config: RunConfig,
        text: String,
        dir: RunDir,
        inputs: mpsc::Receiver<Input>,
    ) -> Result<Self, CoordinatorError> {
        let (store, stored_text) = Store::open(&dir)?;
        let keys = differing(&text, &stored_text);
        if !keys.is_empty() {
            let path = dir.path("");
            return Err(CoordinatorError::OtherRun { path, keys });
        }
        let stored = store.read()?;
        let version = ecq_proto::VERSION.to_owned();
        let (views, found) = (stored.views, stored.fingerprint);
        let made = stored.steps.len() as Step;
        let machine = Coordinator::resume(&config, text, version, views.clone(), made, found);
        dir.discard(&format!("{MODEL}.partial"));
        let history = (&views[..], &stored.notes[..]);
        let mut driver = Self::with(config, machine, dir, store, history, inputs)?;
        let norm = stored
            .steps
            .last()
            .map_or(f64::NAN, |last| last.residual_norm);
        driver.residuals = Residuals::resume(&views, stored.notes, norm);
        driver.stored = (stored.steps.len(), stored.evaluations.len());
        let metrics = &mut driver.metrics;
        metrics.resume(stored.steps, stored.evaluations, &views)?;
        if let Some(found) = found {
            let dimensions = dimensions(&driver.config, &found);
            metrics.begin(dimensions);
            let members = views.iter().flat_map(|view| &view.members);
            driver.prepared = members.map(|member| (member.node, found)).collect();
        }
        let last = views.last().and_then(|view| view.members.first());
        driver
            .deliverer
            .send_replace(last.map(|member| member.node));
        tracing::info!(
            views = views.len(),
            steps = driver.stored.0,
            "going on with the run"
        );
        driver.publish();
        Ok(driver)
    }

    /// A driver at its first moment.
    fn with(
        config: RunConfig,
        machine: Coordinator,
        dir: RunDir,
        store: Store,
        (views, notes): (&[View], &[Note]),
        inputs: mpsc::Receiver<Input>,
    ) -> Result<Self, CoordinatorError> {
        let name = config.name.clone();
        let status = RunStatus {
            name,
            ..RunStatus::default()
        };
        let mut differences = Differences::new(&dir);
        views
            .last()
            .into_iter()
            .for_each(|view| differences.install(view));
        let members = views.iter().flat_map(|view| &view.members);
        let last = members.map(|member| member.node).max();
        Ok(Self {
            machine,
            commands: Vec::new(),
            start: Instant::now(),
            inputs,
            sessions: BTreeMap::new(),
            returned: BTreeMap::new(),
            next_node: last.unwrap_or(0) + 1,
            store,
            history: History::create(&dir, views, notes)?,
            metrics: Metrics::create(&dir)?,
            residuals: Residuals::default(),
            legacies: Vec::new(),
            differences,
            stored: (0, 0),
            told: Instant::now(),
            prepared: BTreeMap::new(),
            status: watch::Sender::new(status),
            deliverer: watch::Sender::new(None),
            refused: None,
            dir,
            config,
        })
    }
}

/// What all reports of the run are about.
pub(super) fn dimensions(config: &RunConfig, found: &Fingerprint) -> Dimensions {
    Dimensions {
        parameters: found.parameters,
        samples: found.samples,
        steps: config.total_steps(found.samples),
    }
}

/// The keys in which two texts of `config.toml` differ.
fn differing(one: &str, other: &str) -> Vec<String> {
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_default();
    let (one, other) = (table(one), table(other));
    let mut keys: Vec<String> = one.keys().chain(other.keys()).cloned().collect();
    keys.retain(|key| one.get(key) != other.get(key));
    keys.sort();
    keys.dedup();
    keys
}
