//! One fault of the suite.

use futures::future::LocalBoxFuture;

use crate::{context::FaultContext, outcome::FaultOutcome};

/// Injects a fault and checks the invariants.
pub(crate) type Inject = fn(&mut FaultContext) -> LocalBoxFuture<'_, anyhow::Result<FaultOutcome>>;

/// A fault: what is broken, and the function that injects it. The numbers are those of docs/faults.md.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    /// Whether it is part of the quick run in CI, which takes ten minutes.
    pub(crate) quick: bool,
    pub(crate) inject: Inject,
}
