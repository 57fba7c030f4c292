//! Motion JPEG as cameras send it.
