//! Decoding frames in parallel with encoding.
