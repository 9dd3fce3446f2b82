use std::time::Duration;

use shared_types::{Clock, RegistrySeed};
use storage::{Result, Storage};

/// Makes a database ready for a service: applies missing migrations where `migrate` says so, and fills an empty
/// registry. Waits for a database that is away, however long that takes; cancel-safe.
///
/// # Errors
/// A fault that waiting does not heal.
pub async fn prepare_database(
    storage: &dyn Storage,
    migrate: bool,
    seed: &RegistrySeed,
    clock: &dyn Clock,
) -> Result<()> {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);
    let mut pause = SHORTEST_PAUSE;
    loop {
        match try_to_prepare(storage, migrate, seed, clock).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the database is away; waiting for it"
                );
            }
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_to_prepare(
    storage: &dyn Storage,
    migrate: bool,
    seed: &RegistrySeed,
    clock: &dyn Clock,
) -> Result<()> {
    if migrate {
        let applied = storage.migrate().await?;
        if applied > 0 {
            tracing::info!(schema.applied = applied, "migrated");
        }
    }
    storage.seed(seed, clock.now()).await
}
