//! Loading TOML configuration, unknown keys rejected.
