//! Recorded traffic: times and lengths from Mooncake's and Azure's public traces. Their texts were never published; ours are
//! made of sonnets, so that lengths, and with Mooncake's the shared prefixes, are those of the recording.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
    time::Duration,
};

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use serde::Deserialize;

use super::{
    FilePosition, GeneratedRequests, PreparedRequest, PromptText, WorkloadError,
    exact_length::{SonnetText, TokenizedText},
    parallel,
    random::{Purpose, stream},
};
use crate::tokens::Tokenizer;

const EXPECTED: &str = r#"Mooncake's JSONL ({"timestamp": 0, "input_length": 6755, "output_length": 500, "hash_ids": [0, 1]}, times in ms) or Azure's CSV (TIMESTAMP,ContextTokens,GeneratedTokens)"#;

/// Tokens that one of Mooncake's hash ids stands for.
const BLOCK: u32 = 512;

/// A recorded request.
#[derive(Debug, PartialEq)]
struct Row {
    /// Time since an origin that all rows of a file share.
    at: TimeDelta,
    input_tokens: u32,
    output_tokens: u32,
    /// Rows that begin with the same ids begin with the same blocks of text.
    blocks: Vec<u64>,
}

/// The requests of a trace in the order of their times, no more than `most`, and none later than `end` after the first.
///
/// Equal hash ids of Mooncake give equal blocks of 512 tokens of text. Lengths of 0 become 1, and the notes say how
/// many did.
pub(super) fn prompts(
    path: &Path,
    end: Duration,
    most: usize,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<GeneratedRequests, WorkloadError> {
    let all = read(path)?;
    let recorded = all.len();
    let (offsets, rows) = within(all, end, most);
    let verse = SonnetText::new(tokenizer)?;
    let blocks = blocks(&rows, &verse, seed, tokenizer)?;
    let requests = parallel::in_order(rows.len(), |index| {
        let row = &rows[index];
        let prompt_tokens = row.input_tokens.max(1);
        let given: Vec<&TokenizedText> = row.blocks.iter().filter_map(|id| blocks.get(id)).collect();
        let mut rng = stream(seed, Purpose::Prompt, index as u64);
        Ok::<_, WorkloadError>(PreparedRequest {
            prompt: PromptText::Text(verse.fill("", &given, prompt_tokens, &mut rng)?),
            prompt_tokens,
            max_tokens: Some(row.output_tokens.max(1)),
            expected: None,
        })
    })?;
    let mut notes =
        vec!["the trace's texts are not public; they are lines of sonnets of its lengths".to_owned()];
    if rows.len() < recorded {
        notes.push(format!(
            "{} of the trace's {recorded} requests fit into the run",
            rows.len()
        ));
    }
    let lifted = rows
        .iter()
        .filter(|row| row.input_tokens == 0 || row.output_tokens == 0)
        .count();
    if lifted > 0 {
        notes.push(format!("{lifted} requests had a length of 0, which became 1"));
    }
    Ok(GeneratedRequests {
        requests,
        offsets: Some(offsets),
        notes,
    })
}

/// The rows in the order of their times, and their times since the first.
fn within(mut rows: Vec<Row>, end: Duration, most: usize) -> (Vec<Duration>, Vec<Row>) {
    rows.sort_by_key(|row| row.at);
    let first = rows.first().map_or(TimeDelta::zero(), |row| row.at);
    let offsets = rows
        .iter()
        .map(|row| (row.at - first).to_std().unwrap_or_default());
    let offsets: Vec<_> = offsets.take_while(|offset| *offset <= end).take(most).collect();
    rows.truncate(offsets.len());
    (offsets, rows)
}

/// Every block begins on a line of its own, so that its encoding does not depend on the block before it.
fn blocks(
    rows: &[Row],
    verse: &SonnetText<'_>,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<HashMap<u64, TokenizedText>, WorkloadError> {
    let ids: BTreeSet<u64> = rows.iter().flat_map(|row| row.blocks.iter().copied()).collect();
    let ids: Vec<u64> = ids.into_iter().collect();
    let made = parallel::in_order(ids.len(), |at| {
        let text = verse.fill("\n", &[], BLOCK, &mut stream(seed, Purpose::Block, ids[at]))?;
        Ok::<_, WorkloadError>((ids[at], TokenizedText::new(text, tokenizer)?))
    })?;
    Ok(made.into_iter().collect())
}

fn read(path: &Path) -> Result<Vec<Row>, WorkloadError> {
    let text = std::fs::read_to_string(path).map_err(|source| WorkloadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim_start_matches('\u{feff}');
    let rows = if text.trim_start().starts_with('{') {
        mooncake(text, path)?
    } else {
        azure(text, path)?
    };
    if rows.is_empty() {
        return Err(WorkloadError::Empty {
            path: path.to_owned(),
            found: "no row".to_owned(),
            expected: EXPECTED,
        });
    }
    Ok(rows)
}

#[derive(Deserialize)]
struct MooncakeRow {
    /// ms.
    timestamp: f64,
    input_length: u32,
    output_length: u32,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

fn mooncake(text: &str, path: &Path) -> Result<Vec<Row>, WorkloadError> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let rows = lines.map(|(at, line)| {
        let row: MooncakeRow = serde_json::from_str(line).map_err(|source| WorkloadError::Json {
            path: path.to_owned(),
            line: Some(at + 1),
            expected: EXPECTED,
            source,
        })?;
        let since_start = Duration::try_from_secs_f64(row.timestamp / 1e3).ok();
        let Some(at) = since_start.and_then(|time| TimeDelta::from_std(time).ok()) else {
            return Err(WorkloadError::Row {
                path: path.to_owned(),
                place: FilePosition::Line(at + 1),
                found: format!("the timestamp {}", row.timestamp),
                expected: "milliseconds since the trace's start",
            });
        };
        Ok(Row {
            at,
            input_tokens: row.input_length,
            output_tokens: row.output_length,
            blocks: row.hash_ids,
        })
    });
    rows.collect()
}

#[derive(Deserialize)]
struct AzureRow {
    #[serde(rename = "TIMESTAMP")]
    timestamp: String,
    #[serde(rename = "ContextTokens")]
    context_tokens: u32,
    #[serde(rename = "GeneratedTokens")]
    generated_tokens: u32,
}

fn azure(text: &str, path: &Path) -> Result<Vec<Row>, WorkloadError> {
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let wrong = |source| WorkloadError::Csv {
        path: path.to_owned(),
        expected: EXPECTED,
        source,
    };
    let headers = reader.headers().map_err(wrong)?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(wrong)?;
        let row: AzureRow = record.deserialize(Some(&headers)).map_err(wrong)?;
        let Some(time) = moment(&row.timestamp) else {
            let line = record.position().map_or(0, csv::Position::line);
            return Err(WorkloadError::Row {
                path: path.to_owned(),
                place: FilePosition::Line(usize::try_from(line).unwrap_or(usize::MAX)),
                found: format!("the timestamp {:?}", row.timestamp),
                expected: "a time such as 2023-11-16 18:15:46.6805900",
            });
        };
        rows.push(Row {
            at: time.and_utc() - DateTime::UNIX_EPOCH,
            input_tokens: row.context_tokens,
            output_tokens: row.generated_tokens,
            blocks: Vec::new(),
        });
    }
    Ok(rows)
}

/// The traces of 2023 have no offset, those of 2024 do.
fn moment(timestamp: &str) -> Option<NaiveDateTime> {
    let timestamp = timestamp.replacen('T', " ", 1);
    let local = NaiveDateTime::parse_from_str(&timestamp, "%Y-%m-%d %H:%M:%S%.f");
    let with_offset = || DateTime::parse_from_str(&timestamp, "%Y-%m-%d %H:%M:%S%.f%#z");
    local
        .or_else(|_| with_offset().map(|moment| moment.naive_utc()))
        .ok()
}
