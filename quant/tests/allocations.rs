//! In steady state neither an encoder nor a decoder allocates, but for what a bit budget is planned with.

mod counting;
mod gradients;

use counting::allocated;
use ecq_quant::{Aggregator, CodecSpec, Decoder, Encoder, FrameId, Layout};
use gradients::{SEED, gaussian, id, spec};

#[test]
fn frames_are_made_and_read_without_allocating() {
    let others = [
        "alq:levels=20,bucket=tensor",
        "ecq:levels=1",
        "ecq:norm=l2",
        "topk:values=sign,momentum=0.9",
        "threshold:values=two-bit",
    ];
    for codec in CodecSpec::names().chain(others) {
        let layout = Layout::of_shapes([vec![300, 200], vec![200]]);
        let all = 0..layout.elements();
        let mut encoder = Encoder::new(&spec(codec), &layout, SEED);
        let mut decoder = Decoder::new(&spec(codec), &layout, SEED);
        let mut sum = vec![0.0; layout.elements()];
        let mut frame = Vec::with_capacity(decoder.frame_bytes_max(all.clone()));
        let mut counted = (0, 0);
        // Scratch memory grows with the largest stream so far: the first steps may allocate.
        for step in 0..12 {
            let gradient = gaussian(step, layout.elements());
            let encoding = allocated(|| {
                encoder.encode(id(step), 1, all.clone(), &gradient, &mut frame);
            });
            let decoding = allocated(|| {
                let done = decoder.accumulate(&frame, id(step), all.clone(), 1.0, &mut sum);
                done.expect("it decodes");
            });
            if step >= 8 {
                counted = (counted.0 + encoding.calls, counted.1 + decoding.calls);
            }
        }
        assert_eq!(
            counted,
            (0, 0),
            "{codec}: allocations of encoder and decoder"
        );
    }
    assert!(
        allocated(|| drop(vec![0_u8; 10])).bytes == 10,
        "the counter counts"
    );
}

/// A budget is planned with memory of its own, for three tensors less than a megabyte in all, however long the
/// frame is; its frames are read without any.
#[test]
fn frames_with_a_budget_are_read_without_allocating() {
    for codec in [
        "qsgd:bits=2",
        "ecq:bits=1.5",
        "deadzone:bits=1",
        "qsgd:bits=1.5/4",
    ] {
        for rows in [200, 2000] {
            let layout = Layout::of_shapes([vec![rows, 100], vec![100], vec![100, rows]]);
            let all = 0..layout.elements();
            let mut encoder = Encoder::new(&spec(codec), &layout, SEED);
            let mut decoder = Decoder::new(&spec(codec), &layout, SEED);
            let mut sum = vec![0.0; layout.elements()];
            let mut frame = Vec::with_capacity(decoder.frame_bytes_max(all.clone()));
            for step in 0..4 {
                let gradient = gaussian(step % 2, layout.elements());
                let planning = allocated(|| {
                    encoder.encode(id(step), 1, all.clone(), &gradient, &mut frame);
                });
                let mut decode = || {
                    let done = decoder.accumulate(&frame, id(step), all.clone(), 1.0, &mut sum);
                    done.expect("it decodes");
                };
                // Scratch memory grows with the largest stream so far.
                decode();
                let decoding = allocated(decode);
                if step >= 2 {
                    assert_eq!(decoding.calls, 0, "{codec}, {rows} rows");
                    assert!(
                        planning.bytes < 1 << 20,
                        "{codec}, {rows} rows: {planning:?}"
                    );
                }
            }
        }
    }
}

/// All buckets of a step: sums need no list of them; frames need two, of what there is to do and of what was
/// measured.
#[test]
fn steps_of_many_buckets_allocate_next_to_nothing() {
    // A pool of this thread alone, so that everything is counted.
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(1)
        .use_current_thread();
    let pool = pool.build().expect("a pool");
    let layout = Layout::new([64_000]);
    let buckets = layout.buckets(1000);
    let mut encoder = Encoder::new(&spec("ecq"), &layout, SEED);
    let aggregator = Aggregator::new(Decoder::new(&spec("ecq"), &layout, SEED));
    let (mut frames, mut sum) = (Vec::new(), vec![0.0; 64_000]);
    for step in 0..12 {
        let gradient = gaussian(step, 64_000);
        let encoding = allocated(|| {
            pool.install(|| encoder.encode_all(step, 0, 1, &buckets, &gradient, &mut frames));
        });
        let id = |bucket| FrameId {
            step,
            rank: 0,
            bucket,
        };
        let given: Vec<_> = (0..).map(id).zip(frames.iter().map(|f| &f[..])).collect();
        let members: Vec<_> = given.iter().map(|frame| vec![*frame]).collect();
        let decoding = allocated(|| {
            pool.install(|| {
                let added = aggregator.accumulate_all(&buckets, &given, 0.5, &mut sum);
                added.expect("they decode");
                let mean = aggregator.aggregate_all(&buckets, &members, &mut sum);
                mean.expect("they decode");
            });
        });
        if step >= 8 {
            assert!(encoding.calls <= 4, "{encoding:?}");
            assert!(decoding.calls <= 1, "{decoding:?}");
        }
    }
}
