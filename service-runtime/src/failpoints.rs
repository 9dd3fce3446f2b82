//! Fault injection for the fault suite.

/// Reads from `FAILPOINTS` at which points this process is to abort (syntax: that of the crate `fail`). Without the
/// feature `failpoints`, which nothing that is deployed is built with, there are no such points and nothing is read.
pub fn arm() {
    #[cfg(feature = "failpoints")]
    // The scenario is that of the whole process: its end would disarm every point.
    std::mem::forget(fail::FailScenario::setup());
}
