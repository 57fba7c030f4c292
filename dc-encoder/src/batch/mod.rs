//! Which frames go into the next batch: a pure policy.
