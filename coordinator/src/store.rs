//! What a coordinator that is started again must know: `run.sqlite` in the run directory.
//!
//! | table | rows |
//! | --- | --- |
//! | `run` | one: the text of `config.toml`, and what nodes have in common (`replica` and `data` are digests) |
//! | `views`, `members` | the history: a view, and its members by rank |
//! | `residuals` | what became of a residual (`flushed`, `kept`, `lost`), said with a view: at which step, by whom, ‖h‖ |
//! | `steps` | a step, with the columns of `metrics.jsonl` |
//! | `evaluations` | an evaluation, likewise |
//! | `reasons` | what the coordinator did or waited for from then on, in words, as in its log; `step` steps were done |
//!
//! Views are durable before they are announced. A step's metrics survive the death of the process at
//! once, and a power failure some time later. What is not finite is NULL.

use std::path::{Path, PathBuf};

use ecq_cluster::{Digest, Fingerprint, Member, Step, View};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OpenFlags, Params, Transaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CoordinatorError;
use crate::metrics::{EvaluationLine, StepMetrics};
use crate::residuals::{Fate, Note};
use crate::run_dir::{RunDir, STORE};

/// Layout of the tables; another one is refused.
const FORMAT: i64 = 2;

const TABLES: &str = "
    CREATE TABLE run (
        config TEXT NOT NULL,
        replica BLOB, data BLOB, parameters INTEGER, samples INTEGER
    );
    CREATE TABLE views (
        number INTEGER PRIMARY KEY, first_step INTEGER NOT NULL, consumed INTEGER NOT NULL
    );
    CREATE TABLE members (
        view INTEGER NOT NULL, rank INTEGER NOT NULL, node INTEGER NOT NULL, address TEXT NOT NULL,
        PRIMARY KEY (view, rank)
    );
    CREATE TABLE reasons (wall_seconds REAL NOT NULL, step INTEGER NOT NULL, reason TEXT NOT NULL);
    CREATE TABLE residuals (
        view INTEGER NOT NULL, node INTEGER NOT NULL, became TEXT NOT NULL, value,
        PRIMARY KEY (view, node, became)
    );";

/// The store of a run.
#[derive(Debug)]
pub(crate) struct Store {
    db: Connection,
    path: PathBuf,
}

/// What the store of a run that has begun holds.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) views: Vec<View>,
    pub(crate) notes: Vec<Note>,
    pub(crate) fingerprint: Option<Fingerprint>,
    pub(crate) steps: Vec<StepMetrics>,
    pub(crate) evaluations: Vec<EvaluationLine>,
}

