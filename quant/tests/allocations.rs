//! In steady state neither an encoder nor a decoder allocates.

mod gradients;

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

use ecq_quant::{CodecSpec, Decoder, Encoder, Layout};
use gradients::{SEED, gaussian, id, spec};

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[allow(
    unsafe_code,
    reason = "an allocator that counts and leaves the rest to the system's"
)]
// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, place: *mut u8, memory: Memory) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, memory) }
    }

    unsafe fn realloc(&self, place: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(place, memory, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> usize {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

#[test]
fn frames_are_made_and_read_without_allocating() {
    let others = [
        "ecq:levels=1",
        "ecq:norm=l2",
        "topk:values=sign,momentum=0.9",
        "threshold:values=two-bit",
    ];
    // Levels that depend on the values are fitted with memory of their own.
    let names = CodecSpec::names().filter(|name| *name != "alq");
    for codec in names.chain(others) {
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
            let encoding = allocations(|| {
                encoder.encode(id(step), 1, all.clone(), &gradient, &mut frame);
            });
            let decoding = allocations(|| {
                let done = decoder.accumulate(&frame, id(step), all.clone(), 1.0, &mut sum);
                done.expect("it decodes");
            });
            if step >= 8 {
                counted = (counted.0 + encoding, counted.1 + decoding);
            }
        }
        assert_eq!(
            counted,
            (0, 0),
            "{codec}: allocations of encoder and decoder"
        );
    }
    assert!(
        allocations(|| drop(vec![0_u8; 10])) > 0,
        "the counter counts"
    );
}
