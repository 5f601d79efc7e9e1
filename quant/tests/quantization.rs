//! What comes out of a codec, for ordinary gradients and for all others.

mod gradients;

use ecq_quant::{CodecSpec, Encoder, Layout};
use gradients::{SEED, decode, encode, gaussian, norm_squared, round_trip, spec};
use proptest::prelude::*;

const CODECS: [&str; 8] = [
    "fp32",
    "fp16",
    "qsgd",
    "qsgd:levels=1,norm=l2",
    "qsgd:levels=127,bucket=tensor,coding=rans",
    "ecq",
    "ecq:preset=paper",
    "ecq:preset=one-level,coding=pack",
];

proptest! {
    /// |q − v| ≤ scale/s for each element, and signs are never turned.
    #[test]
    fn an_element_moves_by_at_most_one_level(
        values in proptest::collection::vec(-1e3_f32..1e3, 1..300),
        levels in 1u8..=127,
    ) {
        let found = round_trip(&format!("qsgd:levels={levels},bucket=64"), &values);
        for (group, found) in values.chunks(64).zip(found.chunks(64)) {
            let scale = group.iter().fold(0.0_f32, |a, v| a.max(v.abs()));
            for (v, q) in group.iter().zip(found) {
                let step = scale / f32::from(levels);
                prop_assert!((q - v).abs() <= step * 1.0001, "{} became {}", v, q);
                prop_assert!(q * v >= 0.0);
            }
        }
    }

    #[test]
    fn casts_are_those_of_ieee(values in proptest::collection::vec(any::<f32>(), 0..100)) {
        let finite = |v: &f32| if v.is_finite() { *v } else { 0.0 };
        let expected: Vec<f32> = values.iter().map(finite).collect();
        prop_assert_eq!(&round_trip("fp32", &values), &expected);
        let halved = round_trip("fp16", &values);
        for (v, q) in expected.iter().zip(halved) {
            let saturated = half::f16::from_f32(v.clamp(-65504.0, 65504.0)).to_f32();
            prop_assert_eq!(q, saturated);
        }
    }

    /// T3 and more: whatever bits come in, finite numbers go out.
    #[test]
    fn whatever_goes_in_no_nan_comes_out(
        bits in proptest::collection::vec(any::<u32>(), 1..200),
        codec in 0..CODECS.len(),
    ) {
        let values: Vec<f32> = bits.iter().map(|b| f32::from_bits(*b)).collect();
        let found = round_trip(CODECS[codec], &values);
        prop_assert!(found.iter().all(|q| q.is_finite()));
    }
}

/// T1: scales come from magnitudes, whatever the signs.
#[test]
fn buckets_of_one_sign_one_value_or_one_element() {
    for codec in ["qsgd", "qsgd:levels=1", "ecq", "ecq:levels=7"] {
        for value in [-2.5_f32, 2.5, -1e-3, 1e20] {
            let constant = [value; 700];
            assert_eq!(round_trip(codec, &constant), constant, "{codec}");
            assert_eq!(round_trip(codec, &[value]), [value], "{codec}");
        }
        let negative: Vec<f32> = (1..600).map(|i| -(i as f32)).collect();
        let found = round_trip(codec, &negative);
        assert!(
            found.iter().all(|q| *q <= 0.0) && found[598] == -599.0,
            "{codec}"
        );
    }
}

/// T1 for every codec: whatever is alike in a group is sent, and not kept for ever.
#[test]
fn groups_of_one_value_reach_the_others_whatever_the_codec() {
    for codec in CodecSpec::names() {
        // A selection of one in a hundred takes its time.
        let codec = match codec {
            "topk" | "randomk" => format!("{codec}:fraction=0.25"),
            other => other.to_owned(),
        };
        for length in [1, 4, 600] {
            let spec = spec(&codec);
            let mut encoder = Encoder::new(&spec, &Layout::new([length]), SEED);
            let mut sum = vec![0.0; length];
            const STEPS: u64 = 400;
            for step in 0..STEPS {
                let (frame, _) = encode(&mut encoder, step, &vec![-2.5; length]);
                let found = decode(&spec, step, &frame, length);
                sum.iter_mut().zip(found).for_each(|(sum, q)| *sum += q);
            }
            let mean = sum.iter().sum::<f32>() / length as f32 / STEPS as f32;
            assert!((mean / -2.5 - 1.0).abs() < 0.1, "{codec}, {length}: {mean}");
        }
    }
}

