//! One fault of the suite.

use futures::future::LocalBoxFuture;

use crate::{servers::Bench, verdict::Verdict};

/// Injects a fault and judges what came of it.
pub(crate) type Inject = fn(&mut Bench) -> LocalBoxFuture<'_, anyhow::Result<Verdict>>;

/// A fault: what is broken, and the function that injects it. The numbers are those of ARCHITECTURE.md.
#[derive(Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) number: u8,
    pub(crate) name: &'static str,
    /// Part of the ten minutes of CI.
    pub(crate) quick: bool,
    pub(crate) inject: Inject,
}
