//! Counts what the current thread allocates, so that a test can say how much a decoder takes.
//!
//! The one `unsafe` of these tests: a global allocator has to be one. It forwards every call unchanged to the
//! system's, so the system's guarantees hold; the counters are plain thread-local cells without a destructor.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

fn count(bytes: usize) {
    ALLOCATED.with(|total| total.set(total.get().wrapping_add(bytes)));
}

// SAFETY: every method hands its arguments to `System` unchanged and returns what it returns.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `System`'s.
        unsafe { System.dealloc(ptr, layout) }
    }
}

/// What `work` returns, and how many bytes this thread asked for meanwhile, freed ones included.
pub(crate) fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.with(Cell::get);
    let value = work();
    (value, ALLOCATED.with(Cell::get).wrapping_sub(before))
}

#[test]
fn the_counter_counts() {
    let (vec, bytes) = measured(|| vec![0u8; 12_345]);
    assert_eq!((vec.len(), bytes), (12_345, 12_345));
}
