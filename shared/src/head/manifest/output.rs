//! What a head answers, and the range around it.

use serde::{Deserialize, Serialize};

/// How the network's numbers become a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Scalar, circular or classes.
    pub kind: OutputKind,
    /// Unit of the value, such as `people`, `minute` or `probability`.
    pub unit: String,
    /// Answers below this are raised to it, such as 0 for a count. Scalar outputs only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
}

/// Shape of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum OutputKind {
    /// One number, the value itself.
    Scalar,
    /// Two numbers, `(cos, sin)` of the value's angle; the value is in `[0, period)`.
    Circular {
        /// Length of one turn in the output's unit, 1440 for a minute of the day.
        period: f64,
    },
    /// One number for each class, about 1 for the class that is seen and 0 for the others; the answer is the class of
    /// the largest, the value its share of the positive numbers.
    Classes {
        /// Names of the classes, 2 to [`MAX_CLASSES`](crate::head::limits::MAX_CLASSES), each once.
        names: Vec<String>,
    },
}

impl OutputKind {
    /// How many numbers the network gives: `O` in the tensor shapes.
    pub fn width(&self) -> usize {
        match self {
            Self::Scalar => 1,
            Self::Circular { .. } => 2,
            Self::Classes { names } => names.len(),
        }
    }

    /// Names of the classes; empty for a number.
    pub fn classes(&self) -> &[String] {
        match self {
            Self::Scalar | Self::Circular { .. } => &[],
            Self::Classes { names } => names,
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
