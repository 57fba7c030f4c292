//! One trait for every device that can run the encoder.
