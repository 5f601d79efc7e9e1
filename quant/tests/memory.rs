//! An encoder that takes up another's memory goes on exactly as that one does.

use std::ops::Range;

use ecq_quant::{CodecSpec, Encoder, FrameId, Layout, Memory, Values};

/// Codecs with everything that can be remembered: residuals, measures, velocities, warm starts.
const CODECS: [&str; 6] = [
    "ecq",
    "ecq:levels=1,norm=l2",
    "deadzone:bits=1",
    "topk:fraction=0.1",
    "powersgd:rank=2",
    "qsgd",
];

fn gradient(elements: usize, step: u64) -> Vec<f32> {
    let value = |i: usize| ((i as f32 + 1.3) * (step as f32 + 0.7)).sin();
    (0..elements).map(value).collect()
}

fn halves(elements: usize) -> [Range<usize>; 2] {
    [0..elements / 2, elements / 2..elements]
}

fn encode(encoder: &mut Encoder, elements: usize, step: u64) -> Vec<Vec<u8>> {
    let gradient = gradient(elements, step);
    (0..)
        .zip(halves(elements))
        .map(|(bucket, range)| {
            let id = FrameId {
                step,
                rank: 1,
                bucket,
            };
            let mut frame = Vec::new();
            encoder.encode(id, 8, range.clone(), &gradient[range], &mut frame);
            frame
        })
        .collect()
}

fn owned(memory: Memory<'_>) -> Memory<'static> {
    let values = match memory.values {
        Values::Single(values) => Values::Single(values.into_owned().into()),
        Values::Double(values) => Values::Double(values),
    };
    Memory {
        name: memory.name,
        values,
    }
}

#[test]
fn frames_go_on_as_if_nothing_had_happened() {
    let shapes = vec![vec![40, 30], vec![30], vec![30, 10], vec![10]];
    let layout = Layout::of_shapes(&shapes);
    let elements = layout.elements();
    for codec in CODECS {
        let spec: CodecSpec = codec.parse().expect("it is a codec");
        let mut encoder = Encoder::new(&spec, &layout, 5);
        for step in 0..4 {
            encode(&mut encoder, elements, step);
        }
        // Whatever order a file has them in.
        let mut memory: Vec<_> = encoder.memory().into_iter().map(owned).collect();
        memory.sort_by(|a, b| b.name.cmp(&a.name));
        let mut resumed = Encoder::new(&spec, &layout, 5);
        encode(&mut resumed, elements, 9); // Dirty.
        let restored = resumed.restore(&halves(elements), memory);
        restored.expect("it is the same codec");
        for step in 4..8 {
            let frames = encode(&mut encoder, elements, step);
            assert_eq!(encode(&mut resumed, elements, step), frames, "{codec}");
        }
    }
}

#[test]
fn memory_of_another_model_or_codec_is_refused() {
    let encoder = |codec: &str, elements: usize| {
        let spec: CodecSpec = codec.parse().expect("it is a codec");
        Encoder::new(&spec, &Layout::of_shapes(&[vec![elements]]), 5)
    };
    let ecq = encoder("ecq", 10);
    for mut other in [encoder("ecq", 11), encoder("fp32", 10)] {
        let refused = other.restore(&halves(10), ecq.memory());
        let error = refused.expect_err("it is another's").to_string();
        assert!(error.contains("residual"), "{error}");
    }
    let nonsense = |name: &str| Memory {
        name: name.into(),
        values: Values::Double(vec![1.0, 2.0]),
    };
    for name in ["bucket.x.measures", "bucket.2.measures"] {
        let refused = encoder("ecq", 10).restore(&halves(10), [nonsense(name)]);
        assert!(refused.is_err(), "{name}");
    }
    let poisoned = [
        ("residual", Values::Single(vec![f32::NAN; 10].into())),
        (
            "bucket.0.measures",
            Values::Double(vec![1.0, f64::INFINITY]),
        ),
    ];
    for (name, values) in poisoned {
        let memory = Memory {
            name: name.into(),
            values,
        };
        let refused = encoder("ecq", 10).restore(&halves(10), [memory]);
        assert!(refused.is_err(), "{name}");
    }
}

/// A warm start is that of one matrix and rank.
#[test]
fn factors_of_other_shapes_or_codecs_are_refused() {
    // A matrix of 10 × 6 and a vector; rank 2, so that Q has 12 numbers.
    let layout = Layout::of_shapes(&[vec![10, 6], vec![5]]);
    let all = 0..layout.elements();
    let restore = |codec: &str, part: &str, numbers: usize| {
        let spec: CodecSpec = codec.parse().expect("it is a codec");
        let memory = Memory {
            name: format!("bucket.0.factor.{part}"),
            values: Values::Single(vec![1.0; numbers].into()),
        };
        Encoder::new(&spec, &layout, 5).restore(std::slice::from_ref(&all), [memory])
    };
    for (part, numbers) in [("0", 12), ("1", 0)] {
        assert_eq!(restore("powersgd:rank=2", part, numbers), Ok(()));
    }
    for (codec, part, numbers) in [
        ("powersgd:rank=1", "0", 12),
        ("powersgd:rank=2", "0", 11),
        ("powersgd:rank=2", "1", 12),
        ("powersgd:rank=2", "2", 0),
        ("ecq", "0", 12),
    ] {
        let refused = restore(codec, part, numbers);
        assert!(refused.is_err(), "{codec}, {part}: {numbers} numbers");
    }
}

/// A residual from elsewhere ends where one that grows does, so that no group is silent for ever.
#[test]
fn a_residual_beyond_its_bound_ends_there_wherever_it_comes_from() {
    let spec: CodecSpec = "ecq".parse().expect("it is a codec");
    let layout = Layout::new([4]);
    let huge = [1.0, -3e30, f32::MAX, 0.0];
    let given = Encoder::new(&spec, &layout, 5).with_residual(huge.to_vec());
    let mut restored = Encoder::new(&spec, &layout, 5);
    let residual = Memory {
        name: "residual".into(),
        values: Values::Single(huge.to_vec().into()),
    };
    restored
        .restore(std::slice::from_ref(&(0..4)), [residual])
        .expect("it is a residual");
    let mut added = Encoder::new(&spec, &layout, 5);
    added.take_back(|residual| residual.copy_from_slice(&huge));
    let bound = 2.0_f32.powi(99);
    for mut encoder in [given, restored, added] {
        assert_eq!(encoder.residual(), [1.0, -bound, bound, 0.0]);
        let id = FrameId {
            step: 0,
            rank: 1,
            bucket: 0,
        };
        let stats = encoder.encode(id, 1, 0..4, &[1.0; 4], &mut Vec::new());
        assert_eq!(stats.nonfinite_groups, 0);
    }
}
