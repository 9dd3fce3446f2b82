//! Invalid messages among valid ones.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use lapin::types::{AMQPValue, FieldTable};
use rand::{Rng, seq::SliceRandom};

use super::super::REJECTED;
use super::publisher::{Client, Message, id, timestamp};
use crate::{
    context::FaultContext,
    database::Database,
    outcome::FaultOutcome,
    pipeline::{Expected, Options, Pipeline, PipelineBackends, Service},
    queues,
};

/// Invalid messages by id, each with words of the reason for its rejection.
type Poison = BTreeMap<String, (Message, &'static str)>;

const HUGE: usize = 64 * 1024 * 1024;

/// Creates messages with the current time.
struct MessageFactory<'a, R> {
    random: &'a mut R,
    now: String,
}

impl<R: Rng> MessageFactory<'_, R> {
    fn body(&self, id: &str, metric: &str, values: &str, more: &str) -> String {
        let now = &self.now;
        format!(
            r#"{{"id": "{id}", "llm_name": "GPT-4o", "metric": "{metric}", "values": {values}, "timestamp": "{now}"{more}}}"#
        )
    }

    /// A valid batch of two values.
    fn good(&mut self) -> Message {
        let id = id(self.random);
        Message::new(&id, self.body(&id, "ttft", "[0.5, 0.75]", ""))
    }

    /// A valid batch with a wrong number of values in its header. Only the body counts.
    fn good_with_a_wrong_header(&mut self) -> Message {
        let mut message = self.good();
        let mut headers = FieldTable::default();
        headers.insert("n".into(), AMQPValue::LongLongInt(99));
        message.properties = message.properties.with_headers(headers);
        message
    }

    /// A batch with the id of a stored batch and other values.
    fn conflicting_batch(&mut self, of: &Message) -> anyhow::Result<(String, (Message, &'static str))> {
        let stored = of.properties.message_id().as_ref().context("an id")?;
        let key = id(self.random);
        let body = self.body(stored.as_str(), "ttft", "[0.25]", "");
        Ok((key.clone(), (Message::new(&key, body), "with other content")))
    }

    /// One invalid message of each kind.
    fn poison(&mut self) -> Poison {
        let array = "[".repeat(10_000);
        let bodies: [(&str, &str); 6] = [
            ("not JSON at all", "the body: expected"),
            ("null", "invalid type: null"),
            ("[]", "found an empty array, expected at least one batch"),
            (r#"{"llm_name": "GPT-4o""#, "EOF"),
            ("{\"llm_name\": \"\u{0}\"}", "control character"),
            (&array, "invalid type: sequence"),
        ];
        let batches: [(&str, &str, &str, &str); 9] = [
            (
                "ttft",
                "[0.5]",
                r#", "schema_version": 99"#,
                "schema_version: found 99",
            ),
            ("ttft", "[0.5]", r#", "unit": "furlong""#, "unit: found furlong"),
            ("ttft", "[0.5]", r#", "checksum": "00""#, "checksum: found 00"),
            ("mood", "[0.5]", "", "metric: found mood"),
            ("ttft", "[]", "", "values: found an empty array"),
            ("ttft", "[0.5, NaN]", "", "values"),
            ("ttft", "[1e400]", "", "out of range"),
            ("ttft", "[null]", "", "invalid type: null"),
            ("ttft", "7", "", "values: invalid type"),
        ];
        let mut poison = Poison::new();
        for (body, reason) in bodies {
            let id = id(self.random);
            poison.insert(id.clone(), (Message::new(&id, body), reason));
        }
        for (metric, values, more, reason) in batches {
            let id = id(self.random);
            let body = self.body(&id, metric, values, more);
            poison.insert(id.clone(), (Message::new(&id, body), reason));
        }
        poison
    }
}

/// Publishes every kind of invalid message, shuffled among valid ones, and one message that is far too large.
pub(super) async fn among_good_ones(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    const GOOD_PER_ROUND: usize = 20;
    let rounds = if context.quick { 3 } else { 20 };
    let mut random = context.random(21);
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(21, backends, Options::default()).await?;
    let client = Client::connect(&pipeline.amqp).await?;
    let now = timestamp(&pipeline.database).await?;
    let mut factory = MessageFactory {
        random: &mut random,
        now,
    };

    let stored_batch = factory.good();
    client.publish(std::slice::from_ref(&stored_batch)).await?;
    let mut good = vec![stored_batch.clone()];
    stored(&pipeline, &good).await?;
    let mut poison = Poison::new();
    for _ in 0..rounds {
        let mut invalid = factory.poison();
        invalid.extend([factory.conflicting_batch(&stored_batch)?]);
        let mut harmless = vec![factory.good_with_a_wrong_header()];
        harmless.extend((0..GOOD_PER_ROUND).map(|_| factory.good()));
        let mut mixture: Vec<_> = invalid.values().map(|(message, _)| message.clone()).collect();
        mixture.extend(harmless.iter().cloned());
        mixture.shuffle(factory.random);
        client.publish(&mixture).await?;
        poison.extend(invalid);
        good.extend(harmless);
    }
    let huge = id(factory.random);
    let too_large = (
        Message::new(&huge, vec![b' '; HUGE]),
        "the body has 67108864 bytes",
    );
    client.publish(std::slice::from_ref(&too_large.0)).await?;
    poison.insert(huge, too_large);

    let recovered = pipeline.recovery().await?;
    stored(&pipeline, &good).await?;
    are_dead(&pipeline, &client, &poison).await?;
    let rejected = pipeline.count(Service::Benchmark, REJECTED).await?;
    let evidence = format!(
        "{rejected} rejections, each with its reason; {} good ones among them",
        good.len()
    );
    let dead_letters = poison.len() as u64;
    pipeline
        .settle_recovered(dead_letters, recovered, evidence, &Expected { dead_letters })
        .await
}

/// Waits until every valid batch is stored and counted.
async fn stored(pipeline: &Pipeline, good: &[Message]) -> anyhow::Result<()> {
    let ids: Vec<_> = good
        .iter()
        .filter_map(|message| message.properties.message_id().as_ref())
        .map(ToString::to_string)
        .collect();
    ensure!(ids.len() == good.len(), "a good message without id");
    pipeline
        .until("every good batch is counted", async || {
            Ok(counted(&pipeline.database, &ids).await? == ids.len())
        })
        .await
}

async fn counted(database: &Database, ids: &[String]) -> anyhow::Result<usize> {
    let mut connection = database.connect().await?;
    let counted: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM batches b JOIN ledger l ON l.batch_id = b.id
         WHERE b.id = ANY($1::text[]::uuid[]) AND b.source = 'imported'",
    )
    .bind(ids)
    .fetch_one(&mut connection)
    .await?;
    Ok(usize::try_from(counted)?)
}

/// Checks that exactly the invalid messages are dead letters, unchanged and each with its reason.
async fn are_dead(pipeline: &Pipeline, client: &Client, poison: &Poison) -> anyhow::Result<()> {
    pipeline
        .until("all poison is dead", async || {
            Ok(client.ready(queues::DEAD_LETTERS).await? >= poison.len() as u64)
        })
        .await?;
    let letters = client.read_all(queues::DEAD_LETTERS).await?;
    ensure!(
        letters.len() == poison.len(),
        "{} dead letters of {} poisonous messages",
        letters.len(),
        poison.len()
    );
    for letter in &letters {
        let id = letter
            .properties
            .message_id()
            .as_ref()
            .context("a letter without id")?;
        let (message, words) = poison
            .get(id.as_str())
            .with_context(|| format!("{id} is dead and was no poison"))?;
        let reason = letter
            .reason()
            .with_context(|| format!("a dead letter without reason, expected {words:?}"))?;
        ensure!(
            reason.contains(words),
            "the reason is {reason:?}, expected {words:?}"
        );
        ensure!(
            letter.body == message.body,
            "the dead letter {words:?} has another body"
        );
    }
    Ok(())
}
