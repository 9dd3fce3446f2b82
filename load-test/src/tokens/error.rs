use std::{io, path::PathBuf};

/// What a library says went wrong.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no tokenizer, or it cannot count.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("tokenizer {path}: expected a tokenizer.json, or a model's directory with one in it", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file describes no tokenizer.
    #[error("tokenizer {id}: not a tokenizer.json of Hugging Face's")]
    Parse {
        /// The file, or the hub's id.
        id: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// The vocabulary cannot express a text.
    #[error("tokenizer {id} cannot encode a text")]
    Encode {
        /// The tokenizer.
        id: String,
        /// Why not.
        source: Cause,
    },
    /// The name is of no known form.
    #[error(
        "tokenizer {id:?} is no file here; expected a tokenizer.json or a directory with one, an id such as \
         meta-llama/Llama-3.1-8B, or a model or vocabulary of OpenAI's such as gpt-4o or o200k_base"
    )]
    Unknown {
        /// What was given.
        id: String,
    },
    /// Not in the cache, and downloads are switched off.
    #[error(
        "tokenizer {id} is not in the cache ({cache}) and HF_HUB_OFFLINE is set; download it elsewhere and name its file"
    )]
    Offline {
        /// The hub's id.
        id: String,
        /// Where it was looked for.
        cache: String,
    },
    /// The hub cannot be reached, or the answer was cut.
    #[error(
        "tokenizer {id} is not in the cache, and {url} could not be downloaded; without a network, download it elsewhere \
         and name its file"
    )]
    Download {
        /// The hub's id.
        id: String,
        /// What was asked for.
        url: String,
        /// Why.
        source: Cause,
    },
    /// The hub answered with something else.
    #[error("tokenizer {id}: {url} answered {status}; {advice}")]
    Status {
        /// The hub's id.
        id: String,
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What it means here.
        advice: &'static str,
    },
}