/// T2: rounding is neither truncation nor anything else with a bias.
#[test]
fn the_mean_over_many_roundings_is_the_value() {
    let values: Vec<f32> = (-20..=20).map(|i| i as f32 / 20.0).collect();
    const DRAWS: u64 = 4000;
    for (text, step) in [
        ("qsgd:levels=1", 1.0),
        ("qsgd:levels=3", 1.0 / 3.0),
        ("qsgd", 0.25),
    ] {
        let spec = spec(text);
        let mut encoder = Encoder::new(&spec, &Layout::new([values.len()]), SEED);
        let mut sums = vec![0.0; values.len()];
        for draw in 0..DRAWS {
            let (frame, _) = encode(&mut encoder, draw, &values);
            let found = decode(&spec, draw, &frame, values.len());
            sums.iter_mut()
                .zip(found)
                .for_each(|(sum, q)| *sum += f64::from(q));
        }
        // The deviation of one rounding is at most half a step.
        let sigma = step / 2.0 / (DRAWS as f64).sqrt();
        for (value, sum) in values.iter().zip(sums) {
            let bias = sum / DRAWS as f64 - f64::from(*value);
            assert!(bias.abs() < 4.5 * sigma, "{text}: {value} is off by {bias}");
        }
    }
}

/// T3: zero, subnormal and huge groups, NaN and infinity.
#[test]
fn groups_without_a_usable_scale_are_sent_as_zeros() {
    let good = [3.0, -1.0, 2.0, 0.5];
    let bad: [[f32; 4]; 7] = [
        [0.0; 4],
        [1e-40; 4],
        [-1e-38, 1e-35, 0.0, 0.0],
        [f32::NAN, 1.0, 1.0, 1.0],
        [1.0, f32::INFINITY, 1.0, 1.0],
        [f32::NEG_INFINITY; 4],
        [1.0, 1.0, -1.3e30, 1.0],
    ];
    for bad in bad {
        let values = [good, bad, good].concat();
        let spec = spec("ecq:bucket=4,levels=100");
        let mut encoder = Encoder::new(&spec, &Layout::new([12]), SEED);
        let (frame, stats) = encode(&mut encoder, 0, &values);
        let found = decode(&spec, 0, &frame, 12);
        assert_eq!(found[4..8], [0.0; 4], "{bad:?}");
        assert!((found[0] - 3.0).abs() < 0.1 && (found[8] - 3.0).abs() < 0.1);
        let usable = bad.iter().all(|v| v.abs() <= 2_f32.powi(100));
        assert_eq!(stats.nonfinite_groups, u64::from(!usable));
        // What can be kept is kept, and nothing of a group that cannot be trusted.
        let kept = if usable { bad } else { [0.0; 4] };
        assert_eq!(encoder.residual()[4..8], kept);
        assert!(stats.omega().is_finite());
    }
    let huge = [1e30, -1e30, 2_f32.powi(100), 0.0];
    assert_eq!(
        round_trip("qsgd:levels=1,bucket=4", &huge)[2],
        2_f32.powi(100)
    );
}

