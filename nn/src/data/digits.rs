//! The embedded digits: `data/digits.csv.gz`, see the README beside it.

use std::io::Read as _;
use std::path::Path;

use flate2::read::GzDecoder;

use super::{DataError, DataName, Dataset, Split};

const FILE: &[u8] = include_bytes!("../../data/digits.csv.gz");
const PIXELS: usize = 64;
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
    let empty = Split {
        pixels: Vec::new(),
        labels: Vec::new(),
        features: PIXELS,
        factor: 1.0 / 16.0,
        offset: 0.0,
    };
    let (mut train, mut test) = (empty.clone(), empty);
    for (number, line) in text.lines().enumerate() {
        let values: Result<Vec<u8>, _> = line.split(',').map(str::parse).collect();
        let split = if number % TEST_EVERY == TEST_EVERY - 1 {
            &mut test
        } else {
            &mut train
        };
        match values.as_deref() {
            Ok([pixels @ .., label]) if pixels.len() == PIXELS && *label < 10 => {
                split.pixels.extend_from_slice(pixels);
                split.labels.push(*label);
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
    Ok(Dataset {
        name: DataName::Digits,
        features: PIXELS,
        classes: 10,
        train,
        test,
    })
}
