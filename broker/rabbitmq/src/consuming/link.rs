use std::sync::Arc;

use broker::{LinkState, Prefetch};
use lapin::{Channel, Consumer};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{
    RabbitMqSubscription,
    consumers::{Consumers, consume},
    generation::{Generation, Subscriber},
    holdings::HoldingsRecord,
    receipt::Undertaker,
};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
    link::Link,
    publishing::Lane,
    record::LinkRecord,
    supervisor::Supervised,
    topology::Topology,
};

/// The connection of one subscription. It publishes nothing (dead letters go through the publishing connection), so
/// that an alarm of the broker does not hold up its acknowledgements.
#[derive(Debug)]
pub(crate) struct ConsumingLink {
    settings: Arc<RabbitMqSettings>,
    prefetch: Prefetch,
    subscriber: Subscriber,
    state: watch::Sender<LinkState>,
    record: Arc<LinkRecord>,
    has_connected: bool,
}

impl ConsumingLink {
    pub(crate) fn new(
        settings: Arc<RabbitMqSettings>,
        topology: Topology,
        prefetch: Prefetch,
        lane: Lane,
        record: Arc<LinkRecord>,
        holdings: Arc<HoldingsRecord>,
        closing: CancellationToken,
    ) -> (Self, RabbitMqSubscription, watch::Receiver<LinkState>) {
        let (incoming, receiver) = mpsc::channel(usize::from(prefetch.messages.get()));
        let (state, watched) = watch::channel(LinkState::Down {
            reason: "connecting".to_owned(),
        });
        let undertaker = Undertaker {
            lane,
            clock: Arc::clone(&settings.clock),
        };
        let subscriber = Subscriber {
            incoming,
            undertaker: Arc::new(undertaker),
            holdings,
            topology,
            closing,
            patience: settings.longest_silence(),
            probe_interval: settings.probe_interval,
        };
        let link = Self {
            settings,
            prefetch,
            subscriber,
            state,
            record,
            has_connected: false,
        };
        (link, RabbitMqSubscription { incoming: receiver }, watched)
    }

    async fn connect(&self) -> Result<(Link, Channel, Consumer), LinkError> {
        let topology = &self.subscriber.topology;
        let link = topology.open_link(&self.settings, "consuming").await?;
        let after = self.settings.connect_timeout;
        let silent = |error| match error {
            LinkError::Silent { after, .. } => LinkError::SilentQueue {
                queue: topology.queue.to_string(),
                after,
            },
            error => error,
        };
        let begun = answered("consuming from the queue", after, self.begin(&link)).await;
        let (channel, consumer) = begun.map_err(silent)?;
        Ok((link, channel, consumer))
    }

    async fn begin(&self, link: &Link) -> Result<(Channel, Consumer), LinkError> {
        let channel = link.channel().await?;
        let consumer = consume(&channel, &self.subscriber.topology.queue, 1).await?;
        Ok((channel, consumer))
    }
}

impl Supervised for ConsumingLink {
    const NAME: &'static str = "consuming";

    async fn run(&mut self) -> LinkError {
        let (link, channel, consumer) =
            match self.subscriber.closing.run_until_cancelled(self.connect()).await {
                None => return LinkError::Closed,
                Some(Err(error)) => return error,
                Some(Ok(connected)) => connected,
            };
        self.state.send_replace(LinkState::Ready);
        if std::mem::replace(&mut self.has_connected, true) {
            self.record.reconnected();
        }
        tracing::info!(
            prefetch.messages = self.prefetch.messages,
            prefetch.bytes = self.prefetch.bytes,
            "consuming"
        );
        let delivering = channel.clone();
        let (queue, holdings) = (
            self.subscriber.topology.queue.clone(),
            Arc::clone(&self.subscriber.holdings),
        );
        let consumers = Consumers::new(channel.clone(), queue, consumer, self.prefetch, holdings);
        let most = usize::from(self.prefetch.messages.get());
        let generation = Generation::new(&self.subscriber, &link, channel, consumers, most);
        let Err(reason) = generation.consume().await;
        link.close_channel(&delivering).await;
        link.close().await;
        reason
    }

    fn down(&mut self, reason: String) {
        self.state.send_replace(LinkState::Down { reason });
    }

    fn is_wanted(&self) -> bool {
        !self.subscriber.incoming.is_closed()
    }
}