/// Casts know elements, not groups: the others of a bucket are sent and measured as ever.
#[test]
fn one_nan_costs_a_cast_one_element() {
    for codec in ["fp32", "fp16", "bf16"] {
        let mut values = gaussian(3, 5000);
        let norm = norm_squared(&values) - f64::from(values[4321]).powi(2);
        values[4321] = f32::NAN;
        let mut encoder = Encoder::new(&spec(codec), &Layout::new([5000]), SEED);
        let (frame, stats) = encode(&mut encoder, 0, &values);
        let found = decode(&spec(codec), 0, &frame, 5000);
        for (i, (q, v)) in found.iter().zip(&values).enumerate() {
            let expected = if i == 4321 { 0.0 } else { *v };
            assert!(
                (q - expected).abs() <= 0.004 * expected.abs() + 1e-7,
                "{codec} {i}"
            );
        }
        assert_eq!(stats.nonfinite_groups, 1, "{codec}");
        let ratio = stats.gradient_norm_squared / norm;
        assert!((ratio - 1.0).abs() < 1e-5, "{codec}: {ratio}");
    }
}

/// Every codec with groups says when it sends one as zeros, and takes it up again with the next gradient:
/// neither a single value nor a residual that has grown silences a group for longer.
#[test]
fn a_value_too_large_is_counted_by_every_codec_and_costs_one_step() {
    let casts = ["fp32", "fp16", "bf16"];
    let others = ["ecq:bits=3", "deadzone:bits=2", "topk:values=sign"];
    let names = CodecSpec::names().filter(|name| !casts.contains(name));
    for codec in names.chain(others) {
        let spec = spec(codec);
        let layout = Layout::of_shapes([[16, 32]]);
        let mut encoder = Encoder::new(&spec, &layout, SEED);
        let mut outlier = gaussian(1, 512);
        outlier[100] = 1.3e30;
        let gradients = [
            (outlier, 1),
            (gaussian(2, 512), 0),
            (vec![1e30; 512], 0),
            (vec![-1.2e30; 512], u64::MAX), // Too much or not, as the residual is.
            (vec![1.2e30; 512], u64::MAX),
            (gaussian(3, 512), 0),
        ];
        for (step, (gradient, expected)) in (0..).zip(gradients) {
            let (frame, stats) = encode(&mut encoder, step, &gradient);
            let found = stats.nonfinite_groups;
            assert!(
                expected == u64::MAX || found == expected,
                "{codec}, step {step}: {found}"
            );
            let mut sent = vec![0.0; 512];
            ecq_quant::Decoder::new(&spec, &layout, SEED)
                .accumulate(&frame, gradients::id(step), 0..512, 1.0, &mut sent)
                .unwrap_or_else(|error| panic!("{codec}, step {step}: {error}"));
            assert_eq!(
                found == 0,
                sent.iter().any(|q| *q != 0.0),
                "{codec}, step {step}"
            );
            assert!(encoder.residual().iter().all(|h| h.abs() <= 2_f32.powi(99)));
        }
    }
}

#[test]
fn an_empty_tensor_is_a_frame_like_any_other() {
    for codec in CODECS {
        assert_eq!(round_trip(codec, &[]), [0.0_f32; 0], "{codec}");
    }
}

/// What is reported is what happened: ω̂ is that of the values that the frame decodes to.
#[test]
fn the_reported_variance_is_that_of_the_frame() {
    let values = gaussian(1, 1 << 14);
    for text in [
        "qsgd",
        "qsgd:levels=1,norm=l2",
        "dither",
        "deadzone:alpha=0",
        "fp16",
    ] {
        let spec = spec(text);
        let mut encoder = Encoder::new(&spec, &Layout::new([values.len()]), SEED);
        let (frame, stats) = encode(&mut encoder, 0, &values);
        let found = decode(&spec, 0, &frame, values.len());
        let error: Vec<f32> = found.iter().zip(&values).map(|(q, v)| q - v).collect();
        let measured = norm_squared(&error) / norm_squared(&values);
        let off = (stats.omega() / measured - 1.0).abs();
        assert!(off < 1e-4, "{text}: {} for {measured}", stats.omega());
    }
}
