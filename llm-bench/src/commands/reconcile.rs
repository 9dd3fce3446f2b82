use anyhow::{Context as _, bail};
use benchmark_service::HousekeepingSettings;
use storage::{Mismatch, Period, Requeued, Storage};

use crate::{
    context::{ANSWER_TIMEOUT, Context, UsageError},
    progress::progress_bar,
    say::say,
    table::table,
};

/// Batches that are entered into the outbox again in one transaction.
const REQUEUE_LIMIT: u32 = 1000;
/// Batches that are folded again between two updates of the progress bar.
const AUDIT_STEP: u64 = 2000;
/// The most mismatches that are shown.
const MOST_SHOWN: usize = 100;

pub(crate) async fn run(context: Context) -> anyhow::Result<()> {
    let settings = HousekeepingSettings::read(&context.variables).map_err(UsageError)?;
    let storage = context.existing_storage().await?;
    say!("database: {}", context.database_label());
    let queued = queued(&context).await;
    let grace = settings.grace_with(queued);
    let requeued = requeue(storage.as_ref(), grace).await?;
    match requeued.requeued {
        0 => say!(
            "nothing to send again: {} stored batches are overdue and not counted",
            requeued.uncounted
        ),
        n => say!(
            "{n} of {} overdue batches are to be sent again; a running service does so",
            requeued.uncounted
        ),
    }
    let (batches, mismatches) = audit(storage.as_ref()).await?;
    storage.close().await;
    if mismatches.is_empty() {
        say!("folded {batches} batches again: every statistic is what they say");
        return Ok(());
    }
    show(&mismatches);
    bail!(
        "{} rows of statistics are not what {batches} batches say; run `llm-bench rebuild`",
        mismatches.len()
    )
}

/// How many messages wait in the queue; `None` if the broker cannot be asked. An embedded broker is empty: its queue ends
/// with its process.
async fn queued(context: &Context) -> Option<u64> {
    if context.embedded_broker() {
        return Some(0);
    }
    match context.connected_broker(ANSWER_TIMEOUT).await {
        Ok((broker, info)) => {
            broker.close().await;
            Some(info.queued)
        }
        Err(error) => {
            say!("{error:#}; so only what is very old is sent again");
            None
        }
    }
}

async fn requeue(storage: &dyn Storage, grace: std::time::Duration) -> anyhow::Result<Requeued> {
    let mut total = Requeued::default();
    loop {
        let step = storage.requeue_uncounted(grace, REQUEUE_LIMIT).await;
        let step = step.context("looking for batches that were never counted")?;
        total.uncounted = step.uncounted;
        total.requeued += step.requeued;
        if step.requeued < u64::from(REQUEUE_LIMIT) {
            return Ok(total);
        }
    }
}

/// Audits all statistics; returns how many batches were folded again, and the mismatches.
async fn audit(storage: &dyn Storage) -> anyhow::Result<(u64, Vec<Mismatch>)> {
    let all = storage.counted_batches().await?;
    let bar = progress_bar(all, "batches")?;
    let (mut from, mut batches, mut mismatches) = (None, 0, Vec::new());
    loop {
        let step = storage.audit(from, AUDIT_STEP).await;
        let step = step.context("auditing the statistics")?;
        batches += step.batches;
        mismatches.extend(step.mismatches);
        bar.set_position(batches);
        from = step.next;
        if from.is_none() {
            bar.finish_and_clear();
            return Ok((batches, mismatches));
        }
    }
}

fn show(mismatches: &[Mismatch]) {
    let rows = mismatches
        .iter()
        .take(MOST_SHOWN)
        .map(|Mismatch { key, period }| {
            [
                key.llm.to_string(),
                key.metric.to_string(),
                key.source.as_str().to_owned(),
                match period {
                    Period::AllTime => "all time".to_owned(),
                    Period::Hour(hour) => hour.start().to_rfc3339(),
                },
            ]
        });
    say!(
        "{}",
        table(["LLM", "metric", "source", "period"], &["LLM", "metric"], rows)
    );
    if mismatches.len() > MOST_SHOWN {
        say!("… and {} more", mismatches.len() - MOST_SHOWN);
    }
}
