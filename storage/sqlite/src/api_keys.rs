use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row, sqlite::SqliteRow};
use storage::{ApiKeyId, ApiKeyRecord, ApiKeys, Result};
use storage_sql::{SqlError, columns::ApiKeyColumns};

use crate::{
    SqliteStorage,
    time_columns::{from_column, from_optional_column, to_column},
};

#[async_trait]
impl ApiKeys for SqliteStorage {
    async fn add_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        self.run("add an API key", async || {
            sqlx::query(
                "INSERT INTO api_keys (id, name, scope, hash, created_at, expires_at, revoked_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&key.id.0)
            .bind(&key.name)
            .bind(key.scope.as_str())
            .bind(key.hash.as_slice())
            .bind(to_column(key.created_at))
            .bind(key.expires_at.map(to_column))
            .bind(key.revoked_at.map(to_column))
            .execute(&self.writer)
            .await?;
            Ok(())
        })
        .await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        self.run("list API keys", async || {
            sqlx::query(
                "SELECT id, name, scope, hash, created_at, expires_at, revoked_at
                 FROM api_keys ORDER BY created_at, id",
            )
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(decode)
            .collect()
        })
        .await
    }

    async fn revoke_api_key(&self, id: &ApiKeyId, at: DateTime<Utc>) -> Result<()> {
        self.run("revoke an API key", async || {
            let revoked =
                sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1")
                    .bind(&id.0)
                    .bind(to_column(at))
                    .execute(&self.writer)
                    .await?;
            match revoked.rows_affected() {
                0 => Err(SqlError::not_found("API key", &id.0)),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn decode(row: &SqliteRow) -> std::result::Result<ApiKeyRecord, SqlError> {
    ApiKeyColumns {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scope: row.try_get("scope")?,
        hash: row.try_get("hash")?,
        created_at: from_column(row.try_get("created_at")?)?,
        expires_at: from_optional_column(row.try_get("expires_at")?)?,
        revoked_at: from_optional_column(row.try_get("revoked_at")?)?,
    }
    .try_into()
}
