//! The Nyström ViT.
