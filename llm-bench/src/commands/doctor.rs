use std::time::Duration;

use service_runtime::settings::{BrokerKind, DatabaseKind, Variables};

use crate::{
    context::{Context, UsageError},
    say::say,
};

/// How long a check waits for a server.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The result of a check. A failure comes with advice.
enum Check {
    Passed(String),
    Failed { found: String, advice: String },
}

pub(crate) async fn run() -> anyhow::Result<()> {
    let context = match Variables::from_process()
        .map_err(UsageError)
        .map_err(anyhow::Error::from)
        .and_then(read)
    {
        Ok(context) => context,
        Err(refused) => {
            show(
                "settings",
                &failure(
                    format!("{refused:#}"),
                    "correct this variable in the environment or in .env",
                ),
            );
            return Err(refused.context("one check failed"));
        }
    };
    let checks = [
        (
            "settings",
            Check::Passed("every variable is understood".to_owned()),
        ),
        ("database", database(&context).await),
        ("broker", broker(&context).await),
    ];
    for (name, check) in &checks {
        show(name, check);
    }
    let failed = checks
        .iter()
        .filter(|(_, check)| matches!(check, Check::Failed { .. }))
        .count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", checks.len());
    Ok(())
}

/// Reads the settings of every program, so that a refused variable of any of them is found.
fn read(variables: Variables) -> anyhow::Result<Context> {
    simulation_service::SimulationSettings::read(&variables).map_err(UsageError)?;
    benchmark_service::Settings::read(&variables).map_err(UsageError)?;
    Context::from_variables(variables)
}

async fn database(context: &Context) -> Check {
    let place = context.database_label();
    let advice =
        "is the server up, and are DATABASE_URL or POSTGRES_* right? `make services` starts one to try";
    let storage = match context.storage_without_migration() {
        Ok(storage) => storage,
        Err(error) => return failure(format!("{place}: {error:#}"), advice),
    };
    // The ping comes first because it is never retried, so its error tells the cause. (Not for SQLite: a new file is
    // locked while it is created.)
    if matches!(context.settings.database.kind, DatabaseKind::Postgres { .. })
        && let Ok(Err(error)) = tokio::time::timeout(TIMEOUT, storage.ping()).await
    {
        return failure(format!("{place}: {:#}", anyhow::Error::from(error)), advice);
    }
    match tokio::time::timeout(TIMEOUT, storage.database_info()).await {
        Err(_elapsed) => failure(format!("{place}: no answer within {TIMEOUT:?}"), advice),
        Ok(Err(error)) => failure(format!("{place}: {:#}", anyhow::Error::from(error)), advice),
        Ok(Ok(info)) if info.pending_migrations > 0 => failure(
            format!(
                "{place}: {}; {} migrations are missing",
                info.version, info.pending_migrations
            ),
            "run `llm-bench migrate`, or start a service (MIGRATE_AT_START)",
        ),
        Ok(Ok(info)) => Check::Passed(format!(
            "{place}: {}; schema up to date ({})",
            info.version, info.applied_migrations
        )),
    }
}

async fn broker(context: &Context) -> Check {
    if matches!(context.settings.broker.kind, BrokerKind::InProcess) {
        return Check::Passed("in-process: `llm-bench up` runs both services in one process".to_owned());
    }
    let advice = "is the server up, and are AMQP_URL or RABBITMQ_* right? `make services` starts one to try";
    let info = match context.connected_broker(TIMEOUT).await {
        Ok((broker, info)) => {
            broker.close().await;
            info
        }
        Err(error) => return failure(format!("{error:#}"), advice),
    };
    if info.dead > 0 {
        return failure(
            format!(
                "{}; {} messages queued, {} dead letters",
                info.version, info.queued, info.dead
            ),
            "`llm-bench dead-letters list` says why they were rejected",
        );
    }
    Check::Passed(format!(
        "{}; {} messages queued, no dead letters",
        info.version, info.queued
    ))
}

fn failure(found: String, advice: &str) -> Check {
    Check::Failed {
        found,
        advice: advice.to_owned(),
    }
}

fn show(name: &str, check: &Check) {
    match check {
        Check::Passed(found) => say!("ok      {name:9} {found}"),
        Check::Failed { found, advice } => say!("FAILED  {name:9} {found}\n                  → {advice}"),
    }
}
