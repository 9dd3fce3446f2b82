use async_trait::async_trait;
use storage::{Result, SimulationProgress};

use crate::SqliteStorage;

#[async_trait]
impl SimulationProgress for SqliteStorage {
    async fn seed_or_store(&self, drawn: u64) -> Result<u64> {
        self.run("read the simulation's seed", async || {
            let seed: i64 = sqlx::query_scalar(
                "INSERT INTO simulation_seed (only_row, seed) VALUES (1, $1)
                 ON CONFLICT (only_row) DO UPDATE SET seed = simulation_seed.seed
                 RETURNING seed",
            )
            .bind(drawn.cast_signed())
            .fetch_one(&self.writer)
            .await?;
            Ok(seed.cast_unsigned())
        })
        .await
    }

    async fn take_tick(&self, seed: u64) -> Result<u64> {
        self.run("take a tick", async || {
            let tick: i64 = sqlx::query_scalar(
                "INSERT INTO simulation_ticks (seed, next_tick) VALUES ($1, 1)
                 ON CONFLICT (seed) DO UPDATE SET next_tick = simulation_ticks.next_tick + 1
                 RETURNING next_tick - 1",
            )
            .bind(seed.cast_signed())
            .fetch_one(&self.writer)
            .await?;
            Ok(tick.cast_unsigned())
        })
        .await
    }
}
