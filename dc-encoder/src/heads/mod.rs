//! Training heads from labels.
