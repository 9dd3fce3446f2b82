//! The broker's queues and connections, as its administrator sees them.

use std::collections::BTreeMap;

use anyhow::Context as _;
use lapin::{Connection, options::QueueDeclareOptions, types::FieldTable};
use test_servers::RabbitMqServer;

/// The queue of batches.
pub(crate) const QUEUE: &str = "benchmarking_service";
/// The queue of dead letters.
pub(crate) const DEAD_LETTERS: &str = "benchmarking_service.dead";

/// The numbers of messages in the given queues, including delivered and unacknowledged ones.
pub(crate) async fn messages<const N: usize>(
    server: &RabbitMqServer,
    vhost: &str,
    queues: [&str; N],
) -> anyhow::Result<[u64; N]> {
    let listed = server
        .rabbitmqctl(&[
            "list_queues",
            "--quiet",
            "--no-table-headers",
            "-p",
            vhost,
            "name",
            "messages",
        ])
        .await?;
    let mut depths = [0; N];
    for (depth, queue) in depths.iter_mut().zip(queues) {
        let line = listed
            .lines()
            .find_map(|line| line.strip_prefix(queue)?.strip_prefix('\t'))
            .with_context(|| format!("{vhost} has no queue {queue}: {listed:?}"))?;
        *depth = line
            .trim()
            .parse()
            .with_context(|| format!("the depth of {queue} is {line:?}"))?;
    }
    Ok(depths)
}

/// The number of ready messages in a queue. Faster than `rabbitmqctl`, which starts an Erlang machine for each call.
pub(crate) async fn ready(connection: &Connection, queue: &str) -> anyhow::Result<u64> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions::default().passive();
    let found = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    channel.close(200, "seen".into()).await?;
    Ok(found.message_count().into())
}

/// The state of each client connection to a virtual host, by the Erlang process that serves it.
pub(crate) async fn connections(
    server: &RabbitMqServer,
    vhost: &str,
) -> anyhow::Result<BTreeMap<String, String>> {
    let listed = server
        .rabbitmqctl(&["list_connections", "--no-table-headers", "vhost", "pid", "state"])
        .await?;
    Ok(listed
        .lines()
        .filter_map(|line| line.strip_prefix(vhost)?.strip_prefix('\t')?.split_once('\t'))
        .map(|(pid, state)| (pid.to_owned(), state.trim().to_owned()))
        .collect())
}
