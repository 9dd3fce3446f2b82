use std::path::PathBuf;

use crate::tokens::TokenizerError;

/// Why a workload cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A setting is out of range.
    #[error("{name}: found {found}, expected {expected}")]
    Setting {
        /// Its name.
        name: &'static str,
        /// Its value.
        found: String,
        /// The allowed values.
        expected: &'static str,
    },
    /// The file cannot be read.
    #[error("{}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file has no prompts.
    #[error("{path}: found {found}, expected {expected}", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What the file contains.
        found: String,
        /// What the file should contain.
        expected: &'static str,
    },
    /// A line, or an entry of an array, is not valid.
    #[error("{path}, {place}: found {found}, expected {expected}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The position in the file.
        place: FilePosition,
        /// What was found.
        found: String,
        /// What was expected.
        expected: &'static str,
    },
    /// A line, or the whole file, is not JSON of the expected form.
    #[error("{path}{line}: expected {expected}", path = path.display(), line = line.map_or(String::new(), |line| format!(", line {line}")))]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, where the file has one JSON object a line.
        line: Option<usize>,
        /// What was expected.
        expected: &'static str,
        /// What is wrong; its lines count from `line`.
        source: serde_json::Error,
    },
    /// A row of a CSV file has the wrong columns or values that are not numbers.
    #[error("{path}: expected {expected}", path = path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
        /// Which row, and what is wrong with it.
        source: csv::Error,
    },
    /// No text with this number of tokens was found.
    #[error("tokenizer {tokenizer} encodes no text that was tried to exactly {tokens} tokens")]
    Length {
        /// The length.
        tokens: u32,
        /// The tokenizer.
        tokenizer: String,
    },
    /// The tokens of a text cannot be counted.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A position in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilePosition {
    /// A line.
    Line(usize),
    /// An entry of a JSON array.
    Entry(usize),
}

impl std::fmt::Display for FilePosition {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(line) => write!(formatter, "line {line}"),
            Self::Entry(entry) => write!(formatter, "entry {entry}"),
        }
    }
}
