//! What the frame path tells the sinks, before anything is formatted.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Which frame a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameInfo {
    /// Name of the camera.
    pub camera: Arc<str>,
    /// Number of the frame in this run, from 0.
    pub seq: u64,
    /// When the camera took it.
    pub captured_at: Timestamp,
    /// The file it came from, as its list names it; none for a live source.
    pub id: Option<Arc<str>>,
}

/// Which head a line is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadInfo {
    /// Name of the head.
    pub name: String,
    /// First 12 hex digits of its release.
    pub release: String,
    /// Unit of its values.
    pub unit: String,
    /// Names of its classes; empty for a head that answers with a number.
    pub classes: Vec<String>,
}

/// Where a frame's time went. The encoder's own stages come with its reply; `network` is what remains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stages {
    /// Reading it from the source.
    pub capture: Duration,
    /// Resizing and JPEG, if that was needed.
    pub prepare: Duration,
    /// Until all its bytes were handed to the connection.
    pub send: Duration,
    /// What remains: both ways through the network, and waiting for the connection to send.
    pub network: Duration,
    /// Waiting at the encoder.
    pub queue: Duration,
    /// JPEG to pixels at the encoder.
    pub decode: Duration,
    /// The encoder itself.
    pub encode: Duration,
    /// From the reply's first byte to numbers.
    pub reply: Duration,
    /// All heads.
    pub heads: Duration,
}

impl Stages {
    /// All of them together.
    #[must_use]
    pub fn sum(&self) -> Duration {
        let Self { capture, prepare, send, network, queue, decode, encode, reply, heads } = *self;
        [capture, prepare, send, network, queue, decode, encode, reply, heads].iter().sum()
    }
}

/// One line of output.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A head's answer.
    Answer(Answer),
    /// A head that could not answer.
    HeadFailed {
        /// The frame.
        frame: FrameInfo,
        /// The head.
        head: Arc<HeadInfo>,
        /// Why, in words.
        error: String,
    },
    /// A frame that was not answered.
    Dropped {
        /// The frame.
        frame: FrameInfo,
        /// Why, in words.
        reason: String,
    },
}

/// A head's answer for a frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The frame.
    pub frame: FrameInfo,
    /// The head.
    pub head: Arc<HeadInfo>,
    /// The answer, in the head's unit; for a class its probability.
    pub value: f64,
    /// Place of the answer among the head's classes.
    pub class: Option<usize>,
    /// Range that holds the true value with the head's stated probability.
    pub interval: Option<[f64; 2]>,
    /// Repeated, because no newer answer came.
    pub stale: bool,
    /// The frame showed nothing new: from the last embedding, not from one of its own.
    pub reused: bool,
    /// Time since the frame was complete in the agent's memory.
    pub age: Duration,
    /// Where the time went.
    pub stages: Stages,
}

impl Answer {
    /// Name of the class that was answered.
    #[must_use]
    pub fn class_name(&self) -> Option<&str> {
        self.head.classes.get(self.class?).map(String::as_str)
    }
}
