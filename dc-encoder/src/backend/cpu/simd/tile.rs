//! Products of some rows with one panel of a packed matrix: where nearly all of the time goes.
//!
//! ```text
//! left [rows, steps] words, row after row        panel [steps, WIDTH] words, WIDTH columns of the right side
//!   one word of a row, to all lanes      ×         two registers of the panel       ─► 12 × 32 sums in registers
//! ```
//! The three formats differ only in what a word holds and in the instruction, so they share the loop. Twelve rows by
//! two registers leave 24 sums, enough to hide the latency of any of the instructions.

use super::isa::{Format, Isa};
use super::words::{bytes, floats, halves};
use crate::model::ops::matmul::{Mat, MatMut, Threads, product};

/// Columns of a panel for the AVX-512 kernels: two registers of sixteen.
pub const WIDTH: usize = 32;
/// Rows that are in registers at one time.
#[cfg(target_arch = "x86_64")]
pub(super) const ROWS: usize = 12;

/// The left side of a product: `rows` rows of words that begin `stride` words apart.
#[derive(Debug, Clone, Copy)]
pub struct Left<'a> {
    /// The words.
    pub words: &'a [u32],
    /// How many rows.
    pub rows: usize,
    /// Words from one row to the next.
    pub stride: usize,
}

/// One panel of the right side: `steps` rows of `width` words.
#[derive(Debug, Clone, Copy)]
pub struct Panel<'a> {
    /// The words.
    pub words: &'a [u32],
    /// What is in a word, on both sides.
    pub format: Format,
    /// Words along the axis that is summed over.
    pub steps: usize,
    /// Columns.
    pub width: usize,
}

/// `out = left · panel`, or `out += left · panel` with `add` (not for bytes): `[rows, width]` sums as f32.
///
/// # Panics
/// Slices too short for the shapes, or a format that the processor has no instruction for when `isa` has AVX-512.
pub fn tile(isa: Isa, left: Left<'_>, panel: Panel<'_>, add: bool, out: &mut [f32]) {
    let Left { words, rows, stride } = left;
    let Panel { format, steps, width, .. } = panel;
    assert!(rows == 0 || (rows - 1) * stride + steps <= words.len(), "a left side beyond its words");
    assert!(steps * width <= panel.words.len() && rows * width <= out.len(), "a panel beyond its words");
    assert!(!(add && format == Format::Int8), "sums of bytes are not added up");
    #[cfg(target_arch = "x86_64")]
    if width == WIDTH {
        let kernel: Option<avx512::Kernel> = match format {
            Format::F32 if isa.avx512() => Some(avx512::f32s),
            Format::Bf16 if isa.bf16_as_f32() => Some(avx512::wide_bf16s),
            Format::Bf16 if isa.bf16() => Some(avx512::bf16s),
            Format::Int8 if isa.vnni() => Some(avx512::int8s),
            _ => None,
        };
        if let Some(kernel) = kernel {
            // SAFETY: the processor has the instructions (`Isa`), and the checks above bound every word the kernel
            // reads and every sum it writes.
            return unsafe { kernel(left, panel.words.as_ptr(), steps, add, out.as_mut_ptr()) };
        }
    }
    let _ = isa;
    portable(left, panel, add, out);
}

/// Whether products of bf16 are quicker widened to f32 than with the processor's own instruction, which some run at a quarter
/// of the rate of two f32 products. Measured once, in a few milliseconds: models and versions of processors do not say.
#[cfg(target_arch = "x86_64")]
pub(super) fn wider_is_quicker() -> bool {
    use std::sync::OnceLock;
    use std::time::{Duration, Instant};

    const STEPS: usize = 64;
    const TIMES: usize = 50;
    static QUICKER: OnceLock<bool> = OnceLock::new();
    *QUICKER.get_or_init(|| {
        let (left, panel) = (vec![0; ROWS * STEPS], vec![0; STEPS * WIDTH]);
        let mut sums = vec![0.0; ROWS * WIDTH];
        let left = Left { words: &left, rows: ROWS, stride: STEPS };
        let mut time = |kernel: avx512::Kernel| {
            let start = Instant::now();
            for _ in 0..TIMES {
                // SAFETY: only asked where the processor has AVX-512 and its bf16; the slices have these shapes.
                unsafe { kernel(left, panel.as_ptr(), STEPS, false, sums.as_mut_ptr()) };
            }
            start.elapsed()
        };
        // In turns, the quickest of each: what else runs makes times longer, never shorter.
        let mut best = [Duration::MAX; 2];
        for _ in 0..20 {
            best[0] = best[0].min(time(avx512::bf16s));
            best[1] = best[1].min(time(avx512::wide_bf16s));
        }
        best[1] < best[0]
    })
}

