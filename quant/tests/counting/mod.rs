//! An allocator that counts.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;

/// Counts what the current thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<Allocated> = const { Cell::new(Allocated { calls: 0, bytes: 0 }) };
}

/// What was allocated; nothing of it is taken off when it is freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allocated {
    pub(crate) calls: usize,
    pub(crate) bytes: usize,
}

fn count(bytes: usize) {
    COUNT.with(|count| {
        let Allocated { calls, bytes: sum } = count.get();
        count.set(Allocated {
            calls: calls + 1,
            bytes: sum + bytes,
        });
    });
}

#[allow(
    unsafe_code,
    reason = "an allocator that counts and leaves the rest to the system's"
)]
// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        count(memory.size());
        // SAFETY: the caller's promises are those that the system's allocator wants.
        unsafe { System.alloc(memory) }
    }

    unsafe fn dealloc(&self, place: *mut u8, memory: Memory) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, memory) }
    }

    unsafe fn realloc(&self, place: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { System.realloc(place, memory, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What the work allocates on this thread.
pub(crate) fn allocated(work: impl FnOnce()) -> Allocated {
    let before = COUNT.with(Cell::get);
    work();
    let after = COUNT.with(Cell::get);
    Allocated {
        calls: after.calls - before.calls,
        bytes: after.bytes - before.bytes,
    }
}
