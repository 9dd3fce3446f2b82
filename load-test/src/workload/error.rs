use std::path::PathBuf;

use crate::tokens::TokenizerError;

/// Why a workload cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum WorkloadError {
    /// A setting that no workload can have.
    #[error("{name}: found {found}, expected {expected}")]
    Setting {
        /// What it is called.
        name: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
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
    /// The file has nothing that can be asked.
    #[error("{path}: found {found}, expected {expected}", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What it has.
        found: String,
        /// What it should have.
        expected: &'static str,
    },
    /// A line, or an entry of an array, that says something else than it should.
    #[error("{path}, {place}: found {found}, expected {expected}", path = path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// Where in it.
        place: FilePosition,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A line, or the whole of a file, that is no JSON of the expected form.
    #[error("{path}{line}: expected {expected}", path = path.display(), line = line.map_or(String::new(), |line| format!(", line {line}")))]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, where the file has one JSON object a line.
        line: Option<usize>,
        /// What should stand there.
        expected: &'static str,
        /// What is wrong with what does; its lines count from `line`.
        source: serde_json::Error,
    },
    /// A row of a CSV file with the wrong columns or no numbers in them.
    #[error("{path}: expected {expected}", path = path.display())]
    Csv {
        /// The file.
        path: PathBuf,
        /// What should stand there.
        expected: &'static str,
        /// Which row, and what is wrong with it.
        source: csv::Error,
    },
    /// No text of sonnets has this length in this vocabulary.
    #[error("tokenizer {tokenizer} encodes no text that was tried to exactly {tokens} tokens")]
    Length {
        /// The length.
        tokens: u32,
        /// The tokenizer.
        tokenizer: String,
    },
    /// A text cannot be counted.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// Where in a file, from 1.
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
