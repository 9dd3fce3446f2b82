use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{Creator, Llm, LlmId, Metric, MetricId, NewLlm, NewMetric, RegistrySeed};
use sqlx::{PgConnection, Row, postgres::PgRow};
use storage::{LlmChange, MetricChange, Registry, Result};
use storage_sql::{
    SqlError,
    columns::{LlmColumns, MetricColumns, changed_metric},
};

use crate::PostgresStorage;

#[async_trait]
impl Registry for PostgresStorage {
    async fn seed(&self, seed: &RegistrySeed, at: DateTime<Utc>) -> Result<()> {
        self.retrying("seed the registry", async || {
            if is_filled(&mut *self.acquire().await?).await? {
                return Ok(());
            }
            let mut transaction = self.begin().await?;
            // Services start together; only one of them may find the tables empty.
            sqlx::query("LOCK TABLE llms, metrics IN SHARE ROW EXCLUSIVE MODE")
                .execute(&mut *transaction)
                .await?;
            seed_llms(&mut transaction, &seed.llms, at).await?;
            seed_metrics(&mut transaction, &seed.metrics, at).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    async fn llms(&self) -> Result<Vec<Llm>> {
        self.retrying("list LLMs", async || {
            sqlx::query(
                "SELECT id, name, creator, created_at, updated_at FROM llms
                 WHERE archived_at IS NULL ORDER BY id",
            )
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(llm)
            .collect()
        })
        .await
    }

    async fn create_llm(&self, new: &NewLlm, at: DateTime<Utc>) -> Result<Llm> {
        self.retrying("register an LLM", async || {
            sqlx::query(
                "INSERT INTO llms (name, creator, created_at, updated_at) VALUES ($1, $2, $3, $3)
                 ON CONFLICT (name) DO UPDATE
                     SET creator = excluded.creator, updated_at = excluded.updated_at, archived_at = NULL
                     WHERE llms.archived_at IS NOT NULL
                 RETURNING id, name, creator, created_at, updated_at",
            )
            .bind(new.name.as_str())
            .bind(new.creator.as_str())
            .bind(at)
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::name_taken("LLM", &new.name)), llm)
        })
        .await
    }

    async fn update_llm(&self, id: LlmId, change: &LlmChange, at: DateTime<Utc>) -> Result<Llm> {
        self.retrying("change an LLM", async || {
            sqlx::query(
                "UPDATE llms SET creator = coalesce($2, creator), updated_at = $3
                 WHERE id = $1 AND archived_at IS NULL
                 RETURNING id, name, creator, created_at, updated_at",
            )
            .bind(id.0)
            .bind(change.creator.as_ref().map(Creator::as_str))
            .bind(at)
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::not_found("LLM", id)), llm)
        })
        .await
    }

    async fn archive_llm(&self, id: LlmId, at: DateTime<Utc>) -> Result<()> {
        self.retrying("archive an LLM", async || {
            let archived = sqlx::query(
                "UPDATE llms SET archived_at = $2, updated_at = $2 WHERE id = $1 AND archived_at IS NULL",
            )
            .bind(id.0)
            .bind(at)
            .execute(&self.pool)
            .await?;
            if archived.rows_affected() == 0 {
                Err(SqlError::not_found("LLM", id))
            } else {
                Ok(())
            }
        })
        .await
    }

    async fn metrics(&self) -> Result<Vec<Metric>> {
        self.retrying("list metrics", async || {
            sqlx::query(
                "SELECT id, title, unit, lower_bound, upper_bound, better, created_at, updated_at FROM metrics
                 WHERE archived_at IS NULL ORDER BY id",
            )
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(metric)
            .collect()
        })
        .await
    }

    async fn create_metric(&self, new: &NewMetric, at: DateTime<Utc>) -> Result<Metric> {
        self.retrying("register a metric", async || {
            sqlx::query(
                "INSERT INTO metrics (title, unit, lower_bound, upper_bound, better, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $6)
                 ON CONFLICT (title) DO UPDATE
                     SET unit = excluded.unit, lower_bound = excluded.lower_bound,
                         upper_bound = excluded.upper_bound, better = excluded.better,
                         updated_at = excluded.updated_at, archived_at = NULL
                     WHERE metrics.archived_at IS NOT NULL
                 RETURNING id, title, unit, lower_bound, upper_bound, better, created_at, updated_at",
            )
            .bind(new.title.as_str())
            .bind(new.unit.as_str())
            .bind(new.bounds.lower())
            .bind(new.bounds.upper())
            .bind(new.better.as_str())
            .bind(at)
            .fetch_optional(&self.pool)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::name_taken("metric", &new.title)), metric)
        })
        .await
    }

    async fn update_metric(&self, id: MetricId, change: &MetricChange, at: DateTime<Utc>) -> Result<Metric> {
        self.retrying("change a metric", async || {
            let mut transaction = self.begin().await?;
            let row = sqlx::query(
                "SELECT id, title, unit, lower_bound, upper_bound, better, created_at, updated_at FROM metrics
                 WHERE id = $1 AND archived_at IS NULL FOR NO KEY UPDATE",
            )
            .bind(id.0)
            .fetch_optional(&mut *transaction)
            .await?;
            let before = row.as_ref().map_or_else(|| Err(SqlError::not_found("metric", id)), metric)?;
            let after = changed_metric(change, before, at)?;
            sqlx::query(
                "UPDATE metrics SET unit = $2, lower_bound = $3, upper_bound = $4, better = $5, updated_at = $6
                 WHERE id = $1",
            )
            .bind(id.0)
            .bind(after.unit.as_str())
            .bind(after.bounds.lower())
            .bind(after.bounds.upper())
            .bind(after.better.as_str())
            .bind(at)
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(after)
        })
        .await
    }

    async fn archive_metric(&self, id: MetricId, at: DateTime<Utc>) -> Result<()> {
        self.retrying("archive a metric", async || {
            let archived = sqlx::query(
                "UPDATE metrics SET archived_at = $2, updated_at = $2 WHERE id = $1 AND archived_at IS NULL",
            )
            .bind(id.0)
            .bind(at)
            .execute(&self.pool)
            .await?;
            if archived.rows_affected() == 0 {
                Err(SqlError::not_found("metric", id))
            } else {
                Ok(())
            }
        })
        .await
    }
}

