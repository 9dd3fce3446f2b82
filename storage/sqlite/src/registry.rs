use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::{Creator, Llm, LlmId, Metric, MetricId, NewLlm, NewMetric, RegistrySeed};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};
use storage::{LlmChange, MetricChange, Registry, Result};
use storage_sql::{
    SqlError,
    columns::{LlmColumns, MetricColumns, changed_metric},
};

use crate::{
    SqliteStorage,
    time_columns::{from_column, to_column},
};

#[async_trait]
impl Registry for SqliteStorage {
    async fn seed(&self, seed: &RegistrySeed, at: DateTime<Utc>) -> Result<()> {
        self.run("seed the registry", async || {
            let mut transaction = self.begin().await?;
            seed_llms(&mut transaction, &seed.llms, at).await?;
            seed_metrics(&mut transaction, &seed.metrics, at).await?;
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    async fn llms(&self) -> Result<Vec<Llm>> {
        self.run("list LLMs", async || {
            sqlx::query(
                "SELECT id, name, creator, created_at, updated_at FROM llms
                 WHERE archived_at IS NULL ORDER BY id",
            )
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(llm)
            .collect()
        })
        .await
    }

    async fn create_llm(&self, new: &NewLlm, at: DateTime<Utc>) -> Result<Llm> {
        self.run("register an LLM", async || {
            sqlx::query(
                "INSERT INTO llms (name, creator, created_at, updated_at) VALUES ($1, $2, $3, $3)
                 ON CONFLICT (name) DO UPDATE
                     SET creator = excluded.creator, updated_at = excluded.updated_at, archived_at = NULL
                     WHERE llms.archived_at IS NOT NULL
                 RETURNING id, name, creator, created_at, updated_at",
            )
            .bind(new.name.as_str())
            .bind(new.creator.as_str())
            .bind(to_column(at))
            .fetch_optional(&self.writer)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::name_taken("LLM", &new.name)), llm)
        })
        .await
    }

    async fn update_llm(&self, id: LlmId, change: &LlmChange, at: DateTime<Utc>) -> Result<Llm> {
        self.run("change an LLM", async || {
            sqlx::query(
                "UPDATE llms SET creator = coalesce($2, creator), updated_at = $3
                 WHERE id = $1 AND archived_at IS NULL
                 RETURNING id, name, creator, created_at, updated_at",
            )
            .bind(id.0)
            .bind(change.creator.as_ref().map(Creator::as_str))
            .bind(to_column(at))
            .fetch_optional(&self.writer)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::not_found("LLM", id)), llm)
        })
        .await
    }

    async fn archive_llm(&self, id: LlmId, at: DateTime<Utc>) -> Result<()> {
        self.run("archive an LLM", async || {
            let archived = sqlx::query(
                "UPDATE llms SET archived_at = $2, updated_at = $2 WHERE id = $1 AND archived_at IS NULL",
            )
            .bind(id.0)
            .bind(to_column(at))
            .execute(&self.writer)
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
        self.run("list metrics", async || {
            sqlx::query(
                "SELECT id, title, unit, lower_bound, upper_bound, better, created_at, updated_at FROM metrics
                 WHERE archived_at IS NULL ORDER BY id",
            )
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(metric)
            .collect()
        })
        .await
    }

    async fn create_metric(&self, new: &NewMetric, at: DateTime<Utc>) -> Result<Metric> {
        self.run("register a metric", async || {
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
            .bind(to_column(at))
            .fetch_optional(&self.writer)
            .await?
            .as_ref()
            .map_or_else(|| Err(SqlError::name_taken("metric", &new.title)), metric)
        })
        .await
    }

    async fn update_metric(&self, id: MetricId, change: &MetricChange, at: DateTime<Utc>) -> Result<Metric> {
        self.run("change a metric", async || {
            let mut transaction = self.begin().await?;
            let row = sqlx::query(
                "SELECT id, title, unit, lower_bound, upper_bound, better, created_at, updated_at FROM metrics
                 WHERE id = $1 AND archived_at IS NULL",
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
            .bind(to_column(at))
            .execute(&mut *transaction)
            .await?;
            transaction.commit().await?;
            Ok(after)
        })
        .await
    }

    async fn archive_metric(&self, id: MetricId, at: DateTime<Utc>) -> Result<()> {
        self.run("archive a metric", async || {
            let archived = sqlx::query(
                "UPDATE metrics SET archived_at = $2, updated_at = $2 WHERE id = $1 AND archived_at IS NULL",
            )
            .bind(id.0)
            .bind(to_column(at))
            .execute(&self.writer)
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

async fn seed_llms(
    connection: &mut SqliteConnection,
    llms: &[NewLlm],
    at: DateTime<Utc>,
) -> std::result::Result<(), SqlError> {
    if sqlx::query("SELECT 1 FROM llms")
        .fetch_optional(&mut *connection)
        .await?
        .is_some()
    {
        return Ok(());
    }
    for llm in llms {
        sqlx::query(
            "INSERT INTO llms (name, creator, created_at, updated_at) VALUES ($1, $2, $3, $3)
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(llm.name.as_str())
        .bind(llm.creator.as_str())
        .bind(to_column(at))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn seed_metrics(
    connection: &mut SqliteConnection,
    metrics: &[NewMetric],
    at: DateTime<Utc>,
) -> std::result::Result<(), SqlError> {
    if sqlx::query("SELECT 1 FROM metrics")
        .fetch_optional(&mut *connection)
        .await?
        .is_some()
    {
        return Ok(());
    }
    for metric in metrics {
        sqlx::query(
            "INSERT INTO metrics (title, unit, lower_bound, upper_bound, better, created_at, updated_at)
             VALUES ($1, $2, $3, $4, $5, $6, $6)
             ON CONFLICT (title) DO NOTHING",
        )
        .bind(metric.title.as_str())
        .bind(metric.unit.as_str())
        .bind(metric.bounds.lower())
        .bind(metric.bounds.upper())
        .bind(metric.better.as_str())
        .bind(to_column(at))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn llm(row: &SqliteRow) -> std::result::Result<Llm, SqlError> {
    LlmColumns {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        creator: row.try_get("creator")?,
        created_at: from_column(row.try_get("created_at")?)?,
        updated_at: from_column(row.try_get("updated_at")?)?,
    }
    .try_into()
}

fn metric(row: &SqliteRow) -> std::result::Result<Metric, SqlError> {
    MetricColumns {
        id: row.try_get("id")?,
        title: row.try_get("title")?,
        unit: row.try_get("unit")?,
        lower_bound: row.try_get("lower_bound")?,
        upper_bound: row.try_get("upper_bound")?,
        better: row.try_get("better")?,
        created_at: from_column(row.try_get("created_at")?)?,
        updated_at: from_column(row.try_get("updated_at")?)?,
    }
    .try_into()
}
