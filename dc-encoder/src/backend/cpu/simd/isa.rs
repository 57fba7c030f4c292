//! Which instructions this processor has.

/// Instructions that the kernels may use. A value with a flag set exists only where the processor has what the flag
/// says: that is what makes calling the kernels sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa {
    avx512: bool,
    bf16: bool,
    bf16_as_f32: bool,
    vnni: bool,
}

impl Isa {
    /// What this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
            let (bf16, vnni) = (avx512 && has!("avx512bf16"), avx512 && has!("avx512vnni"));
            let bf16_as_f32 = avx512 && (!bf16 || super::tile::wider_is_quicker());
            Self { avx512, bf16, bf16_as_f32, vnni }
        }
        #[cfg(not(target_arch = "x86_64"))]
        Self::portable()
    }

    /// Plain Rust and the `gemm` crate, on any processor.
    pub const fn portable() -> Self {
        Self { avx512: false, bf16: false, bf16_as_f32: false, vnni: false }
    }

    /// Whether the AVX-512 kernels may run.
    pub fn avx512(self) -> bool {
        self.avx512
    }

    /// Whether products of bf16 have an instruction (AVX512-BF16).
    pub fn bf16(self) -> bool {
        self.bf16
    }

    /// Whether products of bf16 are made as products of f32 (AVX-512): there is no instruction for them, or a slower one.
    pub fn bf16_as_f32(self) -> bool {
        self.bf16_as_f32
    }

    /// The same processor, made to do so or not where it can do both.
    #[cfg(test)]
    pub(super) fn with_bf16_as_f32(self, bf16_as_f32: bool) -> Self {
        let can_choose = self.avx512 && self.bf16;
        Self { bf16_as_f32: if can_choose { bf16_as_f32 } else { self.bf16_as_f32 }, ..self }
    }

    /// Whether products of bytes have an instruction (AVX512-VNNI).
    pub fn vnni(self) -> bool {
        self.vnni
    }
}

/// How the operands of a product are stored, in words of 32 bits along the axis that is summed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One f32 a word.
    F32,
    /// Two bf16 a word, products and sums in f32.
    Bf16,
    /// Four bytes a word: unsigned on the left, signed on the right, sums in i32.
    Int8,
}

impl Format {
    /// Numbers in a word.
    pub fn per_word(self) -> usize {
        match self {
            Self::F32 => 1,
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// Words that hold `numbers` numbers.
    pub fn words(self, numbers: usize) -> usize {
        numbers.div_ceil(self.per_word())
    }
}
