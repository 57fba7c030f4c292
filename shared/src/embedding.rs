//! Embeddings and their wire encodings.
