use std::{pin::pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use lapin::{Channel, Event};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    OpenChannel, PublishHandle, PublishState, UnconfirmedLimit, broker_activity::BrokerActivity,
    publish_loop::run_publish_loop, unconfirmed_limit::max_unconfirmed,
};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::{CHECK_INTERVAL, Link},
    link_statistics::LinkStatisticsRecorder,
    supervisor::Supervised,
    topology::Topology,
};

/// The connection that publishes. It does not consume: the broker may block a connection that publishes (memory or disk
/// alarm), and a blocked connection could not send acknowledgements.
#[derive(Debug)]
pub(crate) struct PublishingLink {
    settings: Arc<RabbitMqSettings>,
    topology: Topology,
    state: watch::Sender<PublishState>,
    statistics: Arc<LinkStatisticsRecorder>,
    has_connected: bool,
    closing: CancellationToken,
}

impl PublishingLink {
    pub(crate) fn new(
        settings: Arc<RabbitMqSettings>,
        topology: Topology,
        closing: CancellationToken,
    ) -> (Self, PublishHandle) {
        let (state, receiver) = watch::channel(PublishState::Down {
            reason: "connecting".to_owned(),
        });
        let statistics = Arc::new(LinkStatisticsRecorder::default());
        let publisher = PublishHandle {
            state: receiver,
            limit: UnconfirmedLimit::new(&settings),
            statistics: Arc::clone(&statistics),
            timeout: settings.publish_timeout,
            app_id: settings.app_id.clone(),
        };
        let link = Self {
            settings,
            topology,
            state,
            statistics,
            has_connected: false,
            closing,
        };
        (link, publisher)
    }

    async fn connect(&self) -> Result<(Arc<Link>, Channel), LinkError> {
        let link = self.topology.open_link(&self.settings, "publishing").await?;
        let timeout = self.settings.connect_timeout;
        let channel = answered("asking for confirms", timeout, link.confirming_channel()).await?;
        Ok((Arc::new(link), channel))
    }

    /// Handles the events of the connection until it is lost; returns why.
    async fn watch(
        &self,
        link: &Link,
        channel: &Channel,
        activity: &BrokerActivity,
        mut events: impl Stream<Item = Event> + Unpin,
    ) -> LinkError {
        let mut lost = pin!(self.check_until_lost(link, channel, activity));
        loop {
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(reason)) => self.set_blocked(Some(reason)),
                    Some(Event::ConnectionUnblocked) => self.set_blocked(None),
                    Some(Event::Error(error)) => return LinkError::Lost(error),
                    Some(_) => {}
                    None => return LinkError::ChannelClosed,
                },
                error = &mut lost => return error,
            }
        }
    }

    /// Checks the connection again and again, for faults that raise no event; returns why it is lost. Asks the broker for an
    /// answer where nothing has come from it for [`RabbitMqSettings::probe_interval`].
    async fn check_until_lost(&self, link: &Link, channel: &Channel, activity: &BrokerActivity) -> LinkError {
        let mut checks = tokio::time::interval(CHECK_INTERVAL);
        let mut last_answer = Instant::now();
        loop {
            checks.tick().await;
            let checked = async {
                link.check(channel)?;
                if activity.take_returned() {
                    tracing::warn!(
                        "the broker returns messages that no queue takes: declaring the topology again"
                    );
                    let timeout = self.settings.connect_timeout;
                    self.unless_blocked("declaring again", timeout, self.topology.declare(link))
                        .await?;
                }
                if activity.take_answered() || self.is_blocked() {
                    last_answer = Instant::now();
                } else if last_answer.elapsed() > self.settings.probe_interval {
                    let timeout = self.settings.max_silence();
                    self.unless_blocked("a question in between", timeout, self.topology.probe(channel))
                        .await?;
                    last_answer = Instant::now();
                }
                Ok(())
            };
            if let Err(error) = checked.await {
                return error;
            }
        }
    }

    /// [`answered`], but a missing answer is no error while the broker blocks the connection: it reads nothing then.
    async fn unless_blocked(
        &self,
        doing: &'static str,
        after: Duration,
        step: impl Future<Output = Result<(), LinkError>>,
    ) -> Result<(), LinkError> {
        match timeout(after, step).await {
            Ok(outcome) => outcome,
            Err(_elapsed) if self.is_blocked() => Ok(()),
            Err(_elapsed) => Err(LinkError::Timeout { doing, after }),
        }
    }

    fn is_blocked(&self) -> bool {
        matches!(&*self.state.borrow(), PublishState::Up(channel) if channel.blocked.is_some())
    }

    fn set_blocked(&self, reason: Option<String>) {
        match &reason {
            Some(reason) => tracing::warn!(reason, "the broker blocks publishing"),
            None => tracing::info!("the broker accepts publishing again"),
        }
        self.statistics.set_blocked(reason.is_some());
        self.state.send_modify(|state| {
            if let PublishState::Up(channel) = state {
                channel.blocked = reason;
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
        let (requests, requested) = mpsc::channel(max_unconfirmed(&self.settings));
        self.state.send_replace(PublishState::Up(OpenChannel {
            link: Arc::clone(&link),
            requests,
            blocked: None,
        }));
        if std::mem::replace(&mut self.has_connected, true) {
            self.statistics.reconnected();
        }
        tracing::info!("publishing is possible");
        let activity = BrokerActivity::default();
        let lost = self.watch(&link, &channel, &activity, events);
        let reason = run_publish_loop(&channel, requested, &activity, lost, &self.closing).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.statistics.set_blocked(false);
        self.state.send_replace(PublishState::Down { reason });
    }
}
