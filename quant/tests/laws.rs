//! What holds for every codec: with whatever values, on every path, for any number of threads.

mod gradients;

use std::ops::Range;

use ecq_quant::{Aggregator, CodecSpec, Decoder, Encoder, FrameId, Layout, Simd};
use gradients::{SEED, decode, encode, gaussian, spec};
use proptest::prelude::*;

/// Every codec with its defaults, and settings that take other ways through the code.
const OTHERS: [&str; 14] = [
    "qsgd:levels=1,norm=l2,bucket=7",
    "qsgd:levels=127,bucket=tensor,coding=rans",
    "ecq:preset=paper,coding=golomb",
    "ecq:preset=one-level,coding=pack",
    "ecq:bits=2,bucket=16",
    "deadzone:step=0.2,levels=1,bucket=16",
    "deadzone:step=3,escape=off",
    "deadzone:bits=1.5,alpha=0.5,beta=0.9",
    "log:base=sqrt2,bucket=9",
    "topk:fraction=0.3,values=fp16,momentum=0.9",
    "topk:fraction=0.1,values=two-bit,bucket=16",
    "threshold:at=1,values=sign",
    "randomk:fraction=0.5,values=fp16,alpha=0.7",
    "powersgd:rank=1,alpha=0.9",
];

fn codecs() -> Vec<&'static str> {
    CodecSpec::names().chain(OTHERS).collect()
}

/// A model of two matrices, a vector and a tensor of nothing.
fn layout() -> Layout {
    Layout::of_shapes([vec![8, 12], vec![0], vec![13], vec![5, 30]])
}

const ELEMENTS: usize = 96 + 13 + 150;

fn id(step: u64, bucket: u32) -> FrameId {
    FrameId {
        step,
        rank: 2,
        bucket,
    }
}

/// Frames of some steps in buckets of `size`, their sum, and the residual.
fn run(
    codec: &str,
    simd: Simd,
    size: usize,
    steps: &[Vec<f32>],
) -> (Vec<Vec<u8>>, Vec<u32>, Vec<u32>) {
    let layout = layout();
    let mut encoder = Encoder::new(&spec(codec), &layout, SEED).with_simd(simd);
    let mut decoder = Decoder::new(&spec(codec), &layout, SEED).with_simd(simd);
    let (mut frames, mut sum) = (Vec::new(), vec![0.0; ELEMENTS]);
    for (step, gradient) in (0..).zip(steps) {
        for (bucket, range) in (0..).zip(layout.buckets(size)) {
            let mut frame = vec![0xee; 3];
            let part = &gradient[range.clone()];
            let stats = encoder.encode(id(step, bucket), 1, range.clone(), part, &mut frame);
            assert!(
                stats.omega().is_finite() && stats.residual_ratio().is_finite(),
                "{codec}: {stats:?}"
            );
            assert!(
                frame.len() <= decoder.frame_bytes_max(range.clone()),
                "{codec}"
            );
            decoder
                .accumulate(
                    &frame,
                    id(step, bucket),
                    range.clone(),
                    0.5,
                    &mut sum[range],
                )
                .unwrap_or_else(|error| panic!("{codec}: {error}"));
            frames.push(frame);
        }
    }
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect();
    (frames, bits(&sum), bits(encoder.residual()))
}

