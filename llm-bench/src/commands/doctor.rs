use std::time::Duration;

use service_runtime::settings::{BrokerKind, DatabaseKind, Variables};

use crate::context::{Context, UsageError};
use crate::say::say;

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was found, and what to do about it.
enum Finding {
    Well(String),
    Ill { found: String, advice: String },
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
                &ill(
                    format!("{refused:#}"),
                    "correct this variable in the environment or in .env",
                ),
            );
            return Err(refused.context("one check failed"));
        }
    };
    let findings = [
        (
            "settings",
            Finding::Well("every variable is understood".to_owned()),
        ),
        ("database", database(&context).await),
        ("broker", broker(&context).await),
    ];
    for (name, finding) in &findings {
        show(name, finding);
    }
    let failed = findings
        .iter()
        .filter(|(_, finding)| matches!(finding, Finding::Ill { .. }))
        .count();
    anyhow::ensure!(failed == 0, "{failed} of {} checks failed", findings.len());
    Ok(())
}

/// Reads what every program reads, so that each refused variable shows here.
fn read(variables: Variables) -> anyhow::Result<Context> {
    simulation_service::SimulationSettings::read(&variables).map_err(UsageError)?;
    benchmark_service::Settings::read(&variables).map_err(UsageError)?;
    Context::from_variables(variables)
}

async fn database(context: &Context) -> Finding {
    let place = context.database_place();
    let advice =
        "is the server up, and are DATABASE_URL or POSTGRES_* right? `make services` starts one to try";
    let storage = match context.storage_as_it_is() {
        Ok(storage) => storage,
        Err(error) => return ill(format!("{place}: {error:#}"), advice),
    };
    // Asked first because it is never retried: its error says why. (A new SQLite file is locked while it is made.)
    if matches!(context.settings.database.kind, DatabaseKind::Postgres { .. })
        && let Ok(Err(error)) = tokio::time::timeout(PATIENCE, storage.ping()).await
    {
        return ill(format!("{place}: {:#}", anyhow::Error::from(error)), advice);
    }
    match tokio::time::timeout(PATIENCE, storage.database_info()).await {
        Err(_elapsed) => ill(format!("{place}: no answer within {PATIENCE:?}"), advice),
        Ok(Err(error)) => ill(format!("{place}: {:#}", anyhow::Error::from(error)), advice),
        Ok(Ok(info)) if info.pending_migrations > 0 => ill(
            format!(
                "{place}: {}; {} migrations are missing",
                info.version, info.pending_migrations
            ),
            "run `llm-bench migrate`, or start a service (MIGRATE_AT_START)",
        ),
        Ok(Ok(info)) => Finding::Well(format!(
            "{place}: {}; schema up to date ({})",
            info.version, info.applied_migrations
        )),
    }
}

async fn broker(context: &Context) -> Finding {
    if matches!(context.settings.broker.kind, BrokerKind::InProcess) {
        return Finding::Well("in-process: `llm-bench up` runs both services in one process".to_owned());
    }
    let advice = "is the server up, and are AMQP_URL or RABBITMQ_* right? `make services` starts one to try";
    let info = match context.connected_broker(PATIENCE).await {
        Ok((broker, info)) => {
            broker.close().await;
            info
        }
        Err(error) => return ill(format!("{error:#}"), advice),
    };
    if info.dead > 0 {
        return ill(
            format!(
                "{}; {} messages queued, {} dead letters",
                info.version, info.queued, info.dead
            ),
            "`llm-bench dead-letters list` says why they were rejected",
        );
    }
    Finding::Well(format!(
        "{}; {} messages queued, no dead letters",
        info.version, info.queued
    ))
}

fn ill(found: String, advice: &str) -> Finding {
    Finding::Ill {
        found,
        advice: advice.to_owned(),
    }
}

fn show(name: &str, finding: &Finding) {
    match finding {
        Finding::Well(found) => say!("ok      {name:9} {found}"),
        Finding::Ill { found, advice } => say!("FAILED  {name:9} {found}\n                  → {advice}"),
    }
}
