//! The servers into which the faults are injected. The faults use them one after the other.

use std::sync::Arc;

use rand::{SeedableRng, rngs::ChaCha12Rng};
use test_servers::{PostgresServer, RabbitMqServer};

/// The servers, the seed and the options of a fault.
pub(crate) struct FaultContext {
    pub(crate) quick: bool,
    seed: u64,
    postgres: Option<Arc<PostgresServer>>,
    rabbitmq: Option<Arc<RabbitMqServer>>,
}

impl FaultContext {
    pub(crate) fn new(seed: u64, quick: bool) -> Self {
        Self {
            quick,
            seed,
            postgres: None,
            rabbitmq: None,
        }
    }

    /// The random generator of one fault.
    pub(crate) fn random(&self, fault: u8) -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(self.seed << 8 | u64::from(fault))
    }

    /// The seed of the random faults.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A running private PostgreSQL.
    pub(crate) async fn postgres(&mut self) -> anyhow::Result<Arc<PostgresServer>> {
        if let Some(server) = &self.postgres {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(PostgresServer::start().await?);
        self.postgres = Some(Arc::clone(&server));
        Ok(server)
    }

    /// A running private RabbitMQ.
    pub(crate) async fn rabbitmq(&mut self) -> anyhow::Result<Arc<RabbitMqServer>> {
        if let Some(server) = &self.rabbitmq {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(RabbitMqServer::start().await?);
        self.rabbitmq = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Ends the servers, so that the next fault starts new ones.
    pub(crate) fn replace_servers(&mut self) {
        self.postgres = None;
        self.rabbitmq = None;
    }
}
