//! What a head answers, and the range around it.

use serde::{Deserialize, Serialize};

/// How the network's numbers become a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Scalar or circular.
    pub kind: OutputKind,
    /// Unit of the value, such as `people` or `minute`.
    pub unit: String,
    /// Answers below this are raised to it, such as 0 for a count. Scalar outputs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

/// Shape of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OutputKind {
    /// One number, the value itself.
    Scalar,
    /// Two numbers, `(cos, sin)` of the value's angle; the value is in `[0, period)`.
    Circular {
        /// Length of one turn in the output's unit, 1440 for a minute of the day.
        period: f64,
    },
}

impl OutputKind {
    /// How many numbers the network gives: `O` in the tensor shapes.
    pub fn width(&self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Circular { .. } => 2,
        }
    }
}

/// `[value + lower, value + upper]` holds the true value with probability `level`, as measured by
/// cross-validation on the training frames. For a kernel head both are times the deviation of the frame at hand.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IntervalOffsets {
    /// Stated probability, in (0, 1).
    pub level: f64,
    /// Added to the value for the lower end.
    pub lower: f64,
    /// Added to the value for the upper end.
    pub upper: f64,
}
