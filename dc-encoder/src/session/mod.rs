//! One agent's connection.
