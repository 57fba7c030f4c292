//! Memory that starts on a cache line.

use std::ops::{Deref, DerefMut};

/// Words of one cache line, 64 bytes.
pub const LINE: usize = 16;

#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
struct Line([u32; LINE]);

/// 32-bit words on whole cache lines; made once, at load.
#[derive(Debug, Clone, Default)]
pub struct Words(Vec<Line>);

impl Words {
    /// At least `count` words, all zero, rounded up to whole lines.
    pub fn zeroed(count: usize) -> Self {
        Self(vec![Line([0; LINE]); count.div_ceil(LINE)])
    }

    /// The same words as f32.
    pub fn floats(&self) -> &[f32] {
        floats(self)
    }

    /// The same words as f32.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        floats_mut(self)
    }
}

impl Deref for Words {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        // SAFETY: a `Line` is sixteen u32 without padding (`repr(C)`, size 64).
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().cast(), self.0.len() * LINE) }
    }
}

impl DerefMut for Words {
    fn deref_mut(&mut self) -> &mut [u32] {
        // SAFETY: as in `deref`; the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_mut_ptr().cast(), self.0.len() * LINE) }
    }
}

/// Words as f32.
pub fn floats(words: &[u32]) -> &[f32] {
    // SAFETY: u32 and f32 have the same size and alignment, and every pattern of bits is a value of both.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// Words as f32.
pub fn floats_mut(words: &mut [u32]) -> &mut [f32] {
    // SAFETY: as in `floats`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), words.len()) }
}

/// f32 as words.
pub fn words_of(floats: &[f32]) -> &[u32] {
    // SAFETY: as in `floats`, the other way round.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) }
}

/// Words as pairs of bf16, the lower half first.
pub fn halves(words: &[u32]) -> &[[u16; 2]] {
    // SAFETY: two u16 fill a u32 and need less alignment; every pattern of bits is a value.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
}

/// Words as bf16, two a word.
pub fn halves_mut(words: &mut [u32]) -> &mut [u16] {
    // SAFETY: as in `halves`; the borrow is exclusive and covers the same bytes.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 2 * words.len()) }
}

/// Words as bytes, four a word.
pub(super) fn bytes(words: &[u32]) -> &[u8] {
    // SAFETY: bytes need no alignment, and every pattern of bits is a value.
    unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), 4 * words.len()) }
}

/// Words as bytes, four a word.
pub fn bytes_mut(words: &mut [u32]) -> &mut [u8] {
    // SAFETY: as in `bytes`; the borrow is exclusive.
    unsafe { std::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
}
