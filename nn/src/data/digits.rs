//! The embedded digits: `data/digits.csv.gz`, see the README beside it.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::split::{Bytes, Samples, Scale};
use super::{DataError, DataName, Dataset, Shape, Split, Task};
use crate::batch::Targets;

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
const SIDE: usize = 8;
/// Every fifth sample, beginning with the fifth, is for testing. Writers follow one another in the
/// file, so that both splits have some of each.
const TEST_EVERY: usize = 5;

pub(super) fn load() -> Result<Dataset, DataError> {
    let path = Path::new("the embedded digits.csv.gz");
    let mut text = String::new();
    GzDecoder::new(FILE)
        .read_to_string(&mut text)
        .map_err(|source| DataError::Read {
            path: path.to_owned(),
            source,
        })?;
    let scale = Scale {
        factor: 1.0 / 16.0,
        offset: 0.0,
    };
    let empty = (Bytes::new(SIDE * SIDE, scale), Vec::new());
    let (mut train, mut test) = (empty.clone(), empty);
    for (number, line) in text.lines().enumerate() {
        let values: Result<Vec<u8>, _> = line.split(',').map(str::parse).collect();
        let (samples, labels) = if number % TEST_EVERY == TEST_EVERY - 1 {
            &mut test
        } else {
            &mut train
        };
        match values.as_deref() {
            Ok([pixels @ .., label]) if pixels.len() == SIDE * SIDE && *label < 10 => {
                samples.bytes.extend_from_slice(pixels);
                labels.push(u32::from(*label));
            }
            _ => {
                let reason = format!("line {} is not 64 pixels and a label", number + 1);
                return Err(DataError::Malformed {
                    path: path.to_owned(),
                    offset: 0,
                    reason,
                });
            }
        }
    }
    let split = |(samples, labels)| Split {
        samples: Samples::Bytes(samples),
        targets: Targets::Classes(labels),
    };
    Ok(Dataset {
        name: DataName::Digits,
        shape: Shape::Image {
            height: SIDE,
            width: SIDE,
            channels: 1,
        },
        task: Task::Classes(10),
        train: split(train),
        test: split(test),
    })
}