/// Asked before anything is locked: a role that may not write the registry may find it filled.
async fn is_filled(connection: &mut PgConnection) -> std::result::Result<bool, SqlError> {
    let filled = sqlx::query_scalar("SELECT EXISTS (SELECT FROM llms) AND EXISTS (SELECT FROM metrics)")
        .fetch_one(connection)
        .await?;
    Ok(filled)
}

async fn seed_llms(
    connection: &mut PgConnection,
    llms: &[NewLlm],
    at: DateTime<Utc>,
) -> std::result::Result<(), SqlError> {
    sqlx::query(
        "INSERT INTO llms (name, creator, created_at, updated_at)
         SELECT name, creator, $3, $3
         FROM ROWS FROM (unnest($1::text[]), unnest($2::text[])) WITH ORDINALITY
              AS given (name, creator, position)
         WHERE NOT EXISTS (SELECT FROM llms)
         ORDER BY position
         ON CONFLICT (name) DO NOTHING",
    )
    .bind(llms.iter().map(|llm| llm.name.as_str()).collect::<Vec<_>>())
    .bind(llms.iter().map(|llm| llm.creator.as_str()).collect::<Vec<_>>())
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

async fn seed_metrics(
    connection: &mut PgConnection,
    metrics: &[NewMetric],
    at: DateTime<Utc>,
) -> std::result::Result<(), SqlError> {
    sqlx::query(
        "INSERT INTO metrics (title, unit, lower_bound, upper_bound, better, created_at, updated_at)
         SELECT title, unit, lower_bound, upper_bound, better, $6, $6
         FROM ROWS FROM (
                  unnest($1::text[]), unnest($2::text[]), unnest($3::float8[]), unnest($4::float8[]),
                  unnest($5::text[])
              ) WITH ORDINALITY AS given (title, unit, lower_bound, upper_bound, better, position)
         WHERE NOT EXISTS (SELECT FROM metrics)
         ORDER BY position
         ON CONFLICT (title) DO NOTHING",
    )
    .bind(
        metrics
            .iter()
            .map(|metric| metric.title.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        metrics
            .iter()
            .map(|metric| metric.unit.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(
        metrics
            .iter()
            .map(|metric| metric.bounds.lower())
            .collect::<Vec<_>>(),
    )
    .bind(
        metrics
            .iter()
            .map(|metric| metric.bounds.upper())
            .collect::<Vec<_>>(),
    )
    .bind(
        metrics
            .iter()
            .map(|metric| metric.better.as_str())
            .collect::<Vec<_>>(),
    )
    .bind(at)
    .execute(connection)
    .await?;
    Ok(())
}

fn llm(row: &PgRow) -> std::result::Result<Llm, SqlError> {
    LlmColumns {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        creator: row.try_get("creator")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    }
    .try_into()
}

fn metric(row: &PgRow) -> std::result::Result<Metric, SqlError> {
    MetricColumns {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        unit: row.try_get("unit")?,
        lower_bound: row.try_get("lower_bound")?,
        upper_bound: row.try_get("upper_bound")?,
        better: row.try_get("better")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    }
    .try_into()
}
