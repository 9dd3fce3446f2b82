//! Messages are delivered several times, in any order.

use anyhow::Context as _;
use lapin::{
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use rand::{RngExt, seq::SliceRandom};

use super::publisher::{Client, EXCHANGE, Message, id, timestamp};
use crate::{
    context::FaultContext,
    outcome::{FaultOutcome, ensure_happened},
    pipeline::{DEDUPLICATED, Expected, Options, Pipeline, PipelineBackends, Service},
};

const COPIES: usize = 3;

/// Publishes copies of the simulation's messages and new messages, each three times and shuffled, while the simulation
/// publishes.
pub(super) async fn storm(context: &mut FaultContext) -> anyhow::Result<FaultOutcome> {
    let each = if context.quick { 300 } else { 3_000 };
    let mut random = context.random(20);
    let backends = PipelineBackends::create(context).await?;
    let pipeline = Pipeline::start(20, backends, Options::default()).await?;
    let client = Client::connect(&pipeline.amqp).await?;
    let before = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;

    let mut messages = read_published(&client, &pipeline, each).await?;
    let now = timestamp(&pipeline.database).await?;
    messages.extend((0..each).map(|_| {
        let id = id(&mut random);
        let values: Vec<f64> = (0..10).map(|_| f64::from(random.random_range(1..2048)) / 1024.0).collect();
        let body = format!(
            r#"{{"id": "{id}", "llm_name": "GPT-4o", "metric": "ttft", "values": {values:?}, "timestamp": "{now}"}}"#
        );
        Message::new(&id, body)
    }));
    let mut storm = vec![messages; COPIES].concat();
    storm.shuffle(&mut random);
    client.publish(&storm).await?;

    // All copies of the simulation's messages are duplicates; of the new messages all but one.
    let duplicates = (each * COPIES + each * (COPIES - 1)) as u64;
    let recovered = pipeline.recovery().await?;
    let counted = async || anyhow::Ok(pipeline.count(Service::Benchmark, DEDUPLICATED).await? - before);
    pipeline
        .until("all duplicates are recognised", async || {
            Ok(counted().await? >= duplicates)
        })
        .await?;
    let counted = counted().await?;
    ensure_happened(counted, duplicates, "duplicates that were recognised")?;
    let evidence = format!("{counted} duplicates recognised, seed {}", context.seed());
    pipeline
        .settle_recovered(storm.len() as u64, recovered, evidence, &Expected::default())
        .await
}

/// Reads the next `number` messages that the simulation publishes.
async fn read_published(client: &Client, pipeline: &Pipeline, number: usize) -> anyhow::Result<Vec<Message>> {
    let channel = client.channel().await?;
    let options = QueueDeclareOptions::exclusive();
    let read = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    let queue = read.name().clone();
    let (bind, no_arguments) = (QueueBindOptions::default(), FieldTable::default());
    channel
        .queue_bind(
            queue.clone(),
            EXCHANGE.into(),
            "batch.#".into(),
            bind,
            no_arguments,
        )
        .await?;
    let enough = async || Ok(client.ready(queue.as_str()).await? >= number as u64);
    pipeline.until("messages are read", enough).await?;
    let mut messages = Vec::with_capacity(number);
    while messages.len() < number {
        let options = BasicGetOptions { no_ack: true };
        let found = channel.basic_get(queue.clone(), options).await?;
        let delivery = found.context("a message that was counted is gone")?.delivery;
        messages.push(Message {
            properties: delivery.properties,
            body: delivery.data,
        });
    }
    // The queue would outlive the channel and collect further messages.
    client.delete(queue.as_str()).await?;
    Ok(messages)
}