/// Ordinary values and all others: zeros, subnormal numbers, huge ones, NaN and infinity.
fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        8 => -2.0_f32..2.0,
        1 => any::<f32>(),
        1 => prop::sample::select(vec![0.0, -0.0, 1e-40, 3e38, -3e38, f32::MIN_POSITIVE, 1.7e38]),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Vec<f32>>> {
    let rare = prop::sample::select(vec![
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        1.0,
        1.0,
        1.0,
    ]);
    let gradient = (
        proptest::collection::vec(value(), ELEMENTS),
        rare,
        0..ELEMENTS,
    );
    let gradient = gradient.prop_map(|(mut values, rare, at)| {
        values[at] = rare;
        values
    });
    proptest::collection::vec(gradient, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// All paths give the same frames, sums and residuals; nothing that is not finite comes out.
    #[test]
    fn every_path_does_the_same_with_any_values(steps in steps(), size in 40..ELEMENTS + 1) {
        for codec in codecs() {
            let expected = run(codec, Simd::PORTABLE, size, &steps);
            prop_assert!(expected.1.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{}", codec);
            prop_assert!(expected.2.iter().all(|bits| f32::from_bits(*bits).is_finite()), "{}", codec);
            for simd in Simd::available() {
                prop_assert!(run(codec, *simd, size, &steps) == expected, "{} on {}", codec, simd);
            }
        }
    }

    /// h ← (β − α)h + (v − q) with v = g + αh and the q that the frame says, for every codec with error
    /// feedback. To rounding: some add and subtract in another order.
    #[test]
    fn the_residual_is_what_the_frame_leaves(seed in 0u64..1000) {
        let layout = layout();
        for codec in codecs() {
            if spec(codec).gains().is_none() || codec.contains("momentum=0.9") {
                continue;
            }
            // So few elements may look unstable, and the guard would change α.
            let separator = if codec.contains(':') { ',' } else { ':' };
            let spec = spec(&format!("{codec}{separator}guard=off"));
            let gains = spec.gains().expect("it has feedback");
            let mut encoder = Encoder::new(&spec, &layout, SEED);
            for step in 0..3 {
                let gradient = gaussian(seed * 10 + step, ELEMENTS);
                let before = encoder.residual().to_vec();
                let mut frame = Vec::new();
                let stats = encoder.encode(id(step, 0), 1, 0..ELEMENTS, &gradient, &mut frame);
                let mut sent = vec![0.0; ELEMENTS];
                let mut decoder = Decoder::new(&spec, &layout, SEED);
                decoder.accumulate(&frame, id(step, 0), 0..ELEMENTS, 1.0, &mut sent).expect("it decodes");
                let mut error = 0.0;
                for i in 0..ELEMENTS {
                    let v = gradient[i] + gains.alpha * before[i];
                    let expected = (gains.beta - gains.alpha) * before[i] + (v - sent[i]);
                    let found = encoder.residual()[i];
                    prop_assert!((expected - found).abs() < 1e-4, "{}: {} {}", codec, expected, found);
                    error += f64::from(v - sent[i]).powi(2);
                }
                prop_assert!((stats.error_squared - error).abs() <= 1e-3 * error + 1e-6, "{}", codec);
            }
        }
    }
}

/// A gradient with a mean as large as its noise, as biases and late layers have: what a codec keeps back
/// must end somewhere.
/// Streams that are long enough for all of the coder's states, and in which nearly all is the same: what
/// is rare is not lost, on any path.
#[test]
fn what_is_rare_in_a_long_stream_is_not_lost() {
    const COUNT: usize = 100_000;
    let rare = |i: usize| (0..4).any(|k| i == 448 * 20 * (k + 1) + 6 * 64 + 5 + k);
    let gradients: [Vec<f32>; 3] = [
        (0..COUNT)
            .map(|i| if rare(i) { 1.0 } else { -1.0 })
            .collect(),
        (0..COUNT)
            .map(|i| if rare(i) { 1.0 } else { 0.0 })
            .collect(),
        gaussian(5, COUNT).iter().map(|x| x.powi(9)).collect(),
    ];
    let layout = Layout::new([COUNT]);
    let more = ["threshold:coding=rans", "topk:fraction=0.00003,coding=rans"];
    for codec in codecs()
        .into_iter()
        .chain(more)
        .filter(|codec| !codec.contains("bits"))
    {
        for gradient in &gradients {
            let run = |simd: Simd| {
                let mut encoder = Encoder::new(&spec(codec), &layout, SEED).with_simd(simd);
                let (mut frame, mut sum) = (Vec::new(), vec![0.0; COUNT]);
                encoder.encode(id(0, 0), 1, 0..COUNT, gradient, &mut frame);
                let mut decoder = Decoder::new(&spec(codec), &layout, SEED).with_simd(simd);
                let done = decoder.accumulate(&frame, id(0, 0), 0..COUNT, 1.0, &mut sum);
                assert_eq!(done, Ok(()), "{codec} on {simd}");
                (frame, sum, encoder.residual().to_vec())
            };
            let (frame, sum, residual) = run(Simd::PORTABLE);
            for simd in Simd::available() {
                assert!(run(*simd).0 == frame, "{codec} on {simd}");
            }
            let largest = gradient.iter().fold(0.0_f32, |most, g| most.max(g.abs()));
            for ((g, q), h) in gradient.iter().zip(&sum).zip(&residual) {
                assert!((g - q - h).abs() <= 1e-5 * largest, "{codec}: {g} {q} {h}");
            }
        }
    }
}

/// Values on the border between the highest level and the escape: each escape has its number.
#[test]
fn dead_zones_escape_as_often_as_they_say() {
    for (step, levels) in [(1.0_f64, 3.0_f64), (0.7, 3.0), (0.3, 5.0), (2.0, 1.0)] {
        let codec = format!("deadzone:step={step},levels={levels},bucket=64");
        // The largest of 64 with so much of the energy that it is (levels + ½) steps.
        let border = (levels + 0.5).powi(2) * step.powi(2) / 64.0;
        let share = (border / (1.0 - border)).sqrt();
        let mut gradient = Vec::new();
        for group in 0..500_u64 {
            let mut values = gaussian(group, 64);
            let rest = values[1..]
                .iter()
                .map(|v| f64::from(*v).powi(2))
                .sum::<f64>();
            let largest = (share * rest.sqrt()) as f32;
            let ulps = group as u32 % 9;
            values[0] = f32::from_bits((largest.to_bits() + ulps).saturating_sub(4));
            gradient.extend(values);
        }
        let frame = encode(
            &mut Encoder::new(&spec(&codec), &Layout::new([gradient.len()]), SEED),
            0,
            &gradient,
        );
        let found = decode(&spec(&codec), 0, &frame.0, gradient.len());
        let escaped = gradient.chunks(64).zip(found.chunks(64));
        let far = escaped.filter(|(g, q)| (g[0] - q[0]).abs() > g[0].abs());
        assert_eq!(far.count(), 0, "{codec}");
    }
    let tie = [&[3.5_f32][..], &[0.5; 15]].concat();
    assert!(gradients::round_trip("deadzone:step=1", &tie)[0] > 3.0);
}

#[test]
fn residuals_stay_bounded_where_gradients_have_a_mean() {
    let layout = Layout::of_shapes([vec![16, 16]]);
    let others = [
        "deadzone:step=3.3",
        "topk:fraction=0.1",
        "randomk:fraction=0.1",
    ];
    let slow = |codec: &&str| !["topk", "randomk"].contains(codec);
    for codec in CodecSpec::names().filter(slow).chain(others) {
        let spec = spec(codec);
        if spec.gains().is_none() {
            continue;
        }
        let mut encoder = Encoder::new(&spec, &layout, SEED);
        let ratios: Vec<f64> = (0..600)
            .map(|step| {
                let gradient: Vec<f32> = gaussian(step, 256).iter().map(|x| x + 1.0).collect();
                let stats = encoder.encode(id(step, 0), 1, 0..256, &gradient, &mut Vec::new());
                stats.residual_norm_squared / stats.gradient_norm_squared
            })
            .collect();
        let mean =
            |range: Range<usize>| ratios[range.clone()].iter().sum::<f64>() / range.len() as f64;
        let (middle, end) = (mean(200..300), mean(500..600));
        assert!(end < 1.5 * middle + 0.1, "{codec}: {middle} grows to {end}");
    }
}

/// Frames and residual do not depend on the number of threads, nor on who makes them one by one.
#[test]
fn any_number_of_threads_does_the_same() {
    let layout = layout();
    let buckets = layout.buckets(40);
    for codec in codecs() {
        let (expected, ..) = run(
            codec,
            Simd::best(),
            40,
            &[gaussian(3, ELEMENTS), gaussian(4, ELEMENTS)],
        );
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .expect("a pool");
            pool.install(|| {
                let mut encoder = Encoder::new(&spec(codec), &layout, SEED);
                let mut frames = Vec::new();
                for step in 0..2 {
                    let gradient = gaussian(3 + step, ELEMENTS);
                    let mut here = Vec::new();
                    let stats = encoder.encode_all(step, 2, 1, &buckets, &gradient, &mut here);
                    assert_eq!(stats.elements, ELEMENTS as u64);
                    frames.extend(here);
                }
                assert!(frames == expected, "{codec} on {threads} threads");
                let last = frames.split_off(buckets.len());
                let given: Vec<_> = (0..)
                    .zip(&last)
                    .map(|(b, f)| vec![(id(1, b), &f[..])])
                    .collect();
                let mut sum = vec![f32::NAN; ELEMENTS];
                let aggregator = Aggregator::new(Decoder::new(&spec(codec), &layout, SEED));
                aggregator
                    .aggregate_all(&buckets, &given, &mut sum)
                    .expect("they decode");
                let mut decoder = Decoder::new(&spec(codec), &layout, SEED);
                for ((bucket, range), frame) in (0..).zip(&buckets).zip(&last) {
                    let mut alone = vec![0.0; range.len()];
                    decoder
                        .accumulate(frame, id(1, bucket), range.clone(), 1.0, &mut alone)
                        .expect("it decodes");
                    assert_eq!(alone, sum[range.clone()], "{codec}");
                }
            });
        }
    }
}

/// T5: what stood in a decoder's memory, from frames of other content, has no influence.
#[test]
fn a_used_decoder_reads_like_a_new_one() {
    for codec in codecs() {
        let spec = spec(codec);
        let mut encoder = Encoder::new(&spec, &Layout::new([700]), SEED);
        let mut used = Decoder::new(&spec, &Layout::new([700]), SEED);
        for step in 0..4 {
            let sparse = |v: &f32| if step % 2 == 0 { *v } else { v.max(2.5) - 2.5 };
            let gradient: Vec<f32> = gaussian(step, 700).iter().map(sparse).collect();
            let (frame, _) = encode(&mut encoder, step, &gradient);
            let mut found = vec![0.0; 700];
            used.accumulate(&frame, gradients::id(step), 0..700, 1.0, &mut found)
                .expect("it decodes");
            assert_eq!(found, decode(&spec, step, &frame, 700), "{codec}");
        }
    }
}

/// How far a value can be from what is sent for it, for values of magnitude 1 at most in one group with
/// largest magnitude 1.
#[test]
fn errors_are_within_each_codecs_bound() {
    let values: Vec<f32> = gaussian(8, 512)
        .iter()
        .map(|v| (v / 3.0).clamp(-1.0, 1.0))
        .collect();
    let mut values = values;
    values[0] = 1.0;
    for (codec, bound) in [
        ("fp32", 0.0),
        ("fp16", 0.5_f32.powi(12)),
        ("bf16", 0.5_f32.powi(9)),
        ("fp8", 0.5_f32.powi(4)),
        ("fp8:format=e5m2", 0.5_f32.powi(3)),
        ("int8", 0.5 / 127.0),
        ("qsgd", 0.25),
        ("qsgd:levels=9", 1.0 / 9.0),
        ("dither", 0.125),
        ("dither:levels=9", 0.5 / 9.0),
        ("nuqsgd:norm=linf", 0.5),
        ("natural", 0.5),
        ("log:base=2", 0.3),
        ("log:base=sqrt2,levels=15", 0.16),
        ("minifloat", 1.0 / 6.0),
        ("minifloat:rounding=stochastic", 2.0 / 6.0),
        ("terngrad:clip=off", 1.0),
        ("topk:fraction=1", 0.0),
        ("randomk:fraction=1", 0.0),
        ("threshold:at=0", 0.0),
    ] {
        let found = gradients::round_trip(codec, &values);
        let worst = values
            .iter()
            .zip(&found)
            .map(|(v, q)| (v - q).abs())
            .fold(0.0, f32::max);
        assert!(worst <= bound * 1.0001, "{codec}: {worst} beyond {bound}");
        assert!(
            worst >= bound * 0.3,
            "{codec}: {worst} is far from the bound {bound}"
        );
    }
}

/// Unbiased codecs: the mean over many steps is the value, to four standard deviations of it.
#[test]
fn what_is_called_unbiased_is() {
    let values: Vec<f32> = (-20..=20).map(|i| i as f32 / 20.0).collect();
    const DRAWS: u64 = 3000;
    for codec in [
        "qsgd:levels=1",
        "qsgd:levels=3,norm=l2",
        "qsgd:bits=2",
        "terngrad:clip=off",
        "dither",
        "dither:levels=1",
        "nuqsgd",
        "nuqsgd:norm=linf,levels=3",
        "alq",
        "natural",
        "minifloat:rounding=stochastic,alpha=0",
    ] {
        let spec = spec(codec);
        let mut encoder = Encoder::new(&spec, &Layout::new([values.len()]), SEED);
        let (mut sums, mut squares) = (vec![0.0; values.len()], vec![0.0; values.len()]);
        for draw in 0..DRAWS {
            let (frame, _) = encode(&mut encoder, draw, &values);
            for (i, q) in decode(&spec, draw, &frame, values.len()).iter().enumerate() {
                sums[i] += f64::from(*q);
                squares[i] += f64::from(*q).powi(2);
            }
        }
        let mut varies = false;
        for (i, value) in values.iter().enumerate() {
            let mean = sums[i] / DRAWS as f64;
            let variance = (squares[i] / DRAWS as f64 - mean * mean).max(0.0);
            let sigma = (variance / DRAWS as f64).sqrt();
            varies |= variance > 1e-6;
            // A level so near that the other was never drawn shows no deviation.
            let off = (mean - f64::from(*value)).abs();
            assert!(
                off <= 4.5 * sigma + 1e-3,
                "{codec}: {value} became {mean} ± {sigma}"
            );
        }
        assert!(varies, "{codec} rounds nothing");
    }
}

/// T2 for nearest rounding: symmetric around 0.
#[test]
fn nearest_rounding_is_symmetric() {
    let values = gaussian(5, 600);
    let negative: Vec<f32> = values.iter().map(|v| -v).collect();
    for codec in [
        "int8",
        "deadzone",
        "fp8",
        "log",
        "minifloat",
        "topk:values=two-bit",
        "fp16",
        "bf16",
    ] {
        let (plus, minus) = (
            gradients::round_trip(codec, &values),
            gradients::round_trip(codec, &negative),
        );
        assert!(plus.iter().zip(&minus).all(|(p, m)| *p == -*m), "{codec}");
    }
}

/// T8: another cut into buckets or groups keeps all of the residual.
#[test]
fn rebucketing_loses_nothing() {
    let layout = Layout::new([1000]);
    let cut = |size: usize| layout.buckets(size);
    let step = |encoder: &mut Encoder, step: u64, buckets: &[Range<usize>], sent: &mut [f64]| {
        let gradient = gaussian(step, 1000);
        let mut frames = Vec::new();
        encoder.encode_all(step, 2, 1, buckets, &gradient, &mut frames);
        let codec = if step < 5 {
            "ecq:bucket=64"
        } else {
            "ecq:bucket=512"
        };
        let mut decoder = Decoder::new(&spec(codec), &layout, SEED);
        for ((bucket, range), frame) in (0..).zip(buckets).zip(&frames) {
            let mut values = vec![0.0; range.len()];
            decoder
                .accumulate(frame, id(step, bucket), range.clone(), 1.0, &mut values)
                .expect("it decodes");
            sent[range.clone()]
                .iter_mut()
                .zip(values)
                .for_each(|(sum, q)| *sum += f64::from(q));
        }
    };
    let mut sent = vec![0.0; 1000];
    let mut before = Encoder::new(&spec("ecq:bucket=64"), &layout, SEED);
    (0..5).for_each(|t| step(&mut before, t, &cut(300), &mut sent));
    let mut after = Encoder::new(&spec("ecq:bucket=512"), &layout, SEED)
        .with_residual(before.residual().to_vec());
    (5..10).for_each(|t| step(&mut after, t, &cut(1000), &mut sent));
    for (i, sent) in sent.iter().enumerate() {
        let computed: f64 = (0..10).map(|t| f64::from(gaussian(t, 1000)[i])).sum();
        let residual = f64::from(after.residual()[i]);
        assert!((computed - sent - residual).abs() < 1e-4, "{i}");
    }
}

/// Deep gradient compression's momentum correction: what is sent over time is what momentum would have
/// moved, each velocity masked once it was sent.
#[test]
fn momentum_is_corrected_for() {
    let spec = spec("topk:fraction=0.25,momentum=0.5");
    let layout = Layout::new([4]);
    let mut encoder = Encoder::new(&spec, &layout, SEED);
    let gradients = [
        [8.0, 1.0, 0.5, 0.25],
        [0.0, 1.0, 0.5, 0.25],
        [0.0, 0.0, 0.0, 0.0],
    ];
    // v accumulates u, u ← 0.5 u + g: 8 goes at once; then 1 + 1.5; then 0.5 + 0.75 + 0.375.
    let expected = [
        [8.0, 0.0, 0.0, 0.0],
        [0.0, 2.5, 0.0, 0.0],
        [0.0, 0.0, 1.625, 0.0],
    ];
    for ((step, gradient), expected) in (0..).zip(gradients).zip(expected) {
        let (frame, _) = encode(&mut encoder, step, &gradient);
        assert_eq!(decode(&spec, step, &frame, 4), expected, "step {step}");
    }
}
