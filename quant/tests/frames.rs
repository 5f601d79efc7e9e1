//! Frames: their sizes to the byte, their sums in any order of arrival, and bytes that are no frame.

mod gradients;

use ecq_quant::{CodecSpec, DecodeError, Decoder, Encoder, FrameId, Layout, aggregate};
use gradients::{SEED, encode, gaussian, id, spec};
use proptest::prelude::*;

const HEADER: usize = 32;
const SETTINGS: usize = 8;

fn frame_of(text: &str, gradient: &[f32]) -> Vec<u8> {
    let mut encoder = Encoder::new(&spec(text), &Layout::new([gradient.len()]), SEED);
    encode(&mut encoder, 0, gradient).0
}

/// T4: a bit is a bit. The ECQ-SGD paper's 32 + d·r bits, here for each group.
#[test]
fn sizes_are_those_of_the_formula() {
    for count in [0, 1, 7, 512, 513, 2000] {
        let gradient = gaussian(1, count);
        assert_eq!(frame_of("fp32", &gradient).len(), HEADER + 4 * count);
        assert_eq!(frame_of("fp16", &gradient).len(), HEADER + 2 * count);
        for levels in [1_usize, 2, 3, 4, 7, 8, 15, 16, 63, 64, 127] {
            let r = ((2 * levels + 1) as f64).log2().ceil() as usize;
            let text = format!("ecq:levels={levels},bucket=512,coding=pack");
            let groups = count.div_ceil(512);
            let expected = HEADER + SETTINGS + 4 * groups + (count * r).div_ceil(8);
            assert_eq!(
                frame_of(&text, &gradient).len(),
                expected,
                "{text}, {count}"
            );
        }
    }
}

#[test]
fn auto_is_never_larger_than_either_and_rans_is_near_the_entropy() {
    let gradient = gaussian(2, 1 << 18);
    let size = |coding: &str| frame_of(&format!("ecq:coding={coding}"), &gradient).len();
    assert_eq!(size("auto"), size("rans").min(size("pack")));
    // 2.44 bits of entropy and 0.0625 of scale, as measured for Gaussian gradients.
    let bits = size("rans") as f64 * 8.0 / gradient.len() as f64;
    assert!((2.4..2.53).contains(&bits), "{bits}");
    let few = gaussian(3, 10);
    assert!(frame_of("ecq:coding=auto", &few).len() <= frame_of("ecq:coding=pack", &few).len());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_frame_exceeds_its_bound(
        bits in proptest::collection::vec(any::<u32>(), 0..700),
        levels in 1u8..=127,
        codec in 0usize..4,
    ) {
        let gradient: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        let text = ["fp32".into(), "fp16".into(), format!("qsgd:levels={levels},bucket=3"),
            format!("ecq:levels={levels},coding=rans")][codec].clone();
        let decoder = Decoder::new(&spec(&text), &Layout::new([gradient.len()]), SEED);
        let bound = decoder.frame_bytes_max(0..gradient.len());
        prop_assert!(frame_of(&text, &gradient).len() <= bound);
    }

    /// Fuzzing in small: bytes are changed, cut or added, with the checksum made again so that what
    /// lies behind it is reached. Nothing panics, nothing that is not finite comes out, and a frame
    /// that is refused has changed nothing.
    #[test]
    fn no_bytes_do_harm(
        codec in prop::sample::select(vec!["fp32", "fp16", "qsgd:coding=pack", "ecq:coding=rans"]),
        edits in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..6),
        length in prop::option::of(0usize..700),
        reseal: bool,
    ) {
        let gradient = gaussian(5, 600);
        let mut frame = frame_of(codec, &gradient);
        if let Some(length) = length {
            frame.resize(length, 0xa5);
        }
        for (at, value) in edits {
            let length = frame.len();
            if let Some(byte) = frame.get_mut(usize::from(at) % length.max(1)) {
                *byte = value;
            }
        }
        if reseal && frame.len() >= HEADER {
            reseal_frame(&mut frame);
        }
        let before = gaussian(6, 600);
        let mut target = before.clone();
        let mut decoder = Decoder::new(&spec(codec), &Layout::new([600]), SEED);
        match decoder.accumulate(&frame, id(0), 0..600, 0.5, &mut target) {
            Ok(()) => prop_assert!(target.iter().all(|v| !v.is_nan())),
            Err(_) => prop_assert_eq!(target, before),
        }
    }
}

