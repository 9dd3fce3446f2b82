use anyhow::{Context as _, bail, ensure};
use broker::{Broker, DeadLetter, Selection};
use std::{sync::Arc, time::Duration};

use crate::say::say;
use crate::{
    cli::{DeadLetters, Selected},
    context::Context,
    table::table,
};

/// As many as anybody can look through, or as fit in memory.
const EVERY: usize = 100_000;
/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) async fn run(action: DeadLetters, context: Context) -> anyhow::Result<()> {
    if context.embedded_broker() {
        bail!(
            "the embedded broker keeps dead letters in the memory of `llm-bench up` only (its log names each one); \
             set AMQP_URL to look after RabbitMQ's"
        );
    }
    let broker = context.broker()?;
    connected(&broker).await?;
    let done = act(action, &broker).await;
    broker.close().await;
    done
}

async fn act(action: DeadLetters, broker: &Arc<dyn Broker>) -> anyhow::Result<()> {
    let letters = broker.dead_letters();
    match action {
        DeadLetters::List { limit } => show_list(&letters.list(limit).await?),
        DeadLetters::Show { id } => {
            let all = letters.list(EVERY).await?;
            let letter = all.iter().find(|letter| letter.id == id);
            show_one(letter.with_context(|| format!("there is no dead letter {id}"))?);
        }
        DeadLetters::Replay(selected) => {
            let selection = selection(selected);
            report("replayed", &letters.replay(&selection).await?, &selection)?;
        }
        DeadLetters::Discard(selected) => {
            let selection = selection(selected);
            report("discarded", &letters.discard(&selection).await?, &selection)?;
        }
    }
    Ok(())
}

async fn connected(broker: &Arc<dyn Broker>) -> anyhow::Result<()> {
    let asked = async {
        loop {
            match broker.info().await {
                Ok(_) => return,
                Err(error) => tracing::debug!(error = &error as &dyn std::error::Error, "connecting"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, asked).await;
    in_time.with_context(|| format!("the broker is not usable: {}", broker.publisher().link()))
}

fn selection(selected: Selected) -> Selection {
    if selected.all {
        Selection::All
    } else {
        Selection::Ids(selected.ids)
    }
}

fn show_list(letters: &[DeadLetter]) {
    if letters.is_empty() {
        say!("there are no dead letters");
        return;
    }
    let rows = letters.iter().map(|letter| {
        [
            letter.id.clone(),
            rejected_at(letter),
            letter.body.len().to_string(),
            letter.reason.clone(),
        ]
    });
    say!(
        "{}",
        table(["id", "rejected at", "bytes", "reason"], &["bytes"], rows)
    );
}

fn show_one(letter: &DeadLetter) {
    say!("id           {}", letter.id);
    say!("rejected at  {}", rejected_at(letter));
    say!("routing key  {}", letter.routing_key);
    say!("reason       {}", letter.reason);
    say!("\n{}", String::from_utf8_lossy(&letter.body));
}

fn rejected_at(letter: &DeadLetter) -> String {
    letter
        .rejected_at
        .map_or_else(|| "unknown".to_owned(), |at| at.to_rfc3339())
}

fn report(done: &str, ids: &[String], selection: &Selection) -> anyhow::Result<()> {
    for id in ids {
        say!("{id}");
    }
    say!("{done} {} dead letters", ids.len());
    if let Selection::Ids(wanted) = selection {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|id| !ids.contains(id))
            .map(String::as_str)
            .collect();
        ensure!(
            missing.is_empty(),
            "there is no dead letter {}",
            missing.join(", ")
        );
    }
    Ok(())
}
