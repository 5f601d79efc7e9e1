//! An encoder that takes up another's memory goes on exactly as that one does.

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

fn encode(encoder: &mut Encoder, elements: usize, step: u64) -> Vec<Vec<u8>> {
    let gradient = gradient(elements, step);
    let buckets = [0..elements / 2, elements / 2..elements];
    (0..)
        .zip(buckets)
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
        resumed.restore(memory).expect("it is the same codec");
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
        let refused = other.restore(ecq.memory());
        let error = refused.expect_err("it is another's").to_string();
        assert!(error.contains("residual"), "{error}");
    }
    let nonsense = Memory {
        name: "bucket.x.measures".into(),
        values: Values::Double(vec![1.0, 2.0]),
    };
    assert!(encoder("ecq", 10).restore([nonsense]).is_err());
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
        assert!(encoder("ecq", 10).restore([memory]).is_err(), "{name}");
    }
}
