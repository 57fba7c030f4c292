//! The number format of the encoder's products.

use std::fmt;

/// The number format of the encoder's products; everything between them is f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// As the weights are: the reference.
    #[default]
    F32,
    /// Half the memory, and faster where the processor's AVX512-BF16 is.
    Bf16,
    /// A quarter of the memory; weights rounded by channel, activations by token (AVX512-VNNI).
    Int8,
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}
