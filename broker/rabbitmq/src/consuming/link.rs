use std::sync::Arc;

use broker::{LinkState, Prefetch};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    RabbitMqSubscription,
    acknowledger::DeadLetterWriter,
    consumers::{Consumers, consume},
    prefetch_usage::PrefetchUsageCounters,
    session::{ConsumeSession, SubscriptionContext},
};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::Link,
    link_statistics::LinkStatisticsRecorder,
    publishing::PublishHandle,
    supervisor::Supervised,
    topology::Topology,
};

/// The connection of one subscription. It publishes nothing; dead letters go over the publishing connection. Otherwise an
/// alarm of the broker, which blocks connections that publish, would block the acknowledgements too.
#[derive(Debug)]
pub(crate) struct ConsumingLink {
    settings: Arc<RabbitMqSettings>,
    prefetch: Prefetch,
    context: SubscriptionContext,
    state: watch::Sender<LinkState>,
    statistics: Arc<LinkStatisticsRecorder>,
    has_connected: bool,
}

impl ConsumingLink {
    pub(crate) fn new(
        settings: Arc<RabbitMqSettings>,
        topology: Topology,
        prefetch: Prefetch,
        publisher: PublishHandle,
        statistics: Arc<LinkStatisticsRecorder>,
        prefetch_usage: Arc<PrefetchUsageCounters>,
        closing: CancellationToken,
    ) -> (Self, RabbitMqSubscription, watch::Receiver<LinkState>) {
        let (deliveries, receiver) = mpsc::channel(usize::from(prefetch.messages.get()));
        let (state, watched) = watch::channel(LinkState::Down {
            reason: "connecting".to_owned(),
        });
        let dead_letter_writer = DeadLetterWriter {
            publisher,
            clock: Arc::clone(&settings.clock),
        };
        let context = SubscriptionContext {
            deliveries,
            dead_letter_writer: Arc::new(dead_letter_writer),
            prefetch_usage,
            topology,
            closing,
            answer_timeout: settings.max_silence(),
            probe_interval: settings.probe_interval,
        };
        let link = Self {
            settings,
            prefetch,
            context,
            state,
            statistics,
            has_connected: false,
        };
        (link, RabbitMqSubscription { deliveries: receiver }, watched)
    }

    async fn connect(&self) -> Result<(Link, Channel, Consumer), LinkError> {
        let topology = &self.context.topology;
        let link = topology.open_link(&self.settings, "consuming").await?;
        let after = self.settings.connect_timeout;
        let name_queue = |error| match error {
            LinkError::Timeout { after, .. } => LinkError::QueueTimeout {
                queue: topology.queue.to_string(),
                after,
            },
            error => error,
        };
        let started = answered("consuming from the queue", after, self.start_consuming(&link)).await;
        let (channel, consumer) = started.map_err(name_queue)?;
        Ok((link, channel, consumer))
    }

    async fn start_consuming(&self, link: &Link) -> Result<(Channel, Consumer), LinkError> {
        let channel = link.channel().await?;
        let consumer = consume(&channel, &self.context.topology.queue, 1).await?;
        Ok((channel, consumer))
    }
}

impl Supervised for ConsumingLink {
    const NAME: &'static str = "consuming";

    async fn run(&mut self) -> LinkError {
        let (link, channel, consumer) = match self.context.closing.run_until_cancelled(self.connect()).await {
            None => return LinkError::Closed,
            Some(Err(error)) => return error,
            Some(Ok(connected)) => connected,
        };
        self.state.send_replace(LinkState::Ready);
        if std::mem::replace(&mut self.has_connected, true) {
            self.statistics.reconnected();
        }
        tracing::info!(
            prefetch.messages = self.prefetch.messages,
            prefetch.bytes = self.prefetch.bytes,
            "consuming"
        );
        let consumed_channel = channel.clone();
        let (queue, prefetch_usage) = (
            self.context.topology.queue.clone(),
            Arc::clone(&self.context.prefetch_usage),
        );
        let consumers = Consumers::new(channel.clone(), queue, consumer, self.prefetch, prefetch_usage);
        let max_unsettled = usize::from(self.prefetch.messages.get());
        let session = ConsumeSession::new(&self.context, &link, channel, consumers, max_unsettled);
        let Err(reason) = session.consume().await;
        link.close_channel(&consumed_channel).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.state.send_replace(LinkState::Down { reason });
    }

    fn is_wanted(&self) -> bool {
        !self.context.deliveries.is_closed()
    }
}
