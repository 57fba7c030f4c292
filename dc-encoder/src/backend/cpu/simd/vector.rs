//! Sixteen numbers that are worked on together: a register of AVX-512, or an array in plain Rust.
//!
//! What is written once over this trait is compiled for both. Loops over slices are not left to the compiler: with a
//! length that it knows it unrolls them first and then finds no vectors in what is left. Nor are vectors handed to the
//! standard library's closures (`map`, `fold`): what is not inlined into a function that has the instructions calls each of
//! them as a function, ten times as slow.

/// Numbers of a vector.
pub(super) const LANES: usize = 16;

/// Sixteen numbers. Methods do to each of them what their name says.
pub(super) trait Vector: Copy {
    fn splat(value: f32) -> Self;
    fn load(from: &[f32; LANES]) -> Self;
    fn store(self, to: &mut [f32; LANES]);
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn div(self, other: Self) -> Self;
    /// `self * by + plus`; rounded once where the processor can.
    fn mul_add(self, by: Self, plus: Self) -> Self;
    /// The larger; `other` if one is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller; `other` if one is NaN.
    fn min(self, other: Self) -> Self;
    /// `2^n`, for `n` in the lowest bits as adding `1.5 * 2^23` leaves it there.
    fn power_of_two(self) -> Self;
    /// To the nearest bf16, ties to even.
    fn to_halves(self, to: &mut [u16; LANES]);
    fn from_halves(from: &[u16; LANES]) -> Self;
    /// The lowest byte of the bits.
    fn to_bytes(self, to: &mut [u8; LANES]);
    fn from_bytes(from: &[u8; LANES]) -> Self;
    /// The sum of the sixteen.
    fn total(self) -> f32;
    /// The largest of the sixteen.
    fn largest(self) -> f32;
    /// The smallest of the sixteen.
    fn smallest(self) -> f32;
}

/// In plain Rust.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; LANES]);

impl Plain {
    #[inline(always)]
    fn with(self, other: Self, how: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|lane| how(self.0[lane], other.0[lane])))
    }

    /// Joins the lanes in halves.
    #[inline(always)]
    fn join(mut self, how: impl Fn(f32, f32) -> f32) -> f32 {
        let mut half = LANES / 2;
        while half > 0 {
            for lane in 0..half {
                self.0[lane] = how(self.0[lane], self.0[lane + half]);
            }
            half /= 2;
        }
        self.0[0]
    }
}

fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn to_half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

impl Vector for Plain {
    #[inline(always)]
    fn splat(value: f32) -> Self {
        Self([value; LANES])
    }

    #[inline(always)]
    fn load(from: &[f32; LANES]) -> Self {
        Self(*from)
    }

    #[inline(always)]
    fn store(self, to: &mut [f32; LANES]) {
        *to = self.0;
    }

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, by: Self, plus: Self) -> Self {
        self.mul(by).add(plus)
    }

    #[inline(always)]
    fn max(self, other: Self) -> Self {
        self.with(other, larger)
    }

    #[inline(always)]
    fn min(self, other: Self) -> Self {
        self.with(other, smaller)
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self(self.0.map(|value| f32::from_bits((value.to_bits() << 23).wrapping_add(127 << 23))))
    }

    #[inline(always)]
    fn to_halves(self, to: &mut [u16; LANES]) {
        *to = self.0.map(to_half);
    }

    #[inline(always)]
    fn from_halves(from: &[u16; LANES]) -> Self {
        Self(from.map(|half| f32::from_bits(u32::from(half) << 16)))
    }

    #[inline(always)]
    fn to_bytes(self, to: &mut [u8; LANES]) {
        *to = self.0.map(|value| value.to_bits() as u8);
    }

    #[inline(always)]
    fn from_bytes(from: &[u8; LANES]) -> Self {
        Self(from.map(f32::from))
    }

    #[inline(always)]
    fn total(self) -> f32 {
        self.join(|a, b| a + b)
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        self.join(larger)
    }

    #[inline(always)]
    fn smallest(self) -> f32 {
        self.join(smaller)
    }
}

/// In a register of AVX-512. Made only where the processor has F, BW, DQ and VL: the functions that `compiled!` makes
/// are entered with an `Isa` that says so, and everything here is inlined into them.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub(super) struct Wide(std::arch::x86_64::__m512);

#[cfg(target_arch = "x86_64")]
mod wide {
    use std::arch::x86_64::*;

