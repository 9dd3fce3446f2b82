//! The user's own prompts, and ShareGPT's conversations.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use llm_client::Role;
use serde::Deserialize;

use super::{
    ChatMessage, FilePosition, GeneratedRequests, PreparedRequest, PromptText, WorkloadError, parallel,
    random::{Purpose, stream},
};
use crate::{plan::Lengths, tokens::Tokenizer};

const EXPECTED: &str = r#"{"prompt": "…"}, {"text": "…"}, {"messages": [{"role": "user", "content": "…"}]} or ShareGPT's {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", "value": "…"}]}, where wanted with "max_tokens""#;

/// Unknown fields are ignored: public data sets have ids and labels.
#[derive(Debug, Deserialize)]
struct Entry {
    prompt: Option<String>,
    text: Option<String>,
    messages: Option<Vec<RawMessage>>,
    conversations: Option<Vec<Turn>>,
    max_tokens: Option<u32>,
    output_tokens: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct RawMessage {
    role: String,
    content: String,
}

#[derive(Debug, Deserialize)]
struct Turn {
    from: String,
    value: String,
}

/// The prompt of an entry.
#[derive(Debug)]
struct DatasetPrompt {
    prompt: PromptText,
    answer: AnswerLength,
}

/// The length of the answer that is asked for.
#[derive(Debug)]
enum AnswerLength {
    Tokens(u32),
    /// As many tokens as this recorded answer has.
    Like(String),
    Unspecified,
}

/// The first `most` prompts of a file, in its order: one JSON object a line, or one JSON array of such objects.
///
/// Of a conversation, the first human turn is the prompt, and the answer may have as many tokens as the recorded one. A
/// conversation without these two is left out; the notes say how many were. Where an entry has no length, one is drawn from
/// `output_tokens`.
pub(super) fn prompts(
    path: &Path,
    output_tokens: Lengths,
    most: usize,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<GeneratedRequests, WorkloadError> {
    output_tokens.check("output tokens")?;
    let read = read(path, most)?;
    let requests = parallel::in_order(read.asked.len(), |index| {
        let DatasetPrompt { prompt, answer } = &read.asked[index];
        let max_tokens = match answer {
            AnswerLength::Tokens(tokens) => *tokens,
            AnswerLength::Like(text) => tokenizer.count(text)?.max(1),
            AnswerLength::Unspecified => output_tokens.draw(&mut stream(seed, Purpose::Prompt, index as u64)),
        };
        Ok::<_, WorkloadError>(PreparedRequest {
            prompt_tokens: prompt.tokens(tokenizer)?,
            prompt: prompt.clone(),
            max_tokens: Some(max_tokens),
            expected: None,
        })
    })?;
    let left_out = read.left_out;
    let note = format!("{left_out} conversations without a human turn and an answer to it were left out");
    Ok(GeneratedRequests {
        requests,
        notes: if left_out > 0 { vec![note] } else { Vec::new() },
        offsets: None,
    })
}

#[derive(Debug, Default)]
struct DatasetPrompts {
    asked: Vec<DatasetPrompt>,
    left_out: usize,
}

impl DatasetPrompts {
    fn take(&mut self, entry: Entry, path: &Path, place: FilePosition) -> Result<(), WorkloadError> {
        match entry.asked(path, place)? {
            Some(asked) => self.asked.push(asked),
            None => self.left_out += 1,
        }
        Ok(())
    }
}

fn read(path: &Path, most: usize) -> Result<DatasetPrompts, WorkloadError> {
    let failed = |source| WorkloadError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(path).map_err(failed)?);
    let start = file.fill_buf().map_err(failed)?;
    let is_array = start.trim_ascii_start().first() == Some(&b'[');
    let read = if is_array {
        read_array(file, path, most)?
    } else {
        read_lines(file, path, most)?
    };
    if read.asked.is_empty() {
        return Err(WorkloadError::Empty {
            path: path.to_owned(),
            found: match read.left_out {
                0 => "no entry".to_owned(),
                left_out => format!("{left_out} conversations without a human turn and an answer to it"),
            },
            expected: EXPECTED,
        });
    }
    Ok(read)
}

fn read_array(file: impl BufRead, path: &Path, most: usize) -> Result<DatasetPrompts, WorkloadError> {
    let entries: Vec<Entry> = serde_json::from_reader(file).map_err(|source| WorkloadError::Json {
        path: path.to_owned(),
        line: None,
        expected: EXPECTED,
        source,
    })?;
    let mut read = DatasetPrompts::default();
    for (at, entry) in entries.into_iter().enumerate() {
        if read.asked.len() == most {
            break;
        }
        read.take(entry, path, FilePosition::Entry(at + 1))?;
    }
    Ok(read)
}

fn read_lines(file: impl BufRead, path: &Path, most: usize) -> Result<DatasetPrompts, WorkloadError> {
    let mut read = DatasetPrompts::default();
    for (at, line) in file.lines().enumerate() {
        if read.asked.len() == most {
            break;
        }
        let line = line.map_err(|source| WorkloadError::Read {
            path: path.to_owned(),
            source,
        })?;
        if line.trim().is_empty() {
            continue;
        }
        let entry = serde_json::from_str(&line).map_err(|source| WorkloadError::Json {
            path: path.to_owned(),
            line: Some(at + 1),
            expected: EXPECTED,
            source,
        })?;
        read.take(entry, path, FilePosition::Line(at + 1))?;
    }
    Ok(read)
}

impl Entry {
    /// `None` for a conversation without a question or an answer.
    fn asked(self, path: &Path, place: FilePosition) -> Result<Option<DatasetPrompt>, WorkloadError> {
        let wrong = |found: String| WorkloadError::Row {
            path: path.to_owned(),
            place,
            found,
            expected: EXPECTED,
        };
        let answer = match (self.max_tokens, self.output_tokens) {
            (Some(0), _) | (_, Some(0)) => return Err(wrong("an answer of 0 tokens".to_owned())),
            (Some(tokens), _) | (None, Some(tokens)) => AnswerLength::Tokens(tokens),
            (None, None) => AnswerLength::Unspecified,
        };
        let prompt = match (self.prompt, self.text, self.messages, self.conversations) {
            (Some(text), None, None, None) | (None, Some(text), None, None) => PromptText::Text(text),
            (None, None, Some(messages), None) => {
                PromptText::Messages(conversation(messages).map_err(wrong)?)
            }
            (None, None, None, Some(turns)) => return Ok(first_exchange(turns, answer)),
            (None, None, None, None) => {
                return Err(wrong(
                    "none of prompt, text, messages and conversations".to_owned(),
                ));
            }
            _ => {
                return Err(wrong(
                    "more than one of prompt, text, messages and conversations".to_owned(),
                ));
            }
        };
        if prompt.texts().all(str::is_empty) {
            return Err(wrong("an empty prompt".to_owned()));
        }
        Ok(Some(DatasetPrompt { prompt, answer }))
    }
}

fn conversation(messages: Vec<RawMessage>) -> Result<Vec<ChatMessage>, String> {
    let messages = messages.into_iter().map(|RawMessage { role, content }| {
        let role = match role.as_str() {
            "system" | "developer" => Role::System,
            "user" => Role::User,
            "assistant" => Role::Assistant,
            _ => {
                return Err(format!(
                    "the role {role:?}, which is none of system, user and assistant"
                ));
            }
        };
        Ok(ChatMessage { role, content })
    });
    messages.collect()
}

fn first_exchange(turns: Vec<Turn>, answer: AnswerLength) -> Option<DatasetPrompt> {
    let mut turns = turns
        .into_iter()
        .skip_while(|turn| !matches!(turn.from.as_str(), "human" | "user"));
    let asked = turns.next()?.value;
    let answered = turns.find(|turn| {
        matches!(
            turn.from.as_str(),
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard"
        )
    })?;
    if asked.trim().is_empty() || answered.value.trim().is_empty() {
        return None;
    }
    Some(DatasetPrompt {
        prompt: PromptText::Text(asked),
        answer: match answer {
            AnswerLength::Unspecified => AnswerLength::Like(answered.value),
            said => said,
        },
    })
}
