use std::{io, path::PathBuf};

/// The error of a library.
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a tokenizer cannot be loaded or used.
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
    /// The file is not a tokenizer.
    #[error("tokenizer {id}: not a tokenizer.json of Hugging Face's")]
    Parse {
        /// The file, or the hub's id.
        id: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// The vocabulary cannot encode a text.
    #[error("tokenizer {id} cannot encode a text")]
    Encode {
        /// The tokenizer.
        id: String,
        /// Why not.
        source: Cause,
    },
    /// The name has no known form.
    #[error(
        "tokenizer {id:?} is no file here; expected a tokenizer.json or a directory with one, an id such as \
         meta-llama/Llama-3.1-8B, or a model or vocabulary of OpenAI's such as gpt-4o or o200k_base"
    )]
    Unknown {
        /// What was given.
        id: String,
    },
    /// The tokenizer is not in the cache, and downloads are switched off.
    #[error(
        "tokenizer {id} is not in the cache ({cache}) and HF_HUB_OFFLINE is set; download it elsewhere and name its file"
    )]
    Offline {
        /// The hub's id.
        id: String,
        /// The cache directory.
        cache: String,
    },
    /// The hub cannot be reached, or its answer is incomplete.
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
    /// The hub answered with an error.
    #[error("tokenizer {id}: {url} answered {status}; {advice}")]
    Status {
        /// The hub's id.
        id: String,
        /// What was asked for.
        url: String,
        /// The status.
        status: u16,
        /// What the user can do.
        advice: &'static str,
    },
}