/// The checksum as `FORMAT.md` defines it.
fn reseal_frame(frame: &mut [u8]) {
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..28]), &frame[32..]);
    frame[28..32].copy_from_slice(&checksum.to_le_bytes());
}

#[test]
fn frames_that_are_not_what_was_expected_say_what_they_are() {
    let gradient = gaussian(7, 600);
    let text = "qsgd:coding=pack";
    let good = frame_of(text, &gradient);
    let refuse = |frame: &[u8], spec: CodecSpec, expected: FrameId, count: usize| {
        let mut decoder = Decoder::new(&spec, &Layout::new([count]), SEED);
        let mut target = vec![0.0; count];
        decoder
            .accumulate(frame, expected, 0..count, 1.0, &mut target)
            .expect_err("it must be refused")
            .to_string()
    };
    let edited = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        reseal_frame(&mut frame);
        frame
    };
    let mut flipped = good.clone();
    flipped[100] ^= 1;
    let scale = HEADER + SETTINGS;
    let cases = [
        (good[..20].to_vec(), "ends after 20 bytes"),
        (flipped, "checksum"),
        (edited(0, b'X'), "begins with"),
        (
            edited(2, 9),
            "format version 9, this program reads version 2",
        ),
        (edited(3, 3), "codec is 3, expected 2"),
        (edited(4, 1), "step is 1, expected 0"),
        (edited(12, 1), "rank is 1, expected 0"),
        (edited(16, 1), "bucket is 1, expected 0"),
        (edited(24, 0), "number of elements is 512, expected 600"),
        (
            edited(HEADER, good[HEADER] ^ 1),
            "by another codec or with other settings",
        ),
        (edited(HEADER + 4, 7), "unknown lossless code"),
        (edited(HEADER + 5, 1), "number of streams is 1, expected 0"),
        (edited(HEADER + 6, 1), "number of levels is 1, expected 0"),
        (edited(HEADER + 7, 1), "reserved byte is 1, expected 0"),
        (
            edited(scale + 3, 0xff),
            "a scale that is negative or not finite",
        ),
        (edited(scale + 8, 0xff), "a symbol beyond the alphabet"),
    ];
    for (frame, expected) in cases {
        let error = refuse(&frame, spec(text), id(0), 600);
        assert!(error.contains(expected), "{expected:?} not in {error:?}");
    }
    let error = refuse(&good, spec("qsgd:levels=7"), id(0), 600);
    assert!(error.contains("other settings than this run's"), "{error}");
    let error = refuse(&good, spec(text), FrameId { rank: 3, ..id(0) }, 600);
    assert!(error.contains("rank is 0, expected 3"), "{error}");
    let mut long = good.clone();
    long.push(0);
    reseal_frame(&mut long);
    assert!(refuse(&long, spec(text), id(0), 600).contains("1 bytes follow"));
    let nan = {
        let mut frame = frame_of("fp32", &gradient);
        frame[HEADER..HEADER + 4].copy_from_slice(&f32::NAN.to_le_bytes());
        reseal_frame(&mut frame);
        frame
    };
    assert!(refuse(&nan, spec("fp32"), id(0), 600).contains("not finite"));
}

/// Members' frames of one bucket, in rank order.
fn members(text: &str, layout: &Layout, samples: &[u32]) -> Vec<(FrameId, Vec<u8>)> {
    let range = 0..layout.elements();
    (0_u32..)
        .zip(samples)
        .map(|(rank, samples)| {
            let id = FrameId {
                step: 8,
                rank,
                bucket: 0,
            };
            let gradient = gaussian(u64::from(rank), layout.elements());
            let mut frame = Vec::new();
            Encoder::new(&spec(text), layout, SEED).encode(
                id,
                *samples,
                range.clone(),
                &gradient,
                &mut frame,
            );
            (id, frame)
        })
        .collect()
}

