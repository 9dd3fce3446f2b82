//! The content of the database, read without the services.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use futures::TryStreamExt;
use sqlx::{
    ConnectOptions, Connection, FromRow, PgConnection, SqliteConnection,
    postgres::{PgConnectOptions, PgRow},
    query::QueryAs,
    sqlite::{SqliteConnectOptions, SqliteRow},
};

use crate::oracle::ExactSums;

/// Identifies a row of a ranking.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) metric: String,
    pub(crate) llm: String,
    pub(crate) source: String,
}

/// The numbers of batches that are stored, counted and published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Balance {
    /// Stored batches.
    pub(crate) stored: i64,
    /// Stored batches that are not in the ledger.
    pub(crate) uncounted: i64,
    /// Ledger rows without a stored batch.
    pub(crate) orphaned: i64,
    /// Batches in the outbox.
    pub(crate) unpublished: i64,
}

impl Balance {
    /// Whether every stored batch is counted and published.
    pub(crate) fn is_settled(self) -> bool {
        self.uncounted == 0 && self.orphaned == 0 && self.unpublished == 0
    }
}

/// A database by its administrator's URL: PostgreSQL, or SQLite's file. Every query opens a connection of its own, because the
/// server may have been restarted in between.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    url: String,
}

/// A query in both SQL dialects.
struct Query {
    postgres: &'static str,
    sqlite: &'static str,
}

impl Query {
    const fn of_both(sql: &'static str) -> Self {
        Self {
            postgres: sql,
            sqlite: sql,
        }
    }
}

impl Database {
    const SQLITE: &str = "sqlite://";

    pub(crate) fn new(url: String) -> Self {
        Self { url }
    }

    /// An embedded database in this directory.
    pub(crate) fn embedded(directory: &Path) -> Self {
        let file = directory.join("llm-bench.sqlite");
        Self::new(format!("{}{}", Self::SQLITE, file.display()))
    }

    pub(crate) fn is_embedded(&self) -> bool {
        self.url.starts_with(Self::SQLITE)
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A connection without a proxy.
    pub(crate) async fn connect(&self) -> anyhow::Result<PgConnection> {
        let options: PgConnectOptions = self.url.parse()?;
        Ok(options.disable_statement_logging().connect().await?)
    }

    /// A connection to the file of the embedded database, like that of another process.
    pub(crate) async fn connect_embedded(&self) -> anyhow::Result<SqliteConnection> {
        let options: SqliteConnectOptions = self.url.parse()?;
        Ok(options.disable_statement_logging().connect().await?)
    }

    /// The rows of a query. `parameter` is its parameter.
    async fn rows<T>(&self, query: Query, parameter: Option<&str>) -> anyhow::Result<Vec<T>>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        if self.is_embedded() {
            let mut connection = self.connect_embedded().await?;
            let sql = sqlx::query_as(query.sqlite);
            let sql = parameter.into_iter().fold(sql, QueryAs::bind);
            let rows = sql.fetch_all(&mut connection).await?;
            connection.close().await?;
            return Ok(rows);
        }
        let mut connection = self.connect().await?;
        let sql = sqlx::query_as(query.postgres);
        let sql = parameter.into_iter().fold(sql, QueryAs::bind);
        let rows = sql.fetch_all(&mut connection).await?;
        connection.close().await?;
        Ok(rows)
    }

    /// The row of a query that returns one row.
    async fn row<T>(&self, query: Query, parameter: Option<&str>) -> anyhow::Result<T>
    where
        T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin,
    {
        let rows = self.rows(query, parameter).await?;
        rows.into_iter().next().context("a query without a row")
    }

    pub(crate) async fn balance(&self) -> anyhow::Result<Balance> {
        let query = Query::of_both(
            "SELECT (SELECT count(*) FROM batches) AS stored,
                    (SELECT count(*) FROM batches b
                     WHERE NOT EXISTS (SELECT 1 FROM ledger l WHERE l.batch_id = b.id)) AS uncounted,
                    (SELECT count(*) FROM ledger l
                     WHERE NOT EXISTS (SELECT 1 FROM batches b WHERE b.id = l.batch_id)) AS orphaned,
                    (SELECT count(*) FROM outbox) AS unpublished",
        );
        let (stored, uncounted, orphaned, unpublished) = self.row(query, None).await?;
        Ok(Balance {
            stored,
            uncounted,
            orphaned,
            unpublished,
        })
    }

