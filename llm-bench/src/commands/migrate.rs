use std::time::Duration;

use anyhow::{Context as _, bail};
use service_runtime::settings::registry_seed;
use storage::{ServiceRole, Storage};

use crate::{
    cli::Migrate,
    context::{Context, UsageError},
    say::say,
};

/// How long `--wait` waits.
const TIMEOUT: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) async fn run(options: Migrate, context: Context) -> anyhow::Result<()> {
    let storage = context.storage_without_migration()?;
    if options.wait {
        tokio::time::timeout(TIMEOUT, until_current(storage.as_ref()))
            .await
            .with_context(|| format!("the schema was not brought up to date within {TIMEOUT:?}"))??;
        say!("the schema is up to date");
    } else {
        match storage.migrate().await.context("migrating")? {
            0 => say!("the schema is up to date; nothing to do"),
            n => say!("applied {n} migrations; the schema is up to date"),
        }
        grant(&options, &context, storage.as_ref()).await?;
    }
    Ok(())
}

/// Grants what each role needs. Also fills an empty registry, because the role of a producer may not do that.
async fn grant(options: &Migrate, context: &Context, storage: &dyn Storage) -> anyhow::Result<()> {
    let roles = [
        (&options.producer_role, ServiceRole::Producer),
        (&options.consumer_role, ServiceRole::Consumer),
    ];
    for (role, service) in roles {
        let Some(role) = role else { continue };
        let seed = registry_seed(&context.variables).map_err(UsageError)?;
        storage.seed(&seed, context.clock.now()).await?;
        storage
            .grant(role, service)
            .await
            .with_context(|| format!("granting to {role}"))?;
        say!("{role} may do what a {service} does, and nothing else");
    }
    Ok(())
}

async fn until_current(storage: &dyn Storage) -> anyhow::Result<()> {
    loop {
        match storage.database_info().await {
            Ok(info) if info.pending_migrations == 0 => return Ok(()),
            Ok(info) => tracing::warn!(schema.pending = info.pending_migrations, "waiting for migrations"),
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "waiting for the database"
                );
            }
            Err(error) => bail!(error),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