impl Store {
    /// The store of a new run.
    pub(crate) fn create(dir: &RunDir, config: &str) -> Result<Self, CoordinatorError> {
        let path = dir.path(STORE);
        drop(dir.create(STORE)?); // Nobody else's.
        let mut store = Self::connect(&path)?;
        store.transact(|transaction| {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "user_version", FORMAT)?;
            transaction.execute("INSERT INTO run (config) VALUES (?1)", [config])?;
            for (table, columns) in [
                ("steps", columns(&StepMetrics::default())),
                ("evaluations", columns(&EvaluationLine::default())),
            ] {
                // Counts stay integers, and all else is a number as it is: no column has a type.
                let names: Vec<String> = columns.into_iter().map(|(name, _)| name).collect();
                let names = names.join(", ");
                let table = format!("CREATE TABLE {table} ({names}, PRIMARY KEY (step))");
                transaction.execute_batch(&table)?;
            }
            Ok(())
        })?;
        Ok(store)
    }

    /// The store that is there, and the text of the run's `config.toml`.
    pub(crate) fn open(dir: &RunDir) -> Result<(Self, String), CoordinatorError> {
        let store = Self::connect(&dir.path(STORE))?;
        let format = store
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0));
        let format: i64 = format.map_err(|error| store.failed(error))?;
        if format != FORMAT {
            return Err(CoordinatorError::Foreign {
                path: store.path,
                expected: FORMAT,
                found: format,
            });
        }
        let config = store
            .db
            .query_row("SELECT config FROM run", [], |row| row.get(0));
        let config = config.map_err(|error| store.failed(error))?;
        Ok((store, config))
    }

    fn connect(path: &Path) -> Result<Self, CoordinatorError> {
        let failed = |source| CoordinatorError::Store {
            path: path.to_owned(),
            source,
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags).map_err(failed)?;
        db.pragma_update(None, "journal_mode", "WAL")
            .map_err(failed)?;
        Ok(Self {
            db,
            path: path.to_owned(),
        })
    }

    /// All that it holds.
    pub(crate) fn read(&self) -> Result<Stored, CoordinatorError> {
        self.read_all().map_err(|error| self.failed(error))
    }

    fn read_all(&self) -> rusqlite::Result<Stored> {
        let fingerprint =
            "SELECT replica, data, parameters, samples FROM run WHERE replica NOTNULL";
        let fingerprint = self.rows(fingerprint, [], |row| {
            Ok(Fingerprint {
                replica: Digest(row.get(0)?),
                data: Digest(row.get(1)?),
                parameters: unsigned(row.get(2)?),
                samples: unsigned(row.get(3)?),
            })
        })?;
        let views = "SELECT number, first_step, consumed FROM views ORDER BY number";
        let mut views = self.rows(views, [], |row| {
            Ok(View {
                number: unsigned(row.get(0)?),
                first_step: unsigned(row.get(1)?),
                consumed: unsigned(row.get(2)?),
                members: Vec::new(),
            })
        })?;
        for view in &mut views {
            let members = "SELECT node, address FROM members WHERE view = ?1 ORDER BY rank";
            view.members = self.rows(members, [signed(view.number)], |row| {
                Ok(Member {
                    node: unsigned(row.get(0)?),
                    address: row.get(1)?,
                })
            })?;
        }
        let notes = "SELECT view, node, became, value FROM residuals ORDER BY view, rowid";
        let notes = self.rows(notes, [], |row| {
            let became: String = row.get(2)?;
            let fate = match became.as_str() {
                "flushed" => Fate::Flushed(unsigned(row.get(3)?)),
                "kept" => Fate::Kept(unsigned(row.get(3)?)),
                _ => Fate::Lost(row.get::<_, Option<f64>>(3)?.unwrap_or(f64::NAN)),
            };
            Ok(Note {
                view: unsigned(row.get(0)?),
                node: unsigned(row.get(1)?),
                fate,
            })
        })?;
        Ok(Stored {
            views,
            notes,
            fingerprint: fingerprint.into_iter().next(),
            steps: self.table("steps")?,
            evaluations: self.table("evaluations")?,
        })
    }

    fn rows<T, P: Params>(
        &self,
        query: &str,
        params: P,
        read: impl FnMut(&rusqlite::Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        self.db.prepare(query)?.query_map(params, read)?.collect()
    }

    /// All rows of a table whose columns are the fields of `T`.
    fn table<T: DeserializeOwned>(&self, table: &str) -> rusqlite::Result<Vec<T>> {
        let query = format!("SELECT * FROM {table} ORDER BY step");
        let mut statement = self.db.prepare(&query)?;
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let row = |row: &rusqlite::Row<'_>| {
            let mut fields = serde_json::Map::new();
            for (index, name) in names.iter().enumerate() {
                let value = match row.get_ref(index)? {
                    ValueRef::Integer(value) => value.into(),
                    ValueRef::Real(value) => value.into(),
                    _ => continue, // Not a number, as the type has it for what is missing.
                };
                fields.insert(name.clone(), value);
            }
            serde_json::from_value(fields.into()).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(
                    0,
                    rusqlite::types::Type::Null,
                    error.into(),
                )
            })
        };
        statement.query_map([], row)?.collect()
    }

    /// Notes what all nodes have in common.
    pub(crate) fn begin(&mut self, found: &Fingerprint) -> Result<(), CoordinatorError> {
        self.transact(|transaction| {
            let values = (
                found.replica.0,
                found.data.0,
                signed(found.parameters),
                signed(found.samples),
            );
            let set = "UPDATE run SET replica = ?1, data = ?2, parameters = ?3, samples = ?4";
            transaction.execute(set, values).map(drop)
        })
    }

    /// Appends a view, and what is said with it; returns when it would survive a power failure.
    pub(crate) fn append(&mut self, view: &View, notes: &[Note]) -> Result<(), CoordinatorError> {
        self.synchronous("FULL")?;
        self.transact(|transaction| {
            let values = (
                signed(view.number),
                signed(view.first_step),
                signed(view.consumed),
            );
            transaction.execute("INSERT INTO views VALUES (?1, ?2, ?3)", values)?;
            for (rank, member) in (0_u32..).zip(&view.members) {
                let values = (
                    signed(view.number),
                    rank,
                    signed(member.node),
                    &member.address,
                );
                transaction.execute("INSERT INTO members VALUES (?1, ?2, ?3, ?4)", values)?;
            }
            for note in notes {
                let (became, value) = match note.fate {
                    Fate::Flushed(step) => ("flushed", Value::Integer(signed(step))),
                    Fate::Kept(by) => ("kept", Value::Integer(signed(by))),
                    Fate::Lost(norm) if norm.is_finite() => ("lost", Value::Real(norm)),
                    Fate::Lost(_) => ("lost", Value::Null),
                };
                let values = (signed(note.view), signed(note.node), became, value);
                let insert = "INSERT OR REPLACE INTO residuals VALUES (?1, ?2, ?3, ?4)";
                transaction.execute(insert, values)?;
            }
            Ok(())
        })?;
        self.synchronous("NORMAL")
    }

    /// Adds metrics.
    pub(crate) fn record(
        &mut self,
        steps: &[StepMetrics],
        evaluations: &[EvaluationLine],
    ) -> Result<(), CoordinatorError> {
        self.transact(|transaction| {
            for step in steps {
                insert(transaction, "steps", step)?;
            }
            for evaluation in evaluations {
                insert(transaction, "evaluations", evaluation)?;
            }
            Ok(())
        })
    }

    /// Notes what the run does or waits for since so many seconds, when so many steps were done.
    pub(crate) fn explain(
        &mut self,
        seconds: f64,
        steps: Step,
        reason: &str,
    ) -> Result<(), CoordinatorError> {
        let insert = "INSERT INTO reasons VALUES (?1, ?2, ?3)";
        let inserted = self
            .db
            .prepare_cached(insert)
            .and_then(|mut statement| statement.execute((seconds, signed(steps), reason)));
        inserted.map(drop).map_err(|error| self.failed(error))
    }

    /// Forgets the metrics of `first_step` and what follows: these steps are made anew.
    pub(crate) fn truncate(&mut self, first_step: Step) -> Result<(), CoordinatorError> {
        self.transact(|transaction| {
            for table in ["steps", "evaluations"] {
                let delete = format!("DELETE FROM {table} WHERE step > ?1");
                transaction.execute(&delete, [signed(first_step)])?;
            }
            Ok(())
        })
    }

    fn synchronous(&self, how: &str) -> Result<(), CoordinatorError> {
        let set = self.db.pragma_update(None, "synchronous", how);
        set.map_err(|error| self.failed(error))
    }

    fn transact(
        &mut self,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<()>,
    ) -> Result<(), CoordinatorError> {
        let done = self.db.transaction().and_then(|transaction| {
            work(&transaction)?;
            transaction.commit()
        });
        done.map_err(|error| self.failed(error))
    }

    fn failed(&self, source: rusqlite::Error) -> CoordinatorError {
        CoordinatorError::Store {
            path: self.path.clone(),
            source,
        }
    }
}

fn insert(
    transaction: &Transaction<'_>,
    table: &str,
    row: &impl Serialize,
) -> rusqlite::Result<()> {
    let (names, values): (Vec<String>, Vec<Value>) = columns(row).into_iter().unzip();
    let places = vec!["?"; names.len()].join(", ");
    let names = names.join(", ");
    let insert = format!("INSERT OR REPLACE INTO {table} ({names}) VALUES ({places})");
    let mut statement = transaction.prepare_cached(&insert)?;
    statement
        .execute(rusqlite::params_from_iter(values))
        .map(drop)
}

/// The fields of a struct of numbers.
fn columns(row: &impl Serialize) -> Vec<(String, Value)> {
    let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(row) else {
        return Vec::new(); // Invariant: rows are structs.
    };
    let value = |value: serde_json::Value| match (value.as_i64(), value.as_f64()) {
        (Some(count), _) => Value::Integer(count),
        (None, Some(number)) => Value::Real(number),
        (None, None) => Value::Null,
    };
    fields
        .into_iter()
        .map(|(name, field)| (name, value(field)))
        .collect()
}

/// SQLite's integers have a sign. Steps, samples and identities stay far below 2^63; what comes from
/// outside is cut off there.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
