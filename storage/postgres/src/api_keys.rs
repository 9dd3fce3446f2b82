use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};
use storage::{ApiKeyId, ApiKeyRecord, ApiKeys, Result};
use storage_sql::{SqlError, columns::ApiKeyColumns};

use crate::PostgresStorage;

#[async_trait]
impl ApiKeys for PostgresStorage {
    async fn add_api_key(&self, key: &ApiKeyRecord) -> Result<()> {
        self.retrying("add an API key", async || {
            sqlx::query(
                "INSERT INTO api_keys (id, name, scope, hash, created_at, expires_at, revoked_at)
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&key.id.0)
            .bind(&key.name)
            .bind(key.scope.as_str())
            .bind(key.hash.as_slice())
            .bind(key.created_at)
            .bind(key.expires_at)
            .bind(key.revoked_at)
            .execute(&self.pool)
            .await?;
            Ok(())
        })
        .await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>> {
        self.retrying("list API keys", async || {
            sqlx::query(
                "SELECT id, name, scope, hash, created_at, expires_at, revoked_at
                 FROM api_keys ORDER BY created_at, id",
            )
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(decode)
            .collect()
        })
        .await
    }

    async fn revoke_api_key(&self, id: &ApiKeyId, at: DateTime<Utc>) -> Result<()> {
        self.retrying("revoke an API key", async || {
            let revoked =
                sqlx::query("UPDATE api_keys SET revoked_at = coalesce(revoked_at, $2) WHERE id = $1")
                    .bind(&id.0)
                    .bind(at)
                    .execute(&self.pool)
                    .await?;
            match revoked.rows_affected() {
                0 => Err(SqlError::not_found("API key", &id.0)),
                _ => Ok(()),
            }
        })
        .await
    }
}

fn decode(row: &PgRow) -> std::result::Result<ApiKeyRecord, SqlError> {
    ApiKeyColumns {
        id: row.try_get("id")?,
        name: row.try_get("name")?,
        scope: row.try_get("scope")?,
        hash: row.try_get("hash")?,
        created_at: row.try_get("created_at")?,
        expires_at: row.try_get("expires_at")?,
        revoked_at: row.try_get("revoked_at")?,
    }
    .try_into()
}
