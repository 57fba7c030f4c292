//! Embedding many frames into one file.
