use std::{future::Future, sync::Arc, time::Duration};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use lapin::{Channel, Confirmation, options::BasicPublishOptions};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Outcome, Place, Request,
    confirms::{Answer, Confirms},
    signs::Signs,
    unconfirmed,
};
use crate::error::LinkError;

/// How long what is in flight may take to be confirmed when the broker is closed.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// A request that the broker has answered, or never will.
struct Answered {
    id: String,
    confirmation: lapin::Result<Confirmation>,
    outcome: oneshot::Sender<Outcome>,
    place: Place,
}

/// Sends what is requested over one channel, and tells who asked what the broker answered.
///
/// All of it happens in one task, for two reasons. The client numbers a message before it queues its frames, so two
/// tasks that publish at once can get each other's confirmations. And the answers have to be decided in order (see
/// [`Confirms`]).
///
/// Ends with the reason; whatever is in flight then is dropped, which tells its publishers.
pub(super) async fn transmit(
    channel: &Channel,
    mut requests: mpsc::Receiver<Request>,
    signs: &Signs,
    ended: impl Future<Output = LinkError>,
    closing: &CancellationToken,
) -> LinkError {
    let channel = Arc::new(channel.clone());
    let mut in_flight = FuturesUnordered::new();
    let mut confirms = Confirms::default();
    let mut drain_until: Option<Instant> = None;
    let mut all_requested = false;
    tokio::pin!(ended);
    loop {
        if all_requested && in_flight.is_empty() {
            return LinkError::Closed;
        }
        tokio::select! {
            biased;
            Some(answered) = in_flight.next(), if !in_flight.is_empty() => {
                let mut batch = vec![answered];
                while let Some(Some(answered)) = in_flight.next().now_or_never() {
                    batch.push(answered);
                }
                if let Err(error) = tell(batch, &mut confirms, signs) {
                    return LinkError::Lost(error);
                }
            }
            error = &mut ended => return error,
            request = requests.recv(), if !all_requested => match request {
                Some(request) => in_flight.push(send(Arc::clone(&channel), request)),
                None => all_requested = true,
            },
            () = closing.cancelled(), if drain_until.is_none() => {
                requests.close();
                drain_until = Some(Instant::now() + DRAIN_PATIENCE);
            }
            () = sleep_until(drain_until.unwrap_or_else(Instant::now)), if drain_until.is_some() => {
                return LinkError::Closed;
            }
        }
    }
}

/// Waits until the message is written, and then until it is answered.
async fn send(channel: Arc<Channel>, request: Request) -> Answered {
    let Request {
        message,
        outcome,
        place,
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
            // The client has its copy until it has written it; from here on nobody needs the body.
            drop(message.body);
            confirmation.await
        }
        Err(error) => Err(error),
    };
    Answered {
        id,
        confirmation,
        outcome,
        place,
    }
}

/// Tells the publishers. Fails with the client's error where there was one: then the channel is over.
fn tell(batch: Vec<Answered>, confirms: &mut Confirms, signs: &Signs) -> lapin::Result<()> {
    let mut failed = Ok(());
    let (mut answers, mut waiting) = (Vec::new(), Vec::new());
    for answered in batch {
        match answered.confirmation {
            Ok(confirmation) => {
                answers.push(Answer::new(answered.id, confirmation));
                waiting.push((answered.outcome, answered.place));
            }
            Err(error) => {
                // Whoever waited may have given up; so below.
                let _ = answered.outcome.send(Err(unconfirmed(error.clone())));
                failed = Err(error);
            }
        }
    }
    if !answers.is_empty() {
        signs.set_answered();
    }
    if answers.iter().any(|answer| answer.returned.is_some()) {
        signs.set_unroutable();
    }
    for ((outcome, _place), decided) in waiting.into_iter().zip(confirms.decide(&answers)) {
        let _ = outcome.send(decided);
    }
    failed
}
