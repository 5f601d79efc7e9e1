//! Frames with a bit budget that no encoder makes: streams that lie about their tensors, lengths and symbols.

mod counting;
mod gradients;

use std::sync::LazyLock;

use counting::allocated;
use ecq_quant::{Decoder, Encoder, Layout};
use gradients::{SEED, gaussian, id, spec};
use proptest::prelude::*;

/// Two of these tensors are long.
const LENGTHS: [usize; 4] = [100, 7, 300, 50];
const ELEMENTS: usize = 457;
const CODEC: &str = "qsgd:bits=2,bucket=tensor";

/// A stream as it stands in a frame.
#[derive(Clone, Debug)]
struct Stream {
    levels: u8,
    coding: u8,
    reserved: [u8; 2],
    /// What it says; else its length.
    length: Option<u32>,
    symbols: Vec<u8>,
}

/// What follows the parameters of a frame.
#[derive(Clone, Debug)]
struct Streams {
    /// What the frame says.
    count: u8,
    coding: u8,
    levels: u8,
    /// A stream and a number of tensors, however written.
    places: Vec<(u8, Vec<u8>)>,
    streams: Vec<Stream>,
    trailing: Vec<u8>,
}

impl Streams {
    /// The long tensors have three levels in two bits of each symbol's three, the others one.
    fn good() -> Self {
        // Symbols 0 to 6 in three bits, and 0 to 2 in two; all are 1.
        let packed = |width: usize, count: usize| {
            let mut bytes = vec![0_u8; (width * count).div_ceil(8)];
            (0..count).for_each(|i| bytes[i * width / 8] |= 1 << (i * width % 8));
            bytes
        };
        let stream = |levels: u8, symbols| Stream {
            levels,
            coding: 0,
            reserved: [0; 2],
            length: None,
            symbols,
        };
        Self {
            count: 2,
            coding: 0,
            levels: 0,
            places: vec![(0, vec![1]), (1, vec![1]), (0, vec![1]), (1, vec![1])],
            streams: vec![stream(3, packed(3, 400)), stream(1, packed(2, 57))],
            trailing: Vec::new(),
        }
    }

    /// The good ones with a change.
    fn with(change: impl FnOnce(&mut Self)) -> Self {
        let mut streams = Self::good();
        change(&mut streams);
        streams
    }

    /// As a frame, whose parameters are all 1.
    fn frame(&self) -> Vec<u8> {
        let mut frame = zeros().to_vec();
        frame.truncate(36);
        frame.extend([self.coding, self.count, self.levels, 0]);
        frame.extend([1.0_f32; 4].iter().flat_map(|a| a.to_le_bytes()));
        for (stream, tensors) in &self.places {
            frame.push(*stream);
            frame.extend(tensors);
        }
        for stream in &self.streams {
            let [a, b] = stream.reserved;
            frame.extend([stream.levels, stream.coding, a, b]);
            let length = stream.length.unwrap_or(stream.symbols.len() as u32);
            frame.extend(length.to_le_bytes());
            frame.extend(&stream.symbols);
        }
        frame.extend(&self.trailing);
        seal(&mut frame);
        frame
    }
}

/// The frame of a gradient of zeros.
fn zeros() -> &'static [u8] {
    static FRAME: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut frame = Vec::new();
        let mut encoder = Encoder::new(&spec(CODEC), &layout(), SEED);
        encoder.encode(id(0), 1, 0..ELEMENTS, &[0.0; ELEMENTS], &mut frame);
        frame
    });
    &FRAME
}

fn layout() -> Layout {
    Layout::new(LENGTHS)
}

/// The checksum as `FORMAT.md` defines it.
fn seal(frame: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..28]), &frame[32..]);
    frame[28..32].copy_from_slice(&checksum.to_le_bytes());
}

/// More than a decoder may ask for, whatever the bytes are: some bytes an element, a table of the entropy
/// coder, 255 streams.
const BYTES_MAX: usize = 16 * ELEMENTS + 60_000;

/// The values of a frame, or why there are none. Nothing is then changed; and in either case little is
/// allocated.
fn decode(frame: &[u8]) -> Result<Vec<f32>, String> {
    let mut decoder = Decoder::new(&spec(CODEC), &layout(), SEED);
    let before = gaussian(1, ELEMENTS);
    let mut target = before.clone();
    let mut done = Ok(());
    let allocated = allocated(|| {
        done = decoder.accumulate(frame, id(0), 0..ELEMENTS, 1.0, &mut target);
    });
    assert!(allocated.bytes < BYTES_MAX, "{allocated:?}");
    if let Err(error) = done {
        assert_eq!(target, before, "{error}");
        return Err(error.to_string());
    }
    assert!(target.iter().all(|x| x.is_finite()));
    let values = target.iter().zip(before);
    Ok(values.map(|(after, before)| after - before).collect())
}

