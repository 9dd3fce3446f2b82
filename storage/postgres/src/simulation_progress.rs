use async_trait::async_trait;
use storage::{Result, SimulationProgress};

use crate::PostgresStorage;

#[async_trait]
impl SimulationProgress for PostgresStorage {
    async fn seed_or_store(&self, drawn: u64) -> Result<u64> {
        self.retrying("read the simulation's seed", async || {
            sqlx::query("INSERT INTO simulation_seed (seed) VALUES ($1) ON CONFLICT DO NOTHING")
                .bind(drawn.cast_signed())
                .execute(&self.pool)
                .await?;
            // A statement of its own: the one above does not see the row that it found in its way.
            let seed: i64 = sqlx::query_scalar("SELECT seed FROM simulation_seed")
                .fetch_one(&self.pool)
                .await?;
            Ok(seed.cast_unsigned())
        })
        .await
    }

    async fn take_tick(&self, seed: u64) -> Result<u64> {
        self.retrying("take a tick", async || {
            let tick: i64 = sqlx::query_scalar(
                "INSERT INTO simulation_ticks (seed, next_tick) VALUES ($1, 1)
                 ON CONFLICT (seed) DO UPDATE SET next_tick = simulation_ticks.next_tick + 1
                 RETURNING next_tick - 1",
            )
            .bind(seed.cast_signed())
            .fetch_one(&self.pool)
            .await?;
            Ok(tick.cast_unsigned())
        })
        .await
    }
}