/// The same in plain Rust, f32 through the `gemm` crate.
fn portable(left: Left<'_>, panel: Panel<'_>, add: bool, out: &mut [f32]) {
    let Panel { format, steps, width, .. } = panel;
    if format == Format::F32 {
        let out = MatMut::new(out, left.rows, width);
        let a = Mat::strided(floats(left.words), left.rows, steps, left.stride);
        let b = Mat::new(floats(panel.words), steps, width);
        return product(if add { out.adding() } else { out }, a, b, 1.0, Threads::One);
    }
    for (row, out) in out.chunks_exact_mut(width).take(left.rows).enumerate() {
        let words = &left.words[row * left.stride..][..steps];
        for (col, out) in out.iter_mut().enumerate() {
            let column = (0..steps).map(|step| panel.words[step * width + col]);
            let sum = match format {
                Format::Bf16 => words.iter().zip(column).map(|(a, b)| pair(*a, b)).sum::<f32>(),
                _ => words.iter().zip(column).map(|(a, b)| quad(*a, b)).sum::<i32>() as f32,
            };
            *out = if add { *out + sum } else { sum };
        }
    }
}

fn pair(a: u32, b: u32) -> f32 {
    let wide = |half: u16| f32::from_bits(u32::from(half) << 16);
    let ([a, b], [c, d]) = (halves(&[a])[0], halves(&[b])[0]);
    wide(a) * wide(c) + wide(b) * wide(d)
}

