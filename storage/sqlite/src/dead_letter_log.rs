use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row, sqlite::SqliteRow};
use storage::{DeadLetterEntry, DeadLetterLog, DeadLetterNote, Result};
use storage_sql::{
    SqlError,
    columns::{DeadLetterColumns, NoteColumns},
};

use crate::{
    SqliteStorage,
    time_columns::{from_column, from_optional_column, to_column},
};

#[async_trait]
impl DeadLetterLog for SqliteStorage {
    async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> Result<Vec<i64>> {
        self.run("note dead letters", async || {
            let mut transaction = self.begin().await?;
            let mut entries = Vec::with_capacity(notes.len());
            for note in notes.iter().map(NoteColumns::from) {
                let entry: i64 = sqlx::query_scalar(
                    "INSERT INTO dead_letter_log
                         (letter_id, action, reason, body, body_bytes, operator, noted_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     RETURNING id",
                )
                .bind(note.letter_id)
                .bind(note.action)
                .bind(note.reason)
                .bind(note.body)
                .bind(note.body_bytes)
                .bind(note.operator)
                .bind(to_column(note.noted_at))
                .fetch_one(&mut *transaction)
                .await?;
                entries.push(entry);
            }
            transaction.commit().await?;
            Ok(entries)
        })
        .await
    }

    async fn dead_letters_done(&self, entries: &[i64], at: DateTime<Utc>) -> Result<()> {
        self.run("note dead letters as done", async || {
            let mut transaction = self.begin().await?;
            for entry in entries {
                sqlx::query("UPDATE dead_letter_log SET done_at = $2 WHERE id = $1 AND done_at IS NULL")
                    .bind(entry)
                    .bind(to_column(at))
                    .execute(&mut *transaction)
                    .await?;
            }
            transaction.commit().await?;
            Ok(())
        })
        .await
    }

    async fn dead_letter_log(&self, limit: u32) -> Result<Vec<DeadLetterEntry>> {
        self.run("read the log of dead letters", async || {
            sqlx::query(
                "SELECT id, letter_id, action, reason, body, body_bytes, operator, noted_at, done_at
                 FROM dead_letter_log ORDER BY id DESC LIMIT $1",
            )
            .bind(i64::from(limit))
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(decode)
            .collect()
        })
        .await
    }
}

fn decode(row: &SqliteRow) -> std::result::Result<DeadLetterEntry, SqlError> {
    DeadLetterColumns {
        id: row.try_get("id")?,
        letter_id: row.try_get("letter_id")?,
        action: row.try_get("action")?,
        reason: row.try_get("reason")?,
        body: row.try_get("body")?,
        body_bytes: row.try_get("body_bytes")?,
        operator: row.try_get("operator")?,
        noted_at: from_column(row.try_get("noted_at")?)?,
        done_at: from_optional_column(row.try_get("done_at")?)?,
    }
    .try_into()
}
