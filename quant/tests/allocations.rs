//! In steady state neither an encoder nor a decoder allocates.

mod counting;
mod gradients;

use counting::allocated;
use ecq_quant::{CodecSpec, Decoder, Encoder, Layout};
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
