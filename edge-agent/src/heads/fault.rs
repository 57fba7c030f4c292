//! A head that panics on a frame, for tests of the whole agent: nothing that a head file says makes one panic. Only the
//! tests of this crate are built with the feature.

/// A head of this unit panics.
#[cfg(feature = "fault-injection")]
const UNIT: &str = "panics";

/// Panics where a test asked for it.
#[cfg(feature = "fault-injection")]
pub(super) fn strike(unit: &str) {
    assert_ne!(unit, UNIT, "a test asked for it");
}

/// Does nothing.
#[cfg(not(feature = "fault-injection"))]
pub(super) fn strike(_: &str) {}
