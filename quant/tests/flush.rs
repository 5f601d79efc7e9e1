//! The last frame of a member that leaves: whole, for decoders of every codec.

mod gradients;

use ecq_quant::{CodecSpec, DecodeError, Decoder, Encoder, FrameStats, Layout, Values};
use gradients::{SEED, decode, encode, gaussian, id, norm_squared, spec};

const COUNT: usize = 1000;

fn flush(encoder: &mut Encoder, step: u64, gradient: &[f32]) -> (Vec<u8>, FrameStats) {
    let mut frame = vec![7; 3]; // Whatever it held before.
    let stats = encoder.flush(id(step), 1, 0..gradient.len(), gradient, &mut frame);
    (frame, stats)
}

fn velocity(encoder: &Encoder) -> Vec<f32> {
    let memory = encoder.memory();
    let velocity = memory.into_iter().find(|memory| memory.name == "velocity");
    match velocity.map(|memory| memory.values) {
        Some(Values::Single(values)) => values.into_owned(),
        _ => vec![0.0; COUNT],
    }
}

/// Every codec as it is by default, and some that remember more or nothing.
fn codecs() -> impl Iterator<Item = CodecSpec> {
    let settings = [
        "ecq:alpha=0.2,beta=0.9",
        "ecq:alpha=0",
        "topk:fraction=0.1,momentum=0.9",
        "ecq:bits=1.5",
    ];
    CodecSpec::names().chain(settings).map(spec)
}

/// Law: q = mu + g + h in single precision, and then nothing is left.
#[test]
fn all_that_was_computed_is_sent() {
    for spec in codecs() {
        let mut encoder = Encoder::new(&spec, &Layout::new([COUNT]), SEED);
        for step in 0..5 {
            encode(&mut encoder, step, &gaussian(step, COUNT));
        }
        let gradient = gaussian(5, COUNT);
        let velocity = velocity(&encoder);
        let mut expected = gradient.clone();
        for (v, u) in expected.iter_mut().zip(&velocity) {
            *v += 0.9 * u;
        }
        for (v, h) in expected.iter_mut().zip(encoder.residual()) {
            *v += h;
        }
        let (frame, stats) = flush(&mut encoder, 5, &gradient);
        assert_eq!(decode(&spec, 5, &frame, COUNT), expected, "{spec}");
        assert_eq!(frame.len() as u64, stats.frame_bytes);
        assert_eq!(
            (stats.error_squared, stats.residual_norm_squared),
            (0.0, 0.0)
        );
        assert!(encoder.residual().iter().all(|h| *h == 0.0), "{spec}");
        assert!(self::velocity(&encoder).iter().all(|u| *u == 0.0), "{spec}");
        let bound = Decoder::new(&spec, &Layout::new([COUNT]), SEED).frame_bytes_max(0..COUNT);
        assert!(frame.len() <= bound, "{spec}");
    }
}

/// With β = 1 the sum of what was applied is then the sum of what was computed, to rounding.
#[test]
fn after_a_flush_nothing_is_missing() {
    let spec = spec("ecq:levels=1,alpha=0.38");
    let mut encoder = Encoder::new(&spec, &Layout::new([COUNT]), SEED);
    let mut missing = vec![0.0; COUNT];
    for step in 0..=20 {
        let gradient = gaussian(step, COUNT);
        if step == 20 {
            assert!(
                norm_squared(encoder.residual()) > 100.0,
                "there is something to find"
            );
        }
        let (frame, _) = match step {
            20 => flush(&mut encoder, step, &gradient),
            _ => encode(&mut encoder, step, &gradient),
        };
        let sent = decode(&spec, step, &frame, COUNT);
        for (missing, (g, q)) in missing.iter_mut().zip(gradient.iter().zip(&sent)) {
            *missing += f64::from(*g) - f64::from(*q);
        }
    }
    let worst = missing.into_iter().map(f64::abs).fold(0.0, f64::max);
    assert!(worst < 1e-4, "{worst}");
}

/// What is not a number does not get through, and keeps nothing else from it.
#[test]
fn a_gradient_that_is_not_finite_does_not_hold_back_the_residual() {
    let spec = spec("ecq");
    let mut encoder = Encoder::new(&spec, &Layout::new([4]), SEED);
    encoder = encoder.with_residual(vec![1.0, 2.0, f32::MAX, -1.0]);
    let gradient = [f32::NAN, f32::INFINITY, f32::MAX, 0.5];
    let (frame, stats) = flush(&mut encoder, 0, &gradient);
    assert_eq!(decode(&spec, 0, &frame, 4), [1.0, 2.0, f32::MAX, -0.5]);
    assert_eq!(
        (stats.nonfinite_groups, encoder.residual()),
        (2, &[0.0; 4][..])
    );
}

/// A bucket of several is flushed alone, and the frame of another length or step is refused as ever.
#[test]
fn a_bucket_is_flushed_alone_and_its_frame_is_verified() {
    let spec = spec("ecq");
    let layout = Layout::new([COUNT]);
    let mut encoder = Encoder::new(&spec, &layout, SEED);
    encode(&mut encoder, 0, &gaussian(0, COUNT));
    let before = encoder.residual().to_vec();
    let mut frame = Vec::new();
    encoder.flush(id(1), 1, 100..200, &[0.0; 100], &mut frame);
    assert_eq!(encoder.residual()[..100], before[..100]);
    assert_eq!(encoder.residual()[100..200], [0.0; 100]);
    assert_eq!(encoder.residual()[200..], before[200..]);
    let mut decoder = Decoder::new(&spec, &layout, SEED);
    let mut sum = [0.0; 100];
    let mut try_as =
        |step, frame: &[u8]| decoder.accumulate(frame, id(step), 100..200, 1.0, &mut sum);
    assert_eq!(try_as(1, &frame), Ok(()));
    assert!(matches!(
        try_as(2, &frame),
        Err(DecodeError::Field { field: "step", .. })
    ));
    let longer = [&frame[..], &[0; 4]].concat();
    assert!(matches!(
        try_as(1, &longer),
        Err(DecodeError::Checksum { .. })
    ));
    assert_eq!(
        sum[..],
        before[100..200],
        "what was refused has added nothing"
    );
}