#[test]
fn streams_may_come_in_any_order_and_tensors_in_several_runs() {
    let expected = decode(&Streams::good().frame()).expect("it is a frame");
    // Symbol 1 of 7 is -2, of 3 it is 0; to rounding, since something was there before.
    let is = |x: f32, value: f32| (x - value).abs() < 1e-5;
    assert!(expected[..100].iter().all(|x| is(*x, -2.0)));
    assert!(expected[100..107].iter().all(|x| is(*x, 0.0)));
    let swapped = Streams::with(|s| {
        s.streams.swap(0, 1);
        s.places.iter_mut().for_each(|(stream, _)| *stream ^= 1);
    });
    assert_eq!(decode(&swapped.frame()), Ok(expected));
}

#[test]
fn streams_that_lie_are_refused() {
    let all_in_one = |s: &mut Streams| {
        s.places = vec![(0, vec![4])];
        s.streams[0].symbols = vec![0; 172];
    };
    let cases: Vec<(&str, Streams)> = vec![
        ("no stream", Streams::with(|s| s.count = 0)),
        (
            "a tensor in no stream",
            Streams::with(|s| s.places[1].0 = 2),
        ),
        (
            "a tensor in no stream",
            Streams::with(|s| s.places[3].0 = 255),
        ),
        (
            "a tensor in no stream",
            Streams::with(|s| s.places[0].1 = vec![0]),
        ),
        // 2^64 and more, in ten bytes and in more.
        (
            "a tensor in no stream",
            Streams::with(|s| s.places[0].1 = [vec![0x80; 9], vec![2]].concat()),
        ),
        (
            "a tensor in no stream",
            Streams::with(|s| s.places[0].1 = vec![0xff; 12]),
        ),
        (
            "more tensors in streams than there are",
            Streams::with(|s| s.places[3].1 = vec![2]),
        ),
        (
            "more tensors in streams than there are",
            Streams::with(|s| s.places[0].1 = [vec![0xff; 9], vec![1]].concat()),
        ),
        ("a stream of no tensor", Streams::with(all_in_one)),
        ("a stream of no tensor", Streams::with(|s| s.count = 3)),
        ("a stream of no tensor", Streams::with(|s| s.count = 255)),
        (
            "body ends before",
            Streams::with(|s| {
                s.places.clear();
                s.streams.clear();
            }),
        ),
        // A number of tensors that is cut off.
        (
            "a tensor in no stream",
            Streams::with(|s| {
                s.places = vec![(0, vec![0x81])];
                s.streams.clear();
            }),
        ),
        (
            "no beginning of a stream",
            Streams::with(|s| s.streams.truncate(1)),
        ),
        (
            "no beginning of a stream",
            Streams::with(|s| s.streams[1].reserved = [0, 1]),
        ),
        (
            "levels that there cannot be",
            Streams::with(|s| s.streams[0].levels = 0),
        ),
        (
            "levels that there cannot be",
            Streams::with(|s| s.streams[1].levels = 128),
        ),
        (
            "levels that there cannot be",
            Streams::with(|s| s.streams[1].levels = 255),
        ),
        // One stream says its levels elsewhere.
        (
            "levels that there cannot be",
            Streams::with(|s| s.count = 1),
        ),
        ("number of levels", Streams::with(|s| s.levels = 3)),
        ("lossless code", Streams::with(|s| s.coding = 1)),
        (
            "unknown lossless code",
            Streams::with(|s| s.streams[0].coding = 3),
        ),
        ("do not decode", Streams::with(|s| s.streams[1].coding = 1)),
        ("do not decode", Streams::with(|s| s.streams[1].coding = 2)),
        // Words of the entropy coder without end, for which no memory is taken.
        (
            "more words",
            Streams::with(|s| {
                s.streams[0].coding = 1;
                // Six symbols are never, one always: the probabilities. No escape.
                s.streams[0].symbols = vec![0, 0, 2, 128, 127, 0, 2, 0];
                s.streams[0].symbols.extend([0, 128, 0, 0].repeat(4));
                s.streams[0].symbols.resize(200_000, 0);
            }),
        ),
        (
            "body ends before",
            Streams::with(|s| s.streams[1].length = Some(16)),
        ),
        (
            "body ends before",
            Streams::with(|s| s.streams[0].length = Some(u32::MAX)),
        ),
        (
            "truncated",
            Streams::with(|s| s.streams[1].length = Some(0)),
        ),
        (
            "truncated",
            Streams::with(|s| s.streams[1].length = Some(14)),
        ),
        (
            "1 bytes follow",
            Streams::with(|s| s.streams[0].length = Some(151)),
        ),
        ("1 bytes follow", Streams::with(|s| s.trailing = vec![0])),
        // Fewer bits a symbol than the levels need, and a symbol that they do not have.
        ("truncated", Streams::with(|s| s.streams[1].levels = 2)),
        (
            "beyond the alphabet",
            Streams::with(|s| s.streams[0].symbols[0] = 0xff),
        ),
    ];
    for (i, (expected, streams)) in cases.into_iter().enumerate() {
        let error = decode(&streams.frame()).expect_err(expected);
        assert!(
            error.contains(expected),
            "case {i}: {error}, not {expected}"
        );
    }
}

