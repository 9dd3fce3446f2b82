use std::{future::Future, time::Duration};

use tokio::time::timeout;

/// Why a link could not be opened or was lost.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("could not connect")]
    Connect(#[source] lapin::Error),
    #[error("the broker did not answer within {} s: {doing}", .after.as_secs_f32())]
    Timeout { doing: &'static str, after: Duration },
    #[error("could not declare {what}")]
    Declare {
        what: String,
        #[source]
        source: lapin::Error,
    },
    #[error("could not prepare the channel")]
    Channel(#[source] lapin::Error),
    #[error("could not consume from queue {queue}")]
    Consume {
        queue: String,
        #[source]
        source: lapin::Error,
    },
    #[error(
        "the broker answers, but queue {queue} did not within {} s: it may have lost its members when the broker was \
         killed; if this lasts, delete the queue (`rabbitmqctl delete_queue {queue}`), and it is declared again: what \
         is in it is lost to whoever has no copy, the batches of llm-bench are stored",
        .after.as_secs_f32()
    )]
    QueueTimeout { queue: String, after: Duration },
    #[error("the link was lost")]
    Lost(#[source] lapin::Error),
    #[error("the channel was closed")]
    ChannelClosed,
    #[error("the broker cancelled the consumer: the queue is gone")]
    ConsumerCancelled,
    #[error("the broker has forgotten the consumer: the queue has none, and delivers nothing")]
    ConsumerForgotten,
    #[error("the task of this link crashed: {0}")]
    Crashed(String),
    #[error("the broker was closed by this process")]
    Closed,
    #[error("nobody consumes any more")]
    Unsubscribed,
}

/// The link ended before an answer came.
#[derive(Debug, thiserror::Error)]
#[error("the link was lost before the broker answered")]
pub(crate) struct LinkLost;

/// Runs a step that needs the broker's answer, with a time limit: a frozen broker or a broken queue never answers.
pub(crate) async fn answered<T>(
    doing: &'static str,
    after: Duration,
    step: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    timeout(after, step)
        .await
        .unwrap_or(Err(LinkError::Timeout { doing, after }))
}
