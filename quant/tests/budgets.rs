//! Bit budgets: kept to the byte, and spent where it counts.

mod gradients;

use ecq_quant::{Decoder, Encoder, FrameId, Layout};
use gradients::{SEED, gaussian, id, norm_squared, spec, uniform};
use proptest::prelude::*;

/// A model of tensors whose gradients differ by orders of magnitude.
fn uneven() -> (Layout, Vec<f32>) {
    let lengths = [120_000, 40_000, 5_000, 128, 30_000];
    let scales = [0.01, 1.0, 30.0, 5.0, 0.2];
    let values = gaussian(6, lengths.iter().sum());
    let of = lengths
        .iter()
        .zip(scales)
        .flat_map(|(n, scale)| std::iter::repeat_n(scale, *n));
    (
        Layout::new(lengths),
        values.iter().zip(of).map(|(v, scale)| v * scale).collect(),
    )
}

/// ‖v − q‖² and bytes of one frame.
fn cost(text: &str, layout: &Layout, values: &[f32]) -> (f64, usize) {
    let spec = spec(text);
    let mut frame = Vec::new();
    Encoder::new(&spec, layout, SEED).encode(id(0), 1, 0..values.len(), values, &mut frame);
    let mut found = vec![0.0; values.len()];
    Decoder::new(&spec, layout, SEED)
        .accumulate(&frame, id(0), 0..values.len(), 1.0, &mut found)
        .expect("it decodes");
    let error: Vec<f32> = values.iter().zip(&found).map(|(v, q)| v - q).collect();
    (norm_squared(&error), frame.len())
}

/// The budget that a frame of so many bytes is.
fn bits(bytes: usize, values: &[f32]) -> f64 {
    (bytes - 40) as f64 * 8.0 / values.len() as f64
}

/// Gaussian tensors with these elements and scales.
fn tensors(seed: u64, tensors: &[(usize, f32)]) -> (Layout, Vec<f32>) {
    let layout = Layout::new(tensors.iter().map(|(length, _)| *length));
    let scales = tensors
        .iter()
        .flat_map(|(n, s)| std::iter::repeat_n(*s, *n));
    let values = gaussian(seed, layout.elements());
    (
        layout,
        values.iter().zip(scales).map(|(v, s)| v * s).collect(),
    )
}

/// Error and bytes with a budget, of those without at the same size. No budget has more than eight bits.
fn gain(codec: &str, same: &str, layout: &Layout, values: &[f32]) -> (f64, f64) {
    let (expected, limit) = cost(same, layout, values);
    if bits(limit, values) > 8.0 {
        return (0.0, 0.0);
    }
    let text = format!("{codec}:bits={}", bits(limit, values));
    let (error, bytes) = cost(&text, layout, values);
    (error / expected, bytes as f64 / limit as f64)
}

/// At the size of any number of levels for all tensors the error is never larger.
#[test]
fn no_budget_is_worse_than_the_same_levels_for_all() {
    let mlp = [200_704, 256, 32_768, 128, 1280, 10];
    let with = |scales: [f32; 6]| -> Vec<(usize, f32)> { mlp.into_iter().zip(scales).collect() };
    let many = |count: usize, length: usize| -> Vec<(usize, f32)> {
        (0..count as u64)
            .map(|i| (length, 2.0 * uniform(5, i) as f32 + 0.1))
            .collect()
    };
    let layouts = [
        with([1.0, 2.0, 1.5, 3.0, 2.0, 4.0]),
        with([1.0; 6]),
        vec![(60_000, 1.0)],
        many(200, 700),
        many(500, 10),
        many(3, 40),
    ];
    for layout in layouts {
        let (layout, values) = tensors(11, &layout);
        for s in [1, 2, 3, 4, 9, 16, 64] {
            let same = format!("qsgd:levels={s}");
            let (error, bytes) = gain("qsgd", &same, &layout, &values);
            assert!(bytes <= 1.0, "{same}: {bytes}");
            assert!(error <= 1.0, "{same}: {error}");
        }
        // Of few elements chance decides how many bytes a step takes.
        if values.len() < 1000 {
            continue;
        }
        for step in ["3.3", "2.5", "0.7", "0.15"] {
            let same = format!("deadzone:step={step},levels=31");
            let (error, bytes) = gain("deadzone", &same, &layout, &values);
            assert!(bytes <= 1.0, "{same}: {bytes}");
            // Steps are found to within a percent.
            let tolerance = if values.len() < 10_000 { 1.1 } else { 1.02 };
            assert!(error <= tolerance, "{same}: {error}");
        }
    }
}

