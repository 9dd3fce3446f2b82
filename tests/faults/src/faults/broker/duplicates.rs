//! Everything is delivered several times, in any order.

use anyhow::Context as _;
use lapin::{
    options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};
use rand::{RngExt, seq::SliceRandom};

use super::publisher::{Client, EXCHANGE, Message, id, timestamp};
use crate::{
    pipeline::{DEDUPLICATED, Expected, Ground, Options, Pipeline, Service},
    servers::Bench,
    verdict::{Verdict, ensure_happened},
};

const COPIES: usize = 3;

/// Messages of the simulation, overheard, and others that nobody has seen before: all of them three times, shuffled,
/// among what the simulation publishes meanwhile.
pub(super) async fn storm(bench: &mut Bench) -> anyhow::Result<Verdict> {
    let each = if bench.quick { 300 } else { 3_000 };
    let mut random = bench.random(20);
    let ground = Ground::prepare(bench).await?;
    let pipeline = Pipeline::start(20, ground, Options::default()).await?;
    let client = Client::connect(&pipeline.amqp).await?;
    let before = pipeline.count(Service::Benchmark, DEDUPLICATED).await?;

    let mut messages = overhear(&client, &pipeline, each).await?;
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

    // Of what the simulation published too all copies are duplicates, of the rest all but one.
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
    let evidence = format!("{counted} duplicates recognised, seed {}", bench.seed());
    pipeline
        .settle_recovered(storm.len() as u64, recovered, evidence, &Expected::default())
        .await
}

/// So many messages that the simulation publishes now.
async fn overhear(client: &Client, pipeline: &Pipeline, number: usize) -> anyhow::Result<Vec<Message>> {
    let channel = client.channel().await?;
    let options = QueueDeclareOptions::exclusive();
    let overheard = channel
        .queue_declare("".into(), options, FieldTable::default())
        .await?;
    let queue = overheard.name().clone();
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
    pipeline.until("messages are overheard", enough).await?;
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
    // Further messages are not wanted; the queue would outlive the channel.
    client.delete(queue.as_str()).await?;
    Ok(messages)
}
