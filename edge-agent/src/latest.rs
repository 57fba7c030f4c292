//! The newest frame wins.
