//! Decoding, encoding and resizing frames.