fn mean(decoder: &mut Decoder, frames: &[(FrameId, Vec<u8>)], target: &mut [f32]) {
    let frames: Vec<(FrameId, &[u8])> = frames.iter().map(|(id, f)| (*id, &f[..])).collect();
    aggregate(decoder, &frames, 0..target.len(), target).expect("they are in rank order");
}

/// T5: what stood in the target or in the decoder's memory before has no influence.
/// T6: neither has the order of arrival, since frames are put in rank order first; another order of
/// additions would give other bits, and is refused.
#[test]
fn the_sum_depends_on_the_frames_and_on_nothing_else() {
    for text in ["fp32", "ecq", "ecq:preset=one-level,coding=rans"] {
        let layout = Layout::new([700, 13]);
        let frames = members(text, &layout, &[64, 64, 32, 7]);
        let mut decoder = Decoder::new(&spec(text), &layout, SEED);
        let mut clean = vec![0.0; 713];
        mean(&mut decoder, &frames, &mut clean);
        for shuffle in 0..4 {
            let mut arrived = frames.clone();
            arrived.rotate_left(shuffle);
            arrived.sort_by_key(|(id, _)| id.rank);
            let mut dirty = vec![f32::NAN; 713];
            mean(&mut decoder, &arrived, &mut dirty);
            assert!(
                clean
                    .iter()
                    .zip(&dirty)
                    .all(|(a, b)| a.to_bits() == b.to_bits()),
                "{text}"
            );
        }
        let unsorted = [
            (frames[1].0, &frames[1].1[..]),
            (frames[0].0, &frames[0].1[..]),
        ];
        let error = aggregate(&mut decoder, &unsorted, 0..713, &mut clean).expect_err("unsorted");
        assert!(error.to_string().contains("ranks must ascend"), "{error}");
    }
}

#[test]
fn members_count_by_their_samples() {
    let layout = Layout::new([700]);
    let frames = members("fp32", &layout, &[3, 1]);
    let mut found = vec![0.0; 700];
    mean(
        &mut Decoder::new(&spec("fp32"), &layout, SEED),
        &frames,
        &mut found,
    );
    let (a, b) = (gaussian(0, 700), gaussian(1, 700));
    for i in 0..700 {
        assert!((found[i] - (0.75 * a[i] + 0.25 * b[i])).abs() < 1e-6);
    }
    let nobody = members("fp32", &layout, &[0, 0]);
    let nobody: Vec<(FrameId, &[u8])> = nobody.iter().map(|(id, f)| (*id, &f[..])).collect();
    let mut decoder = Decoder::new(&spec("fp32"), &layout, SEED);
    assert!(aggregate(&mut decoder, &nobody, 0..700, &mut found).is_err());
}

/// A bucket in the middle of a model: groups end with tensors, residuals stay in their places.
#[test]
fn buckets_make_up_the_whole() {
    let layout = Layout::new([100, 300, 50]);
    let spec = spec("ecq:bucket=64,levels=3");
    let gradient = gaussian(4, 450);
    let mut encoder = Encoder::new(&spec, &layout, SEED);
    let mut decoder = Decoder::new(&spec, &layout, SEED);
    let mut sent = vec![0.0; 450];
    for (bucket, range) in (0..).zip(layout.buckets(128)) {
        let id = FrameId {
            step: 0,
            rank: 0,
            bucket,
        };
        let mut frame = Vec::new();
        encoder.encode(id, 1, range.clone(), &gradient[range.clone()], &mut frame);
        decoder
            .accumulate(&frame, id, range.clone(), 1.0, &mut sent[range])
            .expect("it was just encoded");
    }
    for i in 0..450 {
        assert!((gradient[i] - sent[i] - encoder.residual()[i]).abs() < 1e-6);
    }
}

#[test]
fn a_decoder_error_is_a_value_that_can_be_compared() {
    let error = Decoder::samples(&[]).expect_err("there is nothing");
    assert_eq!(
        error,
        DecodeError::Truncated {
            found: 0,
            expected: HEADER
        }
    );
}
