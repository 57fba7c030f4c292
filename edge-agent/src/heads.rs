//! The loaded heads.