/// Sparse frames of some hundred bytes: what is estimated of them is far from what they take.
#[test]
fn a_budget_of_a_few_hundred_bytes_is_not_given_up_early() {
    let half = std::f32::consts::FRAC_1_SQRT_2;
    let lengths = [
        (2704, half),
        (3585, 1.0),
        (794, 1.0),
        (1829, 0.5),
        (2819, 0.5),
    ];
    let (layout, values) = tensors(11_693_283_054_551_147_828, &lengths);
    let keys = "norm=l2,bucket=tensor";
    let (expected, limit) = cost(&format!("qsgd:levels=2,{keys}"), &layout, &values);
    let text = format!("qsgd:bits={},{keys}", bits(limit, &values));
    let (error, bytes) = cost(&text, &layout, &values);
    assert!(
        bytes <= limit && error <= expected,
        "{bytes} {limit} {error} {expected}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// The same for random layouts, scales and budgets, in parts of a model as in all of it.
    #[test]
    fn no_random_budget_is_worse(
        tensors in proptest::collection::vec((1usize..5000, -6i32..7), 1..40),
        seed: u64,
        s in 1u32..60,
        norm in prop::sample::select(vec!["linf", "l2"]),
        bucket in prop::sample::select(vec!["64", "512", "tensor"]),
    ) {
        let tensors: Vec<_> = tensors.into_iter().map(|(n, e)| (n, (e as f32 / 2.0).exp2())).collect();
        let (layout, values) = self::tensors(seed, &tensors);
        prop_assume!(values.len() > 1000);
        let keys = format!("norm={norm},bucket={bucket}");
        let same = format!("qsgd:levels={s},{keys}");
        let (expected, limit) = cost(&same, &layout, &values);
        let text = format!("qsgd:bits={},{keys}", bits(limit, &values).min(8.0));
        let (error, bytes) = cost(&text, &layout, &values);
        prop_assert!(bytes <= limit, "{bytes} for {limit}");
        prop_assert!(error <= expected, "{}", error / expected);
    }
}

/// A budget is kept, and at the size of uniform levels (or steps) the total error is never larger; with
/// tensors as uneven as these it is far smaller.
#[test]
fn a_bit_budget_is_kept_and_spent_where_it_counts() {
    let (layout, values) = uneven();
    let uniform = [1, 2, 3, 4, 7, 15].map(|s| ("qsgd", format!("qsgd:levels={s}")));
    let steps = ["3.3", "2.333", "1.65", "1.167"]
        .map(|c| ("deadzone", format!("deadzone:step={c},levels=31")));
    for (codec, same) in uniform.into_iter().chain(steps) {
        let (uniform_error, uniform_bytes) = cost(&same, &layout, &values);
        let (error, bytes) = cost(
            &format!("{codec}:bits={}", bits(uniform_bytes, &values)),
            &layout,
            &values,
        );
        let bits = (uniform_bytes - 40) as f64 * 8.0 / values.len() as f64;
        assert!(
            bytes <= uniform_bytes,
            "{same}: {bytes} for {uniform_bytes}"
        );
        assert!(
            error <= uniform_error,
            "{same}: {error} for {uniform_error}"
        );
        if bits > 1.5 {
            assert!(
                error < 0.6 * uniform_error,
                "{same}: {error} for {uniform_error}"
            );
        }
    }
}

/// Each tensor with a budget of its own.
#[test]
fn tensors_can_have_budgets_of_their_own() {
    let layout = Layout::new([50_000, 50_000]);
    let values = gaussian(7, 100_000);
    let spec = spec("qsgd:bits=1.3/5");
    let mut encoder = Encoder::new(&spec, &layout, SEED);
    let mut frame = Vec::new();
    encoder.encode(id(0), 1, 0..100_000, &values, &mut frame);
    let mut found = vec![0.0; 100_000];
    Decoder::new(&spec, &layout, SEED)
        .accumulate(&frame, id(0), 0..100_000, 1.0, &mut found)
        .expect("it decodes");
    let error = |range: std::ops::Range<usize>| -> f64 {
        range.map(|i| f64::from(values[i] - found[i]).powi(2)).sum()
    };
    let (first, second) = (error(0..50_000), error(50_000..100_000));
    assert!(first > 50.0 * second, "{first} {second}");
    let bits = frame.len() as f64 * 8.0 / 100_000.0;
    assert!((2.5..3.2).contains(&bits), "{bits}");
}

/// The same when tensors are cut by buckets: budgets go by tensors, not by places in the frame.
#[test]
fn budgets_go_by_tensor_in_every_bucket() {
    let layout = Layout::new([3000, 3000]);
    let values = gaussian(9, 6000);
    let spec = spec("qsgd:bits=1.3/5");
    let mut encoder = Encoder::new(&spec, &layout, SEED);
    let mut decoder = Decoder::new(&spec, &layout, SEED);
    for (bucket, range) in (0..).zip(layout.buckets(1500)) {
        let id = FrameId {
            step: 0,
            rank: 0,
            bucket,
        };
        let mut frame = Vec::new();
        encoder.encode(id, 1, range.clone(), &values[range.clone()], &mut frame);
        let mut found = vec![0.0; range.len()];
        decoder
            .accumulate(&frame, id, range.clone(), 1.0, &mut found)
            .expect("it decodes");
        let error: f64 = range
            .clone()
            .zip(found)
            .map(|(i, q)| f64::from(values[i] - q).powi(2))
            .sum();
        let per_element = error / range.len() as f64;
        assert_eq!(
            per_element > 0.1,
            bucket < 2,
            "bucket {bucket}: {per_element}"
        );
    }
}

/// Where scales differ, a budget does better than any choice for all by this much.
#[test]
fn tensors_that_differ_gain() {
    let scale = |i: u64| 2.0 * uniform(5, i) as f32 + 0.1;
    let many: Vec<_> = (0..200).map(|i| (700, scale(i))).collect();
    let (layout, values) = tensors(11, &many);
    for (codec, same) in [
        ("qsgd", "qsgd:levels=4"),
        ("qsgd", "qsgd:levels=12"),
        ("deadzone", "deadzone:step=1.3"),
        ("deadzone", "deadzone:step=0.3,levels=31"),
    ] {
        let (error, bytes) = gain(codec, same, &layout, &values);
        assert!(error < 0.7 && bytes <= 1.0, "{same}: {error} {bytes}");
    }
}
