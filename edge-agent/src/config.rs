//! Configuration: file, environment, flags.
