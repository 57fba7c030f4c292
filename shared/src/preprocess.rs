//! From pixels to the encoder's input.
