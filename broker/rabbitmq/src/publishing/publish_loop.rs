use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    PublishRequest, PublishResult, UnconfirmedPermit,
    broker_activity::BrokerActivity,
    confirm_resolver::{BrokerConfirm, ConfirmResolver},
    unconfirmed,
};
use crate::error::LinkError;

/// How long the unconfirmed publishes may take to be confirmed when the broker is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A publish that the broker has answered, or whose channel failed.
struct AnsweredPublish {
    id: String,
    confirmation: lapin::Result<Confirmation>,
    outcome: oneshot::Sender<PublishResult>,
    permit: UnconfirmedPermit,
}

/// Publishes the requested messages over one channel and reports the broker's answer to each publisher.
///
/// One task does both, for two reasons. The AMQP client numbers a message before it queues its frames, so two tasks that
/// publish at once could get each other's confirmations. And the answers must be resolved in order (see
/// [`ConfirmResolver`]).
///
/// Returns why it ended. The unconfirmed publishes are dropped then, and their publishers get an error.
pub(super) async fn run_publish_loop(
    channel: &Channel,
    mut requests: mpsc::Receiver<PublishRequest>,
    activity: &BrokerActivity,
    lost: impl Future<Output = LinkError>,
    closing: &CancellationToken,
) -> LinkError {
    let channel = Arc::new(channel.clone());
    let mut unconfirmed_publishes = FuturesUnordered::new();
    let mut resolver = ConfirmResolver::default();
    let mut drain_until: Option<Instant> = None;
    let mut requests_ended = false;
    tokio::pin!(lost);
    loop {
        if requests_ended && unconfirmed_publishes.is_empty() {
            return LinkError::Closed;
        }
        tokio::select! {
            biased;
            Some(answered) = unconfirmed_publishes.next(), if !unconfirmed_publishes.is_empty() => {
                let mut batch = vec![answered];
                while let Some(Some(answered)) = unconfirmed_publishes.next().now_or_never() {
                    batch.push(answered);
                }
                if let Err(error) = report(batch, &mut resolver, activity) {
                    return LinkError::Lost(error);
                }
            }
            error = &mut lost => return error,
            request = requests.recv(), if !requests_ended => match request {
                Some(request) => unconfirmed_publishes.push(send(Arc::clone(&channel), request)),
                None => requests_ended = true,
            },
            () = closing.cancelled(), if drain_until.is_none() => {
                requests.close();
                drain_until = Some(Instant::now() + DRAIN_TIMEOUT);
            }
            () = sleep_until(drain_until.unwrap_or_else(Instant::now)), if drain_until.is_some() => {
                return LinkError::Closed;
            }
        }
    }
}

/// Waits until the message is written, then until the broker has answered it.
async fn send(channel: Arc<Channel>, request: PublishRequest) -> AnsweredPublish {
    let PublishRequest {
        message,
        outcome,
        permit,
    } = request;
    let id = message.message_id().to_owned();
    let mandatory = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    let written = channel.basic_publish(
        message.exchange,
        message.routing_key,
        mandatory,
        &message.body,
        message.properties,
    );
    let confirmation = match written.await {
        Ok(confirmation) => {
            #[cfg(feature = "failpoints")]
            fail::fail_point!("publishing::written", |_| std::process::abort());
            // The client has copied the body.
            drop(message.body);
            confirmation.await
        }
        Err(error) => Err(error),
    };
    AnsweredPublish {
        id,
        confirmation,
        outcome,
        permit,
    }
}

/// Reports the outcomes to the publishers. Fails with the client's error where there was one: the channel is closed then.
fn report(
    batch: Vec<AnsweredPublish>,
    resolver: &mut ConfirmResolver,
    activity: &BrokerActivity,
) -> lapin::Result<()> {
    let mut failed = Ok(());
    let (mut answers, mut waiting) = (Vec::new(), Vec::new());
    for answered in batch {
        match answered.confirmation {
            Ok(confirmation) => {
                answers.push(BrokerConfirm::new(answered.id, confirmation));
                waiting.push((answered.outcome, answered.permit));
            }
            Err(error) => {
                // Fails where the publisher has stopped waiting. The same below.
                let _ = answered.outcome.send(Err(unconfirmed(error.clone())));
                failed = Err(error);
            }
        }
    }
    if !answers.is_empty() {
        activity.set_answered();
    }
    if answers.iter().any(|answer| answer.returned.is_some()) {
        activity.set_returned();
    }
    for ((outcome, _permit), decided) in waiting.into_iter().zip(resolver.resolve(&answers)) {
        let _ = outcome.send(decided);
    }
    failed
}
