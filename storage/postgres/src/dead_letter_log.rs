use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};
use storage::{DeadLetterEntry, DeadLetterLog, DeadLetterNote, Result};
use storage_sql::{
    SqlError,
    columns::{DeadLetterColumns, NoteColumns},
};

use crate::PostgresStorage;

#[async_trait]
impl DeadLetterLog for PostgresStorage {
    async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> Result<Vec<i64>> {
        let notes: Vec<_> = notes.iter().map(NoteColumns::from).collect();
        self.retrying("note dead letters", async || {
            Ok(sqlx::query_scalar(
                "INSERT INTO dead_letter_log
                     (letter_id, action, reason, body, body_bytes, operator, noted_at)
                 SELECT letter_id, action, reason, body, body_bytes, operator, noted_at
                 FROM ROWS FROM (
                     unnest($1::text[]), unnest($2::text[]), unnest($3::text[]), unnest($4::bytea[]),
                     unnest($5::bigint[]), unnest($6::text[]), unnest($7::timestamptz[])
                 ) WITH ORDINALITY
                 AS given (letter_id, action, reason, body, body_bytes, operator, noted_at, position)
                 ORDER BY position
                 RETURNING id",
            )
            .bind(notes.iter().map(|note| &*note.letter_id).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| note.action).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| &*note.reason).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| note.body).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| note.body_bytes).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| &*note.operator).collect::<Vec<_>>())
            .bind(notes.iter().map(|note| note.noted_at).collect::<Vec<_>>())
            .fetch_all(&self.pool)
            .await?)
        })
        .await
    }

    async fn dead_letters_done(&self, entries: &[i64], at: DateTime<Utc>) -> Result<()> {
        self.retrying("note dead letters as done", async || {
            sqlx::query("UPDATE dead_letter_log SET done_at = $2 WHERE id = ANY($1) AND done_at IS NULL")
                .bind(entries)
                .bind(at)
                .execute(&self.pool)
                .await?;
            Ok(())
        })
        .await
    }

    async fn dead_letter_log(&self, limit: u32) -> Result<Vec<DeadLetterEntry>> {
        self.retrying("read the log of dead letters", async || {
            sqlx::query(
                "SELECT id, letter_id, action, reason, body, body_bytes, operator, noted_at, done_at
                 FROM dead_letter_log ORDER BY id DESC LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await?
            .iter()
            .map(decode)
            .collect()
        })
        .await
    }
}

fn decode(row: &PgRow) -> std::result::Result<DeadLetterEntry, SqlError> {
    DeadLetterColumns {
        id: row.try_get("id")?,
        letter_id: row.try_get("letter_id")?,
        action: row.try_get("action")?,
        reason: row.try_get("reason")?,
        body: row.try_get("body")?,
        body_bytes: row.try_get("body_bytes")?,
        operator: row.try_get("operator")?,
        noted_at: row.try_get("noted_at")?,
        done_at: row.try_get("done_at")?,
    }
    .try_into()
}
