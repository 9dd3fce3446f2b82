//! Publishing: a lane that any number of tasks share, and the task that owns the channel behind it.

mod confirms;
mod link;
mod signs;
mod transmission;
mod window;

pub(crate) use link::PublishingLink;
use window::{Place, Window};

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{LinkState, LinkStatistics, OutgoingMessage, PublishError, Publisher};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout_at},
};

use crate::{RabbitMqSettings, error::LinkLost, link::Link, outgoing::Outgoing, record::LinkRecord};

type Outcome = Result<(), PublishError>;

/// A message for the task that owns the channel.
#[derive(Debug)]
struct Request {
    message: Outgoing,
    outcome: oneshot::Sender<Outcome>,
    /// A place in the window. It is kept until the broker has answered or the link is lost, also when nobody waits
    /// any more: a publish that timed out is still with the client and may yet be sent.
    place: Place,
}

/// What the publishing task says of itself.
#[derive(Debug)]
enum LaneState {
    Down { reason: String },
    Up(Current),
}

/// The link of the current generation.
#[derive(Debug)]
struct Current {
    link: Arc<Link>,
    requests: mpsc::Sender<Request>,
    /// The broker's words while it accepts nothing.
    blocked: Option<String>,
}

/// Where messages are published, whatever becomes of the links behind it. Clones share the window.
#[derive(Debug, Clone)]
pub(crate) struct Lane {
    state: watch::Receiver<LaneState>,
    window: Window,
    record: Arc<LinkRecord>,
    timeout: Duration,
}

impl Lane {
    /// Waits until the broker has taken responsibility for the message.
    pub(crate) async fn publish(&self, message: Outgoing) -> Outcome {
        self.requests()?;
        let deadline = Instant::now() + self.timeout;
        let Ok(place) = timeout_at(deadline, self.window.enter(message.body.len())).await else {
            return Err(self.unavailable("no place in the window became free"));
        };
        let (outcome, answer) = oneshot::channel();
        let request = Request {
            message,
            outcome,
            place,
        };
        // The queue has a slot for each place in the window, so it is never full; it may be closed by now.
        if self.requests()?.try_send(request).is_err() {
            return Err(self.unavailable("the link is being closed"));
        }
        match timeout_at(deadline, answer).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_dropped)) => Err(unconfirmed(LinkLost)),
            Err(elapsed) => Err(unconfirmed(elapsed)),
        }
    }

    pub(crate) fn link(&self) -> LinkState {
        match &*self.state.borrow() {
            LaneState::Down { reason } => LinkState::Down {
                reason: reason.clone(),
            },
            LaneState::Up(Current { blocked: None, .. }) => LinkState::Ready,
            LaneState::Up(Current {
                blocked: Some(reason),
                ..
            }) => LinkState::Blocked {
                reason: reason.clone(),
            },
        }
    }

    pub(crate) fn statistics(&self) -> LinkStatistics {
        self.record.statistics()
    }

    /// The connection of the current generation.
    pub(crate) fn connection(&self) -> Result<Arc<Link>, PublishError> {
        self.current(|current| Arc::clone(&current.link))
    }

    fn requests(&self) -> Result<mpsc::Sender<Request>, PublishError> {
        self.current(|current| current.requests.clone())
    }

    fn current<T>(&self, part: impl FnOnce(&Current) -> T) -> Result<T, PublishError> {
        match &*self.state.borrow() {
            LaneState::Up(current) => Ok(part(current)),
            LaneState::Down { reason } => Err(PublishError::Unavailable {
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

fn unconfirmed(source: impl std::error::Error + Send + Sync + 'static) -> PublishError {
    PublishError::Unconfirmed {
        source: Box::new(source),
    }
}

/// Publishes batches.
#[derive(Debug)]
pub(crate) struct RabbitMqPublisher {
    lane: Lane,
    app_id: String,
}

impl RabbitMqPublisher {
    pub(crate) fn new(lane: Lane, settings: &RabbitMqSettings) -> Self {
        Self {
            lane,
            app_id: settings.app_id.clone(),
        }
    }
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn publish(&self, message: &OutgoingMessage) -> Outcome {
        self.lane.publish(Outgoing::batch(message, &self.app_id)).await
    }

    fn link(&self) -> LinkState {
        self.lane.link()
    }

    fn statistics(&self) -> LinkStatistics {
        self.lane.statistics()
    }
}
