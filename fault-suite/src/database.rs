//! What the database holds, read past the services.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use sqlx::{ConnectOptions, Connection, PgConnection, Row as _, postgres::PgConnectOptions};

use crate::oracle::Exact;

/// What a ranking row is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) metric: String,
    pub(crate) llm: String,
    pub(crate) source: String,
}

/// How batches, ledger, outbox and statistics relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    /// Batches that are stored.
    pub(crate) stored: i64,
    /// Batches that are stored and not in the ledger.
    pub(crate) uncounted: i64,
    /// Ledger rows without a stored batch.
    pub(crate) unfounded: i64,
    /// Batches that wait to be published.
    pub(crate) unpublished: i64,
}

impl Balance {
    /// Whether everything that is stored is counted and published.
    pub(crate) fn is_even(self) -> bool {
        self.uncounted == 0 && self.unfounded == 0 && self.unpublished == 0
    }
}

/// A database, by its administrator's URL. Every question opens a connection of its own, so that none is spoilt by what
/// happened to the server in between.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: String,
}

impl Database {
    pub(crate) fn new(url: String) -> Self {
        Self { url }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection past every proxy.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.url.parse()?;
        Ok(options.disable_statement_logging().connect().await?)
    }

    pub(crate) async fn balance(&self) -> anyhow::Result<Balance> {
        let mut connection = self.connect().await?;
        let row = sqlx::query(
            "SELECT (SELECT count(*) FROM batches) AS stored,
                    (SELECT count(*) FROM batches b
                     WHERE NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)) AS uncounted,
                    (SELECT count(*) FROM ledger l
                     WHERE NOT EXISTS (SELECT FROM batches b WHERE b.id = l.batch_id)) AS unfounded,
                    (SELECT count(*) FROM outbox) AS unpublished",
        )
        .fetch_one(&mut connection)
        .await?;
        let balance = Balance {
            stored: row.try_get("stored")?,
            uncounted: row.try_get("uncounted")?,
            unfounded: row.try_get("unfounded")?,
            unpublished: row.try_get("unpublished")?,
        };
        connection.close().await?;
        Ok(balance)
    }

    /// Batches that were stored before `instant` of the database's clock and are not counted.
    pub(crate) async fn uncounted_before(&self, instant: &str) -> anyhow::Result<i64> {
        let mut connection = self.connect().await?;
        let uncounted = sqlx::query_scalar(
            "SELECT count(*) FROM batches b WHERE b.recorded_at <= $1::timestamptz
                 AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)",
        )
        .bind(instant)
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(uncounted)
    }

    /// The database's clock.
    pub(crate) async fn now(&self) -> anyhow::Result<String> {
        let mut connection = self.connect().await?;
        let now = sqlx::query_scalar("SELECT clock_timestamp()::text")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        Ok(now)
    }

    /// How many values are stored of each key.
    pub(crate) async fn stored_values(&self) -> anyhow::Result<BTreeMap<Key, u64>> {
        let mut connection = self.connect().await?;
        let rows = sqlx::query(
            "SELECT m.title, l.name, b.source, sum(cardinality(b.data_points))::bigint AS n
             FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
             GROUP BY 1, 2, 3",
        )
        .fetch_all(&mut connection)
        .await?;
        connection.close().await?;
        rows.iter()
            .map(|row| {
                let key = Key {
                    metric: row.try_get(0)?,
                    llm: row.try_get(1)?,
                    source: row.try_get(2)?,
                };
                Ok((key, row.try_get::<i64, _>(3)?.cast_unsigned()))
            })
            .collect()
    }

    /// The exact sums of all stored values, read in binary.
    pub(crate) async fn exact(&self) -> anyhow::Result<BTreeMap<Key, Exact>> {
        let mut connection = self.connect().await?;
        let mut exact: BTreeMap<Key, Exact> = BTreeMap::new();
        let mut rows = sqlx::query(
            "SELECT m.title, l.name, b.source, b.data_points
             FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id",
        )
        .fetch(&mut connection);
        while let Some(row) = rows.try_next().await? {
            let key = Key {
                metric: row.try_get(0)?,
                llm: row.try_get(1)?,
                source: row.try_get(2)?,
            };
            let values: Vec<f64> = row.try_get(3)?;
            let sums = exact.entry(key).or_default();
            values.into_iter().for_each(|value| sums.add(value));
        }
        Ok(exact)
    }
}
