use async_trait::async_trait;

use crate::Result;

/// What the simulation must remember across restarts.
#[async_trait]
pub trait SimulationProgress: Send + Sync {
    /// The stored seed; where there is none yet, stores `drawn` and gives it back. Concurrent callers get the same.
    async fn seed_or_store(&self, drawn: u64) -> Result<u64>;

    /// Takes the next tick number of this seed: 0, 1, 2, … No two calls get the same number, so that replicas never
    /// generate the same batch; a number that was taken and not used stays unused.
    async fn take_tick(&self, seed: u64) -> Result<u64>;
}
