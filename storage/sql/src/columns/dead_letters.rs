use std::borrow::Cow;

use chrono::{DateTime, Utc};

use storage::{DeadLetterEntry, DeadLetterNote};

use crate::SqlError;

/// The columns of an entry in the log of dead letters, out.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct DeadLetterColumns {
    pub id: i64,
    pub letter_id: String,
    pub action: String,
    pub reason: String,
    pub body: Vec<u8>,
    pub body_bytes: i64,
    pub operator: String,
    pub noted_at: DateTime<Utc>,
    pub done_at: Option<DateTime<Utc>>,
}

impl TryFrom<DeadLetterColumns> for DeadLetterEntry {
    type Error = SqlError;

    fn try_from(columns: DeadLetterColumns) -> Result<Self, SqlError> {
        Ok(Self {
            id: columns.id,
            note: DeadLetterNote {
                letter_id: columns.letter_id,
                action: columns.action.parse()?,
                reason: columns.reason,
                body: columns.body,
                body_bytes: columns.body_bytes.cast_unsigned(),
                operator: columns.operator,
                at: columns.noted_at,
            },
            done_at: columns.done_at,
        })
    }
}

/// The columns of a new entry, in.
#[derive(Debug)]
#[expect(missing_docs, reason = "the columns' names in the database")]
pub struct NoteColumns<'n> {
    pub letter_id: Cow<'n, str>,
    pub action: &'static str,
    pub reason: Cow<'n, str>,
    pub body: &'n [u8],
    pub body_bytes: i64,
    pub operator: Cow<'n, str>,
    pub noted_at: DateTime<Utc>,
}

impl<'n> From<&'n DeadLetterNote> for NoteColumns<'n> {
    fn from(note: &'n DeadLetterNote) -> Self {
        Self {
            letter_id: without_nul(&note.letter_id),
            action: note.action.as_str(),
            reason: without_nul(&note.reason),
            body: &note.body,
            body_bytes: note.body_bytes.cast_signed(),
            operator: without_nul(&note.operator),
            noted_at: note.at,
        }
    }
}

/// Whoever published the letter may have put anything into its id and reason; PostgreSQL's text holds no NUL, and
/// programs that read SQLite's stop at one.
fn without_nul(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text.into()
    }
}