    /// The number of batches that were stored before `instant` (of the database's clock) and are not counted.
    pub(crate) async fn uncounted_before(&self, instant: &str) -> anyhow::Result<i64> {
        let query = Query {
            postgres: "SELECT count(*) FROM batches b WHERE b.recorded_at <= $1::timestamptz
                           AND NOT EXISTS (SELECT FROM ledger l WHERE l.batch_id = b.id)",
            sqlite: "SELECT count(*) FROM batches b WHERE b.recorded_at <= CAST($1 AS INTEGER)
                         AND NOT EXISTS (SELECT 1 FROM ledger l WHERE l.batch_id = b.id)",
        };
        let (uncounted,) = self.row(query, Some(instant)).await?;
        Ok(uncounted)
    }

    /// The current time of the database's clock.
    pub(crate) async fn now(&self) -> anyhow::Result<String> {
        let query = Query {
            postgres: "SELECT clock_timestamp()::text",
            // In microseconds. SQLite's clock counts milliseconds, so this rounds up.
            sqlite: "SELECT CAST(CAST((julianday('now') - 2440587.5) * 86400000 + 1 AS INTEGER) * 1000 AS TEXT)",
        };
        let (now,) = self.row(query, None).await?;
        Ok(now)
    }

    /// The number of stored values of each key.
    pub(crate) async fn stored_values(&self) -> anyhow::Result<BTreeMap<Key, u64>> {
        let query = Query {
            postgres: "SELECT m.title, l.name, b.source, sum(cardinality(b.data_points))::bigint
                       FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
                       GROUP BY 1, 2, 3",
            sqlite: "SELECT m.title, l.name, b.source, sum(length(b.data_points) / 8)
                     FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id
                     GROUP BY 1, 2, 3",
        };
        let rows: Vec<(String, String, String, i64)> = self.rows(query, None).await?;
        Ok(rows
            .into_iter()
            .map(|(metric, llm, source, n)| (Key { metric, llm, source }, n.cast_unsigned()))
            .collect())
    }

    /// The exact sums of all stored values. They are read in binary, so no digit is lost.
    pub(crate) async fn exact(&self) -> anyhow::Result<BTreeMap<Key, ExactSums>> {
        const BATCHES: &str = "SELECT m.title, l.name, b.source, b.data_points
             FROM batches b JOIN llms l ON l.id = b.llm_id JOIN metrics m ON m.id = b.metric_id";
        let mut exact = BTreeMap::new();
        if self.is_embedded() {
            let mut connection = self.connect_embedded().await?;
            let mut rows = sqlx::query_as(BATCHES).fetch(&mut connection);
            while let Some((metric, llm, source, bytes)) = rows.try_next().await? {
                let bytes: Vec<u8> = bytes;
                add(&mut exact, Key { metric, llm, source }, doubles(&bytes));
            }
        } else {
            let mut connection = self.connect().await?;
            let mut rows = sqlx::query_as(BATCHES).fetch(&mut connection);
            while let Some((metric, llm, source, values)) = rows.try_next().await? {
                add(&mut exact, Key { metric, llm, source }, values);
            }
        }
        Ok(exact)
    }
}

fn add(exact: &mut BTreeMap<Key, ExactSums>, key: Key, values: Vec<f64>) {
    let sums = exact.entry(key).or_default();
    values.into_iter().for_each(|value| sums.add(value));
}

/// Decodes the little-endian doubles of the embedded database.
fn doubles(bytes: &[u8]) -> Vec<f64> {
    let (doubles, _rest_refused_by_the_schema) = bytes.as_chunks();
    doubles.iter().map(|double| f64::from_le_bytes(*double)).collect()
}