fn quad(a: u32, b: u32) -> i32 {
    bytes(&[a]).iter().zip(bytes(&[b])).map(|(a, b)| i32::from(*a) * i32::from(*b as i8)).sum()
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use std::arch::x86_64::*;

    use super::{Left, ROWS, WIDTH};

    /// Left side, panel, steps, whether to add, sums.
    pub(super) type Kernel = unsafe fn(Left<'_>, *const u32, usize, bool, *mut f32);

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn f32_step(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        _mm512_fmadd_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bf16_step(sum: __m512, a: __m512i, b: __m512i) -> __m512 {
        // SAFETY: two views of the same 64 bytes.
        let (a, b) = unsafe {
            (std::mem::transmute::<__m512i, __m512bh>(a), std::mem::transmute::<__m512i, __m512bh>(b))
        };
        _mm512_dpbf16_ps(sum, a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn int8_step(sum: __m512i, a: __m512i, b: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sum, a, b)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn keep(sum: __m512) -> __m512 {
        sum
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn to_float(sum: __m512i) -> __m512 {
        _mm512_cvtepi32_ps(sum)
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_float(from: *const f32) -> __m512 {
        // SAFETY: the caller has checked that sixteen numbers can be read.
        unsafe { _mm512_loadu_ps(from) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    unsafe fn load_none(_from: *const f32) -> __m512i {
        _mm512_setzero_si512()
    }

    /// A kernel of `N` rows, and one for any number.
    macro_rules! kernel {
        ($all:ident, $some:ident, $features:literal, $zero:ident, $load:ident, $step:ident, $finish:ident) => {
            #[target_feature(enable = $features)]
            unsafe fn $some<const N: usize>(
                (left, stride): (*const u32, usize),
                panel: *const u32,
                steps: usize,
                add: bool,
                out: *mut f32,
            ) {
                // SAFETY: `tile` has checked that N rows of `steps` words, a panel of `steps` times WIDTH words and
                // N times WIDTH sums lie in their slices.
                unsafe {
                    let mut sums = [[$zero(); 2]; N];
                    if add {
                        for row in 0..N {
                            for half in 0..2 {
                                sums[row][half] = $load(out.add(row * WIDTH + 16 * half));
                            }
                        }
                    }
                    for step in 0..steps {
                        let low = _mm512_loadu_si512(panel.add(step * WIDTH).cast());
                        let high = _mm512_loadu_si512(panel.add(step * WIDTH + 16).cast());
                        for row in 0..N {
                            let word = _mm512_set1_epi32(*left.add(row * stride + step) as i32);
                            sums[row][0] = $step(sums[row][0], word, low);
                            sums[row][1] = $step(sums[row][1], word, high);
                        }
                    }
                    for row in 0..N {
                        for half in 0..2 {
                            _mm512_storeu_ps(out.add(row * WIDTH + 16 * half), $finish(sums[row][half]));
                        }
                    }
                }
            }

            runs!($all, $some, $features);
        };
    }

    /// A kernel for any number of rows, in runs of twelve.
    macro_rules! runs {
        ($all:ident, $some:ident, $features:literal) => {
            #[target_feature(enable = $features)]
            pub(super) unsafe fn $all(
                left: Left<'_>,
                panel: *const u32,
                steps: usize,
                add: bool,
                out: *mut f32,
            ) {
                for first in (0..left.rows).step_by(ROWS) {
                    // SAFETY: `first` is a row of the left side and of the sums; the rest as in `tile`.
                    unsafe {
                        let rows = (left.words.as_ptr().add(first * left.stride), left.stride);
                        let out = out.add(first * WIDTH);
                        match left.rows - first {
                            1 => $some::<1>(rows, panel, steps, add, out),
                            2 => $some::<2>(rows, panel, steps, add, out),
                            3 => $some::<3>(rows, panel, steps, add, out),
                            4 => $some::<4>(rows, panel, steps, add, out),
                            5 => $some::<5>(rows, panel, steps, add, out),
                            6 => $some::<6>(rows, panel, steps, add, out),
                            7 => $some::<7>(rows, panel, steps, add, out),
                            8 => $some::<8>(rows, panel, steps, add, out),
                            9 => $some::<9>(rows, panel, steps, add, out),
                            10 => $some::<10>(rows, panel, steps, add, out),
                            11 => $some::<11>(rows, panel, steps, add, out),
                            _ => $some::<ROWS>(rows, panel, steps, add, out),
                        }
                    }
                }
            }
        };
    }

    /// Words of the left side that are widened at a time: of twelve rows, they stay in the first cache.
    const CHUNK: usize = 64;

    /// The lower and the upper halves of words: a bf16 is the upper half of an f32.
    #[inline]
    #[target_feature(enable = "avx512f")]
    fn widened(words: __m512i) -> [__m512; 2] {
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        [
            _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)),
            _mm512_castsi512_ps(_mm512_and_si512(words, upper)),
        ]
    }

    /// Products of bf16 as products of f32: each word of the left side is widened once for the whole panel, each of the
    /// panel once for all rows.
    #[target_feature(enable = "avx512f")]
    unsafe fn some_wide_bf16s<const N: usize>(
        (left, stride): (*const u32, usize),
        panel: *const u32,
        steps: usize,
        add: bool,
        out: *mut f32,
    ) {
        // SAFETY: `tile` has checked that N rows of `steps` words, a panel of `steps` times WIDTH words and
        // N times WIDTH sums lie in their slices; loads are masked to `steps`.
        unsafe {
            let mut wide = [[[0.0_f32; CHUNK]; 2]; N];
            let mut sums = [[_mm512_setzero_ps(); 2]; N];
            if add {
                for (row, sums) in sums.iter_mut().enumerate() {
                    let from = out.add(row * WIDTH);
                    *sums = [load_float(from), load_float(from.add(16))];
                }
            }
            for first in (0..steps).step_by(CHUNK) {
                let count = CHUNK.min(steps - first);
                for (row, wide) in wide.iter_mut().enumerate() {
                    for at in (0..count).step_by(16) {
                        let mask = u16::MAX >> (16 - (count - at).min(16));
                        let words = left.add(row * stride + first + at);
                        let [even, odd] = widened(_mm512_maskz_loadu_epi32(mask, words.cast()));
                        _mm512_storeu_ps(wide[0].as_mut_ptr().add(at), even);
                        _mm512_storeu_ps(wide[1].as_mut_ptr().add(at), odd);
                    }
                }
                for step in 0..count {
                    let of_panel = panel.add((first + step) * WIDTH);
                    let low = widened(_mm512_loadu_si512(of_panel.cast()));
                    let high = widened(_mm512_loadu_si512(of_panel.add(16).cast()));
                    for (sums, wide) in sums.iter_mut().zip(&wide) {
                        for part in 0..2 {
                            let a = _mm512_set1_ps(*wide[part].as_ptr().add(step));
                            sums[0] = _mm512_fmadd_ps(a, low[part], sums[0]);
                            sums[1] = _mm512_fmadd_ps(a, high[part], sums[1]);
                        }
                    }
                }
            }
            for (row, [low, high]) in sums.into_iter().enumerate() {
                let to = out.add(row * WIDTH);
                _mm512_storeu_ps(to, low);
                _mm512_storeu_ps(to.add(16), high);
            }
        }
    }

    runs!(wide_bf16s, some_wide_bf16s, "avx512f");
    kernel!(f32s, some_f32s, "avx512f", _mm512_setzero_ps, load_float, f32_step, keep);
    kernel!(bf16s, some_bf16s, "avx512f,avx512bf16", _mm512_setzero_ps, load_float, bf16_step, keep);
    kernel!(int8s, some_int8s, "avx512f,avx512vnni", _mm512_setzero_si512, load_none, int8_step, to_float);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words with every kind of content a format knows, and small enough that sums stay finite.
    fn words(format: Format, count: usize, seed: u32) -> Vec<u32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state
        };
        let small = |bits: u32| (bits >> 8) as f32 / (1 << 23) as f32 - 1.0;
        let make = |bits: u32, other: u32| match format {
            Format::F32 => small(bits).to_bits(),
            Format::Bf16 => (small(bits).to_bits() >> 16) | (small(other).to_bits() & 0xffff_0000),
            Format::Int8 => bits ^ (other >> 16),
        };
        (0..count).map(|_| make(next(), next())).collect()
    }

    #[test]
    fn kernels_agree_with_plain_rust_on_ragged_shapes() {
        let here = Isa::detect();
        let both = [here.with_bf16_as_f32(false), here.with_bf16_as_f32(true)];
        let cases =
            [(Format::F32, here), (Format::Bf16, both[0]), (Format::Bf16, both[1]), (Format::Int8, here)];
        for (format, isa) in cases {
            for (rows, steps, pad) in
                [(1, 1, 0), (5, 7, 3), (11, 32, 1), (12, 64, 16), (13, 3, 0), (37, 129, 5), (25, 210, 2)]
            {
                let stride = steps + pad;
                let a = words(format, rows * stride, 1);
                let b = words(format, steps * WIDTH, 2);
                let left = Left { words: &a, rows, stride };
                let panel = Panel { words: &b, format, steps, width: WIDTH };
                for add in [false, true] {
                    if add && format == Format::Int8 {
                        continue;
                    }
                    let mut got = vec![0.5f32; rows * WIDTH];
                    let mut want = got.clone();
                    tile(isa, left, panel, add, &mut got);
                    portable(left, panel, add, &mut want);
                    let tolerance = if format == Format::Int8 { 0.0 } else { 1e-5 * (steps as f32).sqrt() };
                    for (at, (got, want)) in got.iter().zip(&want).enumerate() {
                        assert!(
                            (got - want).abs() <= tolerance,
                            "{format:?} {rows}x{steps} at {at}: {got} {want}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "beyond its words")]
    fn a_left_side_that_is_too_short_is_refused() {
        let left = Left { words: &[0; 10], rows: 3, stride: 5 };
        let panel = Panel { words: &[0; 5 * WIDTH], format: Format::F32, steps: 5, width: WIDTH };
        tile(Isa::detect(), left, panel, false, &mut [0.0; 3 * WIDTH]);
    }
}
