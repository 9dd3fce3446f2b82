use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures::{Stream, StreamExt};
use lapin::{Channel, Event};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{Current, Lane, LaneState, transmission::transmit};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    supervisor::Supervised,
    topology::Topology,
};

/// The connection that publishes, and nothing else: the broker may block it (memory or disk alarm), and a blocked
/// connection sends nothing at all, acknowledgements included.
#[derive(Debug)]
pub(crate) struct PublishingLink {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    state: watch::Sender<LaneState>,
    closing: CancellationToken,
}

impl PublishingLink {
    pub(crate) fn new(
        settings: Arc<RabbitMqSettings>,
        topology: Topology,
        closing: CancellationToken,
    ) -> (Self, Lane) {
        let (state, receiver) = watch::channel(LaneState::Down {
            reason: "connecting".to_owned(),
        });
        let window = settings.publish_window.get().min(Semaphore::MAX_PERMITS);
        let lane = Lane {
            state: receiver,
            window: Arc::new(Semaphore::new(window)),
            timeout: settings.publish_timeout,
        };
        let link = Self {
            settings,
            topology,
            state,
            closing,
        };
        (link, lane)
    }

    async fn connect(&self) -> Result<(Arc<Link>, Channel), LinkError> {
        let link = Link::open_declared(&self.settings, &self.topology, "publishing").await?;
        let patience = self.settings.connect_timeout;
        let channel = answered("asking for confirms", patience, link.confirming_channel()).await?;
        Ok((Arc::new(link), channel))
    }

    /// Follows what the broker says about the connection, until it is lost.
    async fn watch(
        &self,
        link: &Link,
        channel: &Channel,
        unroutable: &AtomicBool,
        mut events: impl Stream<Item = Event> + Unpin,
    ) -> LinkError {
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.blocked(Some(reason)),
                    Some(Event::ConnectionUnblocked) => self.blocked(None),
                    Some(Event::Error(error)) => return LinkError::Lost(error),
                    Some(_) => {}
                    None => return LinkError::ChannelClosed,
                },
                _ = checks.tick() => if let Err(error) = self.check(link, channel, unroutable).await {
                    return error;
                },
            }
        }
    }

    async fn check(&self, link: &Link, channel: &Channel, unroutable: &AtomicBool) -> Result<(), LinkError> {
        link.check(channel)?;
        if unroutable.swap(false, Ordering::Relaxed) {
            tracing::warn!("the broker returns messages that no queue takes: declaring the topology again");
            self.topology.declare(link).await?;
        }
        Ok(())
    }

    fn blocked(&self, reason: Option<String>) {
        match &reason {
            Some(reason) => tracing::warn!(reason, "the broker blocks publishing"),
            None => tracing::info!("the broker accepts publishing again"),
        }
        self.state.send_modify(|state| {
            if let LaneState::Up(current) = state {
                current.blocked = reason;
            }
        });
    }
}

impl Supervised for PublishingLink {
    const NAME: &'static str = "publishing";

    async fn run(&mut self) -> LinkError {
        let (link, channel) = match self.closing.run_until_cancelled(self.connect()).await {
            None => return LinkError::Closed,
            Some(Err(error)) => return error,
            Some(Ok(connected)) => connected,
        };
        let events = link.events();
        let (requests, requested) =
            mpsc::channel(self.settings.publish_window.get().min(Semaphore::MAX_PERMITS));
        self.state.send_replace(LaneState::Up(Current {
            link: Arc::clone(&link),
            requests,
            blocked: None,
        }));
        tracing::info!("publishing is possible");
        let unroutable = AtomicBool::new(false);
        let ended = self.watch(&link, &channel, &unroutable, events);
        let reason = transmit(&channel, requested, &unroutable, ended, &self.closing).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.state.send_replace(LaneState::Down { reason });
    }
}
