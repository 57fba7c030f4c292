//! Getting frames to an encoder and embeddings back.
