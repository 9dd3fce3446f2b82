use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use lapin::{Channel, Event};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{Current, Lane, LaneState, Window, signs::Signs, transmission::transmit, window::places};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    record::LinkRecord,
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
    record: Arc<LinkRecord>,
    has_connected: bool,
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
        let record = Arc::new(LinkRecord::default());
        let lane = Lane {
            state: receiver,
            window: Window::of(&settings),
            record: Arc::clone(&record),
            timeout: settings.publish_timeout,
        };
        let link = Self {
            settings,
            topology,
            state,
            record,
            has_connected: false,
            closing,
        };
        (link, lane)
    }

    async fn connect(&self) -> Result<(Arc<Link>, Channel), LinkError> {
        let link = self.topology.open_link(&self.settings, "publishing").await?;
        let patience = self.settings.connect_timeout;
        let channel = answered("asking for confirms", patience, link.confirming_channel()).await?;
        Ok((Arc::new(link), channel))
    }

    /// Follows what the broker says about the connection, until it is lost.
    async fn watch(
        &self,
        link: &Link,
        channel: &Channel,
        signs: &Signs,
        mut events: impl Stream<Item = Event> + Unpin,
    ) -> LinkError {
        let mut ended = pin!(self.check_until_it_ends(link, channel, signs));
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.blocked(Some(reason)),
                    Some(Event::ConnectionUnblocked) => self.blocked(None),
                    Some(Event::Error(error)) => return LinkError::Lost(error),
                    Some(_) => {}
                    None => return LinkError::ChannelClosed,
                },
                error = &mut ended => return error,
            }
        }
    }

    async fn check_until_it_ends(&self, link: &Link, channel: &Channel, signs: &Signs) -> LinkError {
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let mut answered = Instant::now();
        loop {
            checks.tick().await;
            let checked = async {
                link.check(channel)?;
                if signs.take_unroutable() {
                    tracing::warn!(
                        "the broker returns messages that no queue takes: declaring the topology again"
                    );
                    let patience = self.settings.connect_timeout;
                    self.unless_blocked("declaring again", patience, self.topology.declare(link))
                        .await?;
                }
                if signs.take_answered() || self.is_blocked() {
                    answered = Instant::now();
                } else if answered.elapsed() > self.settings.probe_interval {
                    let patience = self.settings.longest_silence();
                    self.unless_blocked("a question in between", patience, self.topology.probe(channel))
                        .await?;
                    answered = Instant::now();
                }
                Ok(())
            };
            if let Err(error) = checked.await {
                return error;
            }
        }
    }

    /// As [`answered`], but a broker that blocks the connection reads nothing, so owes no answer.
    async fn unless_blocked(
        &self,
        doing: &'static str,
        after: Duration,
        step: impl Future<Output = Result<(), LinkError>>,
    ) -> Result<(), LinkError> {
        match timeout(after, step).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if self.is_blocked() => Ok(()),
            Err(_elapsed) => Err(LinkError::Silent { doing, after }),
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(&*self.state.borrow(), LaneState::Up(current) if current.blocked.is_some())
    }

    fn blocked(&self, reason: Option<String>) {
        match &reason {
            Some(reason) => tracing::warn!(reason, "the broker blocks publishing"),
            None => tracing::info!("the broker accepts publishing again"),
        }
        self.record.set_blocked(reason.is_some());
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
        let (requests, requested) = mpsc::channel(places(&self.settings));
        self.state.send_replace(LaneState::Up(Current {
            link: Arc::clone(&link),
            requests,
            blocked: None,
        }));
        if std::mem::replace(&mut self.has_connected, true) {
            self.record.reconnected();
        }
        tracing::info!("publishing is possible");
        let signs = Signs::default();
        let ended = self.watch(&link, &channel, &signs, events);
        let reason = transmit(&channel, requested, &signs, ended, &self.closing).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.record.set_blocked(false);
        self.state.send_replace(LaneState::Down { reason });
    }
}
