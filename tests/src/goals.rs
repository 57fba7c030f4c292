//! What `make size`, `make soak` and `make bench-heads` were meant to reach, and whether they did.

/// Prints one goal. A goal that is missed is a finding, not a failure: only what could not be measured is an error.
pub fn goal(what: &str, wanted: &str, measured: &str, met: bool) {
    let verdict = if met { "met" } else { "missed" };
    println!("goal={what} {wanted} measured={measured} {verdict}");
}
