//! Encoders and decoders on every path, beside a plain copy of as many floats: `cargo bench -p ecq-quant`.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ecq_quant::{CodecSpec, Decoder, Encoder, FrameId, Layout, Simd};

/// One bucket of the largest size.
const ELEMENTS: usize = 1 << 20;

const CODECS: [&str; 8] = [
    "fp16",
    "ecq:levels=1",
    "ecq:levels=3",
    "ecq",
    "deadzone",
    "dither",
    "sign",
    "topk:fraction=0.01,values=sign",
];

/// Sums of uniform numbers, near enough to Gaussian.
fn values() -> Vec<f32> {
    let uniform = |i: u32| {
        let mut x = i.wrapping_mul(0x9e37_79b9) ^ 0x5bd1_e995;
        x = (x ^ x >> 15).wrapping_mul(0x846c_a68b);
        (x ^ x >> 13) as f32 / u32::MAX as f32 - 0.5
    };
    (0..ELEMENTS as u32)
        .map(|i| (0..6).map(|j| uniform(6 * i + j)).sum())
        .collect()
}

fn id(step: u64) -> FrameId {
    FrameId {
        step,
        rank: 0,
        bucket: 0,
    }
}

fn codecs(criterion: &mut Criterion) {
    let gradient = values();
    let layout = Layout::new([ELEMENTS]);
    let mut target = vec![0.0_f32; ELEMENTS];
    for direction in ["encode", "decode"] {
        let mut group = criterion.benchmark_group(direction);
        group.throughput(Throughput::Bytes(4 * ELEMENTS as u64));
        group.bench_function("memcpy", |bencher| {
            bencher.iter(|| target.copy_from_slice(std::hint::black_box(&gradient)));
        });
        for text in CODECS {
            let spec: CodecSpec = text.parse().expect("it is a codec");
            for simd in Simd::available() {
                let mut encoder = Encoder::new(&spec, &layout, 1).with_simd(*simd);
                let mut decoder = Decoder::new(&spec, &layout, 1).with_simd(*simd);
                let mut frame = Vec::new();
                let mut step = 0;
                encoder.encode(id(step), 1, 0..ELEMENTS, &gradient, &mut frame);
                group.bench_function(BenchmarkId::new(text, simd), |bencher| {
                    bencher.iter(|| {
                        if direction == "encode" {
                            step += 1;
                            encoder.encode(id(step), 1, 0..ELEMENTS, &gradient, &mut frame);
                        } else {
                            decoder
                                .accumulate(&frame, id(step), 0..ELEMENTS, 1.0, &mut target)
                                .expect("it was just encoded");
                        }
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).without_plots();
    targets = codecs
}
criterion_main!(benches);
