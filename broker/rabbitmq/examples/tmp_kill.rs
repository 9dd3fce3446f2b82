#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::print_stdout,
    clippy::allow_attributes,
    clippy::unwrap_used
)]
use broker::{Broker, OutgoingMessage};
use broker_rabbitmq::*;
use futures::StreamExt;
use lapin::{options::*, types::*, *};
use std::{
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};
use test_servers::*;
fn msg(i: u64, size: usize) -> OutgoingMessage {
    let t = chrono::DateTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let mut r = [0; 10];
    r[2..].copy_from_slice(&i.to_be_bytes());
    OutgoingMessage {
        id: shared_types::BatchId::new(t, r),
        llm: "GPT-4o".into(),
        metric: "ttft".into(),
        routing_key: "batch.gpt-4o.ttft".into(),
        n: 1000,
        timestamp: t,
        run_id: None,
        content_type: "application/json",
        body: vec![b'7'; size].into(),
    }
}
async fn plain(url: &str, n: usize, size: usize) {
    let c = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let ch = c.create_channel().await.unwrap();
    let mut a = FieldTable::default();
    a.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    ch.queue_declare("plain".into(), QueueDeclareOptions::durable(), a.clone())
        .await
        .unwrap();
    ch.queue_purge("plain".into(), Default::default()).await.unwrap();
    ch.confirm_select(Default::default()).await.unwrap();
    let body = vec![b'7'; size];
    let t = Instant::now();
    let mut q = std::collections::VecDeque::new();
    for _ in 0..n {
        if q.len() >= 256 {
            let c: lapin::PublisherConfirm = q.pop_front().unwrap();
            c.await.unwrap();
        }
        q.push_back(
            ch.basic_publish(
                "".into(),
                "plain".into(),
                BasicPublishOptions {
                    mandatory: true,
                    ..Default::default()
                },
                &body,
                BasicProperties::default().with_delivery_mode(2),
            )
            .await
            .unwrap(),
        );
    }
    for c in q {
        c.await.unwrap();
    }
    let p = n as f64 / t.elapsed().as_secs_f64();
    let c2 = Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap();
    let ch2 = c2.create_channel().await.unwrap();
    ch2.basic_qos(128, Default::default()).await.unwrap();
    let t = Instant::now();
    let mut cons = ch2
        .basic_consume("plain".into(), "".into(), Default::default(), Default::default())
        .await
        .unwrap();
    for _ in 0..n {
        cons.next()
            .await
            .unwrap()
            .unwrap()
            .ack(Default::default())
            .await
            .unwrap();
    }
    println!(
        "plain  {size:>6} B n={n}: publish {p:>8.0}/s  consume+ack each {:>8.0}/s",
        n as f64 / t.elapsed().as_secs_f64()
    );
    c.close(200, "".into()).await.unwrap();
    c2.close(200, "".into()).await.unwrap();
}
async fn ours(url: &str, n: usize, size: usize) {
    let b = RabbitMqBroker::start(RabbitMqSettings::new(url, "bench").unwrap());
    let p = b.publisher();
    while !p.link().is_ready() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let m: Vec<_> = (0..n as u64).map(|i| msg(i, size)).collect();
    let t = Instant::now();
    futures::stream::iter(&m)
        .for_each_concurrent(300, |m| {
            let p = Arc::clone(&p);
            async move { p.publish(m).await.unwrap() }
        })
        .await;
    let rp = n as f64 / t.elapsed().as_secs_f64();
    let mut s = b.subscribe(NonZeroU16::new(128).unwrap());
    while !b.consume_link().is_ready() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let t = Instant::now();
    let mut left = n;
    let mut batch = vec![];
    while left > 0 {
        let d = s.next().await.unwrap();
        batch.push(d);
        left -= 1;
        if batch.len() == 64 || left == 0 {
            for r in futures::future::join_all(batch.drain(..).map(|d| d.ack())).await {
                r.unwrap();
            }
        }
    }
    let rc = n as f64 / t.elapsed().as_secs_f64();
    // both at once
    let t = Instant::now();
    let publish = futures::stream::iter(&m).for_each_concurrent(300, |m| {
        let p = Arc::clone(&p);
        async move { p.publish(m).await.unwrap() }
    });
    let consume = async {
        let mut left = n;
        let mut batch = vec![];
        while left > 0 {
            let d = s.next().await.unwrap();
            batch.push(d);
            left -= 1;
            if batch.len() == 64 || left == 0 || batch.len() >= left {
                for r in futures::future::join_all(batch.drain(..).map(|d| d.ack())).await {
                    r.unwrap();
                }
            }
        }
    };
    tokio::join!(publish, consume);
    println!(
        "ours   {size:>6} B n={n}: publish {rp:>8.0}/s  consume+ack by 64 {rc:>8.0}/s  both at once {:>8.0}/s",
        n as f64 / t.elapsed().as_secs_f64()
    );
    b.close().await;
}
#[tokio::main]
async fn main() {
    let server = RabbitMqServer::start().await.unwrap();
    for _ in 0..2 {
        for size in [8000, 19000] {
            for n in [1000, 10000] {
                plain(server.amqp_url(), n, size).await;
                ours(server.amqp_url(), n, size).await;
            }
        }
    }
}
