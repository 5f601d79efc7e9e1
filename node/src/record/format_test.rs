use std::collections::BTreeMap;

use bytes::Bytes;
use ecq_cluster::Digest;
use ecq_nn::data::{Shape, Task};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::error::Defect;
use super::format::{self, Entry, HEAD_BYTES, Header, PREAMBLE, RunFacts, SUM_BYTES, Tag};
use super::segment::{Blocks, Trouble};
use crate::rules::DataFacts;

fn header() -> impl Strategy<Value = Header> {
    let shape = prop_oneof![
        any::<usize>().prop_map(Shape::Flat),
        any::<usize>().prop_map(Shape::Sparse),
        any::<[usize; 3]>().prop_map(|[height, width, channels]| Shape::Image {
            height,
            width,
            channels,
        }),
        any::<[usize; 2]>().prop_map(|[length, vocabulary]| Shape::Sequence { length, vocabulary }),
    ];
    let task = prop_oneof![
        Just(Task::Regression),
        any::<usize>().prop_map(Task::Classes),
    ];
    let data = (shape, task, any::<usize>());
    let data = data.prop_map(|(shape, task, samples)| DataFacts {
        shape,
        task,
        samples,
    });
    let run = (".{0,40}", data, any::<u32>()).prop_map(|(config, data, steps)| RunFacts {
        config,
        data,
        steps: steps.into(),
        parameters: 7,
    });
    let view = (
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        vec(any::<u64>(), 0..5),
    );
    (view, run).prop_map(|((view, first_step, consumed, members), run)| Header {
        view,
        first_step,
        consumed,
        members,
        run,
    })
}

fn entry() -> impl Strategy<Value = Entry> {
    let frame = vec(any::<u8>(), 0..30).prop_map(Bytes::from);
    let frames = btree_map((0..4_u32, 0..3_u32), frame, 0..8);
    let digest = proptest::option::of(any::<[u8; 32]>().prop_map(Digest));
    let entry = (any::<u64>(), any::<u64>(), any::<u32>(), digest, frames);
    entry.prop_map(|(step, view, members, digest, frames)| Entry {
        step,
        view,
        members,
        digest,
        frames,
    })
}

fn segment() -> impl Strategy<Value = (Header, Vec<Entry>)> {
    (header(), vec(entry(), 0..4))
}

/// The bytes of a segment, and where its blocks end.
fn write(header: &Header, entries: &[Entry]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = Vec::new();
    header.encode(&mut bytes);
    let mut ends = vec![bytes.len()];
    for entry in entries {
        entry.encode(&mut bytes);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

/// What can be read, and how many bytes are left over.
fn read(bytes: &[u8]) -> Result<(Option<Header>, Vec<Entry>, u64), Trouble> {
    let mut blocks = Blocks::new(bytes, bytes.len() as u64);
    let header = blocks.header()?;
    let mut entries = Vec::new();
    if header.is_some() {
        while let Some(entry) = blocks.entry()? {
            entries.push(entry);
        }
    }
    Ok((header, entries, blocks.torn()))
}

proptest! {
    #[test]
    fn what_is_written_is_read((header, entries) in segment()) {
        let (bytes, _) = write(&header, &entries);
        let (found, steps, torn) = read(&bytes).expect("it is as it was written");
        prop_assert_eq!((found, steps, torn), (Some(header), entries, 0));
    }

    #[test]
    fn a_segment_that_ends_early_is_read_up_to_its_last_whole_step(
        (header, entries) in segment(), place in any::<prop::sample::Index>()
    ) {
        let (bytes, ends) = write(&header, &entries);
        let cut = place.index(bytes.len());
        let (found, steps, torn) = read(&bytes[..cut]).expect("nothing in it is wrong");
        let whole = ends.iter().filter(|end| **end <= cut).count();
        prop_assert_eq!(found, (whole > 0).then_some(header));
        prop_assert_eq!(&steps[..], &entries[..whole.saturating_sub(1)]);
        let end = whole.checked_sub(1).map(|last| ends[last]);
        if let Some(end) = end {
            prop_assert_eq!(torn, (cut - end) as u64);
        }
    }

    #[test]
    fn no_byte_can_be_another_one(
        (header, entries) in segment(), place in any::<prop::sample::Index>(), with in 1..=255_u8
    ) {
        let (mut bytes, _) = write(&header, &entries);
        let at = place.index(bytes.len());
        bytes[at] ^= with;
        let found = read(&bytes);
        prop_assert!(matches!(found, Err(Trouble::Defect(_))), "byte {at}: {found:?}");
    }

    #[test]
    fn anything_may_stand_in_a_body(body in vec(any::<u8>(), 0..200)) {
        let _either = (Header::decode(Bytes::from(body.clone())), Entry::decode(Bytes::from(body)));
    }

    #[test]
    fn anything_may_stand_in_a_file(bytes in vec(any::<u8>(), 0..200)) {
        let _either = read(&bytes);
        let _either = read(&[&PREAMBLE[..], &bytes].concat());
    }
}

/// A block that announces more than there is, with a checksum that is right.
fn announce(tag: [u8; 4], length: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..4].copy_from_slice(&tag);
    head[4..12].copy_from_slice(&length.to_le_bytes());
    let sum = crc32c::crc32c(&head[..HEAD_BYTES - SUM_BYTES]);
    head[HEAD_BYTES - SUM_BYTES..].copy_from_slice(&sum.to_le_bytes());
    head
}

#[test]
fn nothing_is_allocated_on_a_length_alone() {
    let entry = Entry {
        step: 0,
        view: 1,
        members: 1,
        digest: None,
        frames: BTreeMap::new(),
    };
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    bytes.extend(announce(*b"STEP", u64::MAX));
    let mut blocks = Blocks::new(&bytes[..], bytes.len() as u64);
    assert_eq!(blocks.entry().expect("it is there"), Some(entry));
    assert_eq!(blocks.entry().expect("the rest may be missing"), None);
    assert_eq!(blocks.torn(), HEAD_BYTES as u64);
    let long = announce(*b"VIEW", 1 << 40);
    assert_eq!(
        format::length(&long, Tag::View),
        Err(Defect::Length(1 << 40))
    );
    assert_eq!(
        format::length(&long, Tag::Step),
        Err(Defect::Tag("VIEW".to_owned()))
    );
}

#[test]
fn other_versions_and_other_files_are_named() {
    let mut bytes = PREAMBLE;
    bytes[4] = 1;
    let found = read(&bytes).expect_err("this is version 1");
    assert!(matches!(found, Trouble::Defect(Defect::Version(1))));
    let found = read(b"{\"step\": 1}").expect_err("this is JSON");
    assert!(matches!(found, Trouble::Defect(Defect::Magic)));
}
