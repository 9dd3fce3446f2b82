//! Fault injection for the fault suite.

/// Reads from the variable `FAILPOINTS` at which points of the code this process aborts (in the syntax of the crate `fail`).
/// Does nothing without the feature `failpoints`, with which nothing that is deployed is built.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    // Never dropped: dropping the scenario would disarm every point.
    std::mem::forget(fail::FailScenario::setup());
}
