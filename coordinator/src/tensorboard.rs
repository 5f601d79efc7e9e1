//! TensorBoard event files.
//!
//! A file is a sequence of TFRecords (length u64, masked CRC-32C of the length, data, masked CRC-32C
//! of the data; little-endian), each an `Event` message of TensorFlow's `event.proto`, of which only
//! the few fields used here are declared.

use std::fs::File;
use std::io::{self, BufWriter, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use prost::Message as _;

use crate::error::CoordinatorError;
use crate::run_dir::{EVENTS, RunDir};

#[derive(Clone, PartialEq, prost::Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Scalars>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalars {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// An event file under way.
#[derive(Debug)]
pub(crate) struct Events(BufWriter<File>);

impl Events {
    /// Begins `events.out.tfevents.SECONDS.HOST.PROCESS` in the run directory.
    pub(crate) fn create(dir: &RunDir) -> Result<Self, CoordinatorError> {
        let now = now();
        let (seconds, process) = (now as u64, std::process::id());
        let name = format!("{EVENTS}{seconds}.{}.{process}", host());
        let mut events = Self(BufWriter::new(dir.create(&name)?));
        let file_version = Some("brain.Event:2".to_owned());
        events
            .write(&Event {
                wall_time: now,
                file_version,
                ..Event::default()
            })
            .map_err(|error| crate::run_dir::unwritable(&dir.path(&name), error))?;
        Ok(events)
    }

    /// Adds scalars at a step.
    pub(crate) fn scalars(&mut self, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        let scalar = |(tag, value): &(&str, f64)| Scalar {
            tag: (*tag).to_owned(),
            simple_value: *value as f32,
        };
        let summary = Some(Scalars {
            value: scalars.iter().map(scalar).collect(),
        });
        // Invariant: no run has 2^63 steps.
        let step = i64::try_from(step).unwrap_or(i64::MAX);
        self.write(&Event {
            wall_time: now(),
            step,
            file_version: None,
            summary,
        })
    }

    /// Hands everything to the system, so that a TensorBoard beside the run sees it.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    /// Returns when everything would survive a power failure.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.0.flush()?;
        self.0.get_ref().sync_all()
    }

    fn write(&mut self, event: &Event) -> io::Result<()> {
        let data = event.encode_to_vec();
        let length = (data.len() as u64).to_le_bytes();
        self.0.write_all(&length)?;
        self.0.write_all(&masked(&length).to_le_bytes())?;
        self.0.write_all(&data)?;
        self.0.write_all(&masked(&data).to_le_bytes())
    }
}

/// TFRecord's masked CRC-32C.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// Name of this machine, as far as it can stand in a file's name.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    let name: String = name.chars().filter(plain).collect();
    if name.is_empty() {
        return "localhost".to_owned();
    }
    name
}

fn now() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader of its own, with lengths and checksums verified.
    fn read(mut bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_at(8);
            let (check, rest) = rest.split_at(4);
            assert_eq!(masked(length).to_le_bytes(), check);
            let length = u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize;
            let (data, rest) = rest.split_at(length);
            let (check, rest) = rest.split_at(4);
            assert_eq!(masked(data).to_le_bytes(), check);
            events.push(Event::decode(data).expect("it was encoded"));
            bytes = rest;
        }
        events
    }

    #[test]
    fn what_is_written_can_be_read_back() {
        let temporary = tempfile::tempdir().expect("there is room");
        let dir = RunDir::take(temporary.path(), "").expect("it is new");
        let mut events = Events::create(&dir).expect("it is writable");
        events
            .scalars(7, &[("train/loss", 0.5), ("test/accuracy", 1.0)])
            .expect("so it is");
        events.flush().expect("so it is");
        let name = std::fs::read_dir(temporary.path())
            .expect("it is there")
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .find(|name| name.starts_with(EVENTS))
            .expect("there is an event file");
        let events = read(&std::fs::read(temporary.path().join(name)).expect("it is there"));
        assert_eq!(events[0].file_version.as_deref(), Some("brain.Event:2"));
        let summary = events[1].summary.as_ref().expect("it has scalars");
        assert_eq!(events[1].step, 7);
        assert_eq!(summary.value[0].tag, "train/loss");
        assert_eq!(summary.value[1].simple_value, 1.0);
    }

    #[test]
    fn the_mask_is_that_of_tfrecord() {
        // CRC-32C of "123456789" is e3069283.
        let expected = 0xe306_9283_u32.rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(masked(b"123456789"), expected);
    }
}