/// A bucket without elements has no tensors to be in streams.
#[test]
fn an_empty_bucket_has_one_stream() {
    let layout = Layout::new([0]);
    let spec = spec(CODEC);
    let mut frame = Vec::new();
    Encoder::new(&spec, &layout, SEED).encode(id(0), 1, 0..0, &[], &mut frame);
    let mut decoder = Decoder::new(&spec, &layout, SEED);
    let done = decoder.accumulate(&frame, id(0), 0..0, 1.0, &mut []);
    assert_eq!(done, Ok(()));
    (frame[37], frame[38]) = (2, 0);
    frame.extend([1, 0, 0, 0, 0, 0, 0, 0].repeat(2));
    seal(&mut frame);
    let error = decoder.accumulate(&frame, id(0), 0..0, 1.0, &mut []);
    assert!(error.is_err_and(|error| error.to_string().contains("a stream of no tensor")));
}

/// Anything that has the shape of streams.
fn streams() -> impl Strategy<Value = Streams> {
    let leb = prop_oneof![
        8 => (0_u8..6).prop_map(|n| vec![n]),
        1 => proptest::collection::vec(any::<u8>(), 0..12),
    ];
    let bytes = proptest::collection::vec(any::<u8>(), 0..200);
    let symbols = prop_oneof![
        4 => prop::sample::select(vec![150, 15, 38, 57, 100, 400]).prop_map(|n| vec![0x49; n]),
        1 => bytes,
    ];
    let reserved = prop_oneof![15 => Just([0; 2]), 1 => any::<[u8; 2]>()];
    let length = prop_oneof![7 => Just(None), 1 => (0_u32..500).prop_map(Some), 1 => any::<u32>().prop_map(Some)];
    let levels = prop_oneof![6 => 1_u8..5, 1 => any::<u8>()];
    let stream = (levels, 0_u8..4, reserved, length, symbols);
    let stream = stream.prop_map(|(levels, coding, reserved, length, symbols)| Stream {
        levels,
        coding,
        reserved,
        length,
        symbols,
    });
    let count = prop_oneof![8 => 1_u8..5, 1 => any::<u8>()];
    let settings = prop_oneof![8 => Just((0, 0)), 1 => (0_u8..3, any::<u8>())];
    let places = proptest::collection::vec((0_u8..4, leb), 0..6);
    let streams = proptest::collection::vec(stream, 0..5);
    let trailing = prop_oneof![8 => Just(Vec::new()), 1 => Just(vec![0])];
    (count, settings, places, streams, trailing).prop_map(
        |(count, (coding, levels), places, streams, trailing)| Streams {
            count,
            coding,
            levels,
            places,
            streams,
            trailing,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the streams say: a value or an error, nothing in between.
    #[test]
    fn streams_decode_or_are_refused(streams in streams()) {
        let _either = decode(&streams.frame());
    }

    /// The same near good ones: bytes are changed, cut off or added.
    #[test]
    fn nearly_good_streams_decode_or_are_refused(
        edits in proptest::collection::vec((36_u16..300, any::<u8>()), 0..5),
        length in prop::option::of(36_usize..300),
    ) {
        let mut frame = Streams::good().frame();
        if let Some(length) = length {
            frame.resize(length, 0x81);
        }
        for (at, value) in edits {
            if let Some(byte) = frame.get_mut(usize::from(at)) {
                *byte = value;
            }
        }
        seal(&mut frame);
        let _either = decode(&frame);
    }
}
