use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::{Row, postgres::PgRow};
use storage::{DeadLetterEntry, DeadLetterLog, DeadLetterNote, Result, columns::DeadLetterColumns};

use crate::{PostgresStorage, fault::SqlError};

#[async_trait]
impl DeadLetterLog for PostgresStorage {
    async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> Result<Vec<i64>> {
        let columns = Columns::of(notes);
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
            .bind(&columns.letter_ids)
            .bind(&columns.actions)
            .bind(&columns.reasons)
            .bind(&columns.bodies)
            .bind(&columns.body_bytes)
            .bind(&columns.operators)
            .bind(&columns.times)
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

/// Notes turned into one array per column.
#[derive(Default)]
struct Columns<'a> {
    letter_ids: Vec<String>,
    actions: Vec<&'static str>,
    reasons: Vec<String>,
    bodies: Vec<&'a [u8]>,
    body_bytes: Vec<i64>,
    operators: Vec<String>,
    times: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    fn of(notes: &'a [DeadLetterNote]) -> Self {
        let mut columns = Self::default();
        for note in notes {
            columns.letter_ids.push(text(&note.letter_id));
            columns.actions.push(note.action.as_str());
            columns.reasons.push(text(&note.reason));
            columns.bodies.push(&note.body);
            columns.body_bytes.push(note.body_bytes.cast_signed());
            columns.operators.push(text(&note.operator));
            columns.times.push(note.at);
        }
        columns
    }
}

/// Whoever wrote the letter may have put anything into it, and PostgreSQL's text has no NUL.
fn text(given: &str) -> String {
    given.replace('\0', "\u{fffd}")
}

fn decode(row: &PgRow) -> std::result::Result<DeadLetterEntry, SqlError> {
    Ok(DeadLetterColumns {
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
    .try_into()?)
}
