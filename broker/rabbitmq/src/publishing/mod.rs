//! Publishing: a handle that any number of tasks share, and the task that owns the channel behind it.

mod broker_activity;
mod confirm_resolver;
mod link;
mod publish_loop;
mod unconfirmed_limit;

pub(crate) use link::PublishingLink;
use unconfirmed_limit::{UnconfirmedLimit, UnconfirmedPermit};

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{LinkState, LinkStatistics, OutgoingMessage, PublishError, Publisher};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{
    amqp_message::AmqpMessage, error::LinkLost, link::Link, link_statistics::LinkStatisticsRecorder,
};

type PublishResult = Result<(), PublishError>;

/// Asks the task that owns the channel to publish a message.
#[derive(Debug)]
struct PublishRequest {
    message: AmqpMessage,
    outcome: oneshot::Sender<PublishResult>,
    /// Kept until the broker has answered or the link is lost. A publish that timed out keeps it too, because the AMQP client
    /// may still send the message.
    permit: UnconfirmedPermit,
}

/// The state of the link that publishes.
#[derive(Debug)]
enum PublishState {
    Down { reason: String },
    Up(OpenChannel),
}

#[derive(Debug)]
struct OpenChannel {
    link: Arc<Link>,
    requests: mpsc::Sender<PublishRequest>,
    /// The reason that the broker gave, while it blocks the connection.
    blocked: Option<String>,
}

/// Publishes messages over the current link. It stays the same when the link is replaced. Clones share the limit of
/// unconfirmed publishes.
#[derive(Debug, Clone)]
pub(crate) struct PublishHandle {
    state: watch::Receiver<PublishState>,
    limit: UnconfirmedLimit,
    statistics: Arc<LinkStatisticsRecorder>,
    timeout: Duration,
    app_id: String,
}

impl PublishHandle {
    /// Publishes a message and waits for the broker's confirmation.
    pub(crate) async fn publish_confirmed(&self, message: AmqpMessage) -> PublishResult {
        self.requests()?;
        let deadline = Instant::now() + self.timeout;
        let Ok(permit) = timeout_at(deadline, self.limit.acquire(message.body.len())).await else {
            return Err(self.unavailable("too many publishes are unconfirmed"));
        };
        let (outcome, answer) = oneshot::channel();
        let request = PublishRequest {
            message,
            outcome,
            permit,
        };
        // Fails only where the channel was closed meanwhile: it has a place for each permit.
        if self.requests()?.try_send(request).is_err() {
            return Err(self.unavailable("the link is being closed"));
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(unconfirmed(LinkLost)),
            Err(elapsed) => Err(unconfirmed(elapsed)),
        }
    }

    /// The current connection.
    pub(crate) fn connection(&self) -> Result<Arc<Link>, PublishError> {
        self.open_channel(|channel| Arc::clone(&channel.link))
    }

    fn requests(&self) -> Result<mpsc::Sender<PublishRequest>, PublishError> {
        self.open_channel(|channel| channel.requests.clone())
    }

    fn open_channel<T>(&self, read: impl FnOnce(&OpenChannel) -> T) -> Result<T, PublishError> {
        match &*self.state.borrow() {
            PublishState::Up(channel) => Ok(read(channel)),
            PublishState::Down { reason } => Err(PublishError::Unavailable {
                reason: reason.clone(),
            }),
        }
    }

    fn unavailable(&self, what: &str) -> PublishError {
        let reason = match self.link() {
            LinkState::Ready => what.to_owned(),
            LinkState::Blocked { reason } => format!("{what}; the broker blocks publishing: {reason}"),
            LinkState::Down { reason } => reason,
        };
        PublishError::Unavailable { reason }
    }
}

#[async_trait]
impl Publisher for PublishHandle {
    async fn publish(&self, message: &OutgoingMessage) -> PublishResult {
        self.publish_confirmed(AmqpMessage::batch(message, &self.app_id))
            .await
    }

    fn link(&self) -> LinkState {
        match &*self.state.borrow() {
            PublishState::Down { reason } => LinkState::Down {
                reason: reason.clone(),
            },
            PublishState::Up(OpenChannel { blocked: None, .. }) => LinkState::Ready,
            PublishState::Up(OpenChannel {
                blocked: Some(reason),
                ..
            }) => LinkState::Blocked {
                reason: reason.clone(),
            },
        }
    }

    fn statistics(&self) -> LinkStatistics {
        self.statistics.read()
    }
}

fn unconfirmed(source: impl std::error::Error + Send + Sync + 'static) -> PublishError {
    PublishError::Unconfirmed {
        source: Box::new(source),
    }
}
