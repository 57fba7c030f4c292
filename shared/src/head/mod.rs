//! Head files and their forward pass.
