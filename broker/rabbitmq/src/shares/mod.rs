//! Shares of a load test: offered over a queue, talked about over the queues of both sides.
//!
//! All messages go through the default exchange, are mandatory and confirmed: a queue that is gone with its process is how each
//! side learns that the other has ended, which the broker sees at once where the process died, and by the missing
//! heartbeats where the network did.

mod line;
mod offered;
mod taken;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use broker::{OfferedShares, ShareError, Shares, TakenShare};
use bytes::Bytes;
use futures::future::try_join_all;
use lapin::{
    Channel,
    options::QueueDeclareOptions,
    types::{FieldTable, ShortString},
};

use self::{line::Line, offered::Offered, taken::Taken};
use crate::{
    RabbitMqSettings,
    error::{LinkError, answered},
};

/// Where shares are offered. Durable, as RabbitMQ 4 refuses others that many may consume from; what is in it is not.
const OFFERS: &str = "llm.load-test.shares";

/// Shares out work over RabbitMQ. Connects anew for each run and each share, so nothing has to be kept alive in between.
#[derive(Debug, Clone)]
pub struct RabbitMqShares {
    settings: Arc<RabbitMqSettings>,
}

impl RabbitMqShares {
    /// Over the broker of the settings; their queue is not used.
    #[must_use]
    pub fn new(settings: RabbitMqSettings) -> Self {
        Self {
            settings: Arc::new(settings),
        }
    }

    async fn line(&self, purpose: &str) -> Result<Line, ShareError> {
        let line = Line::open(Arc::clone(&self.settings), purpose).await;
        let line = line.map_err(unavailable)?;
        let declared = answered(
            "declaring the queue of shares",
            self.settings.connect_timeout,
            declare_offers(line.channel()),
        );
        declared.await.map_err(unavailable)?;
        Ok(line)
    }
}

#[async_trait]
impl Shares for RabbitMqShares {
    async fn offer(
        &self,
        run_id: &str,
        offers: Vec<Bytes>,
        valid_for: Duration,
    ) -> Result<Box<dyn OfferedShares>, ShareError> {
        let line = self.line("shares of a load test").await?;
        let properties = line
            .properties(run_id)
            .with_expiration(valid_for.as_millis().to_string().into());
        let offering = offers
            .iter()
            .map(|offer| line.send(OFFERS.into(), offer, properties.clone()));
        try_join_all(offering).await?;
        Ok(Box::new(Offered::new(line, run_id.to_owned())))
    }

    async fn take(&self) -> Result<Box<dyn TakenShare>, ShareError> {
        let line = self.line("load test worker").await?;
        Ok(Box::new(Taken::wait(line).await?))
    }
}

async fn declare_offers(channel: &Channel) -> Result<(), LinkError> {
    let options = QueueDeclareOptions {
        durable: true,
        ..QueueDeclareOptions::default()
    };
    declare(channel, OFFERS.into(), options).await.map(drop)
}

/// Gives the queue's name, which the broker chooses where it is empty.
async fn declare(
    channel: &Channel,
    name: ShortString,
    options: QueueDeclareOptions,
) -> Result<ShortString, LinkError> {
    let what = format!("queue {name:?}");
    let declared = channel.queue_declare(name, options, FieldTable::default()).await;
    declared
        .map(|queue| queue.name().clone())
        .map_err(|source| LinkError::Declare { what, source })
}

fn unavailable(error: impl Into<broker::BoxError>) -> ShareError {
    ShareError::Unavailable { source: error.into() }
}