    use super::{LANES, Vector, Wide};

    /// Instructions without memory: safe where the processor has them, which a `Wide` is the proof of.
    macro_rules! instruction {
        ($name:ident = $intrinsic:ident($self:ident $(, $other:ident)*)) => {
            #[inline(always)]
            fn $name($self $(, $other: Self)*) -> Self {
                // SAFETY: see `Wide`.
                Self(unsafe { $intrinsic($self.0 $(, $other.0)*) })
            }
        };
    }

    impl Vector for Wide {
        instruction!(add = _mm512_add_ps(self, other));
        instruction!(sub = _mm512_sub_ps(self, other));
        instruction!(mul = _mm512_mul_ps(self, other));
        instruction!(div = _mm512_div_ps(self, other));
        instruction!(mul_add = _mm512_fmadd_ps(self, by, plus));
        instruction!(max = _mm512_max_ps(self, other));
        instruction!(min = _mm512_min_ps(self, other));

        #[inline(always)]
        fn splat(value: f32) -> Self {
            // SAFETY: see `Wide`.
            Self(unsafe { _mm512_set1_ps(value) })
        }

        #[inline(always)]
        fn load(from: &[f32; LANES]) -> Self {
            // SAFETY: see `Wide`; the array is as long as a register, and any alignment will do.
            Self(unsafe { _mm512_loadu_ps(from.as_ptr()) })
        }

        #[inline(always)]
        fn store(self, to: &mut [f32; LANES]) {
            // SAFETY: as in `load`.
            unsafe { _mm512_storeu_ps(to.as_mut_ptr(), self.0) }
        }

        #[inline(always)]
        fn power_of_two(self) -> Self {
            // SAFETY: see `Wide`.
            unsafe {
                let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
                Self(_mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(127 << 23))))
            }
        }

        #[inline(always)]
        fn to_halves(self, to: &mut [u16; LANES]) {
            // SAFETY: see `Wide`; the array has room for the sixteen halves.
            unsafe {
                let bits = _mm512_castps_si512(self.0);
                let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
                let rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
                let halves = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(rounded));
                _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
            }
        }

        #[inline(always)]
        fn from_halves(from: &[u16; LANES]) -> Self {
            // SAFETY: see `Wide`; the array holds the sixteen halves that are read.
            unsafe {
                let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.as_ptr().cast()));
                Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(words)))
            }
        }

        #[inline(always)]
        fn to_bytes(self, to: &mut [u8; LANES]) {
            // SAFETY: see `Wide`; the array has room for the sixteen bytes.
            unsafe {
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm512_cvtepi32_epi8(_mm512_castps_si512(self.0)));
            }
        }

        #[inline(always)]
        fn from_bytes(from: &[u8; LANES]) -> Self {
            // SAFETY: see `Wide`; the array holds the sixteen bytes that are read.
            unsafe {
                let words = _mm512_cvtepu8_epi32(_mm_loadu_si128(from.as_ptr().cast()));
                Self(_mm512_cvtepi32_ps(words))
            }
        }

        #[inline(always)]
        fn total(self) -> f32 {
            // SAFETY: see `Wide`.
            unsafe { _mm512_reduce_add_ps(self.0) }
        }

        #[inline(always)]
        fn largest(self) -> f32 {
            // SAFETY: see `Wide`.
            unsafe { _mm512_reduce_max_ps(self.0) }
        }

        #[inline(always)]
        fn smallest(self) -> f32 {
            // SAFETY: see `Wide`.
            unsafe { _mm512_reduce_min_ps(self.0) }
        }
    }
}

/// Defines `name(isa, …)`, which runs `body` compiled for AVX-512 where the processor has it.
macro_rules! compiled {
    ($(#[$doc:meta])* $name:ident = $body:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?) => {
        $(#[$doc])*
        pub fn $name(isa: Isa, $($arg: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            if isa.avx512() {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn wide($($arg: $type),*) $(-> $result)? {
                    $body::<$crate::backend::cpu::simd::vector::Wide>($($arg),*)
                }
                // SAFETY: the processor has AVX-512 F, BW, DQ and VL (`Isa`), and with it FMA.
                return unsafe { wide($($arg),*) };
            }
            let _ = isa;
            $body::<$crate::backend::cpu::simd::vector::Plain>($($arg),*)
        }
    };
}
pub(super) use compiled;
