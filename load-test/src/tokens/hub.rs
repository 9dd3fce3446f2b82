//! Hugging Face's hub: where it is, its cache on this machine, and its ids.

use std::{
    fs, io,
    io::Write,
    path::{Path, PathBuf},
};

use super::{
    TokenizerError, download,
    tokenizer::{FILE_NAME, Tokenizer, TokenizerSource},
};

/// Where tokenizers are looked up by their hub's id: the cache on this machine, then the hub.
#[derive(Clone)]
pub struct Hub {
    endpoint: String,
    pub(super) token: Option<String>,
    cache: Option<PathBuf>,
    is_offline: bool,
}

impl Hub {
    /// From Hugging Face's own variables, which `var` looks up: `HF_ENDPOINT` [<https://huggingface.co>], `HF_TOKEN` (else the
    /// file that `hf auth login` leaves), `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HOME`, `HF_HUB_OFFLINE`.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| var(name).filter(|value| !value.trim().is_empty());
        let home = set("HF_HOME").map(PathBuf::from).or_else(|| {
            let caches = set("XDG_CACHE_HOME").map(PathBuf::from);
            let caches = caches.or_else(|| set("HOME").map(|home| Path::new(&home).join(".cache")));
            caches.map(|caches| caches.join("huggingface"))
        });
        let cache = set("HF_HUB_CACHE")
            .or_else(|| set("HUGGINGFACE_HUB_CACHE"))
            .map(PathBuf::from);
        // A missing or unreadable login is ignored, because public tokenizers need no token.
        let login = || fs::read_to_string(home.as_ref()?.join("token")).ok();
        let token = set("HF_TOKEN")
            .or_else(login)
            .map(|token| token.trim().to_owned());
        let is_on = |value: &str| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on");
        Self {
            endpoint: set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: token.filter(|token| !token.is_empty()),
            cache: cache.or_else(|| home.as_ref().map(|home| home.join("hub"))),
            is_offline: set("HF_HUB_OFFLINE").is_some_and(|value| is_on(&value)),
        }
    }

    /// The tokenizer of the model `id` (`organisation/name`, or a name alone), from the cache or downloaded into it.
    ///
    /// # Errors
    ///
    /// Where it is not in the cache and cannot be downloaded, or is not a tokenizer.
    pub fn tokenizer(&self, id: &str) -> Result<Tokenizer, TokenizerError> {
        if let Some(file) = self.cached(id) {
            let json = fs::read(&file).map_err(|source| TokenizerError::Read { path: file, source })?;
            return Tokenizer::from_json(&json, id.to_owned(), TokenizerSource::HubCache);
        }
        if self.is_offline {
            return Err(TokenizerError::Offline {
                id: id.to_owned(),
                cache: self
                    .cache
                    .as_ref()
                    .map_or("none".to_owned(), |cache| cache.display().to_string()),
            });
        }
        let downloaded = download::fetch(&self.endpoint, self.token.as_deref(), id, FILE_NAME)?;
        let source = TokenizerSource::HubDownload;
        let tokenizer = Tokenizer::from_json(&downloaded.json, id.to_owned(), source)?;
        let note = match self.keep(id, &downloaded) {
            Ok(()) => None,
            Err(error) => Some(format!("it could not be kept in the cache: {error}")),
        };
        Ok(tokenizer.with_source(source, note))
    }

    fn cached(&self, id: &str) -> Option<PathBuf> {
        let repository = self.repository(id)?;
        let commit = fs::read_to_string(repository.join("refs/main")).ok()?;
        let file = repository.join("snapshots").join(commit.trim()).join(FILE_NAME);
        file.is_file().then_some(file)
    }

    /// Stores the file in the cache, in Hugging Face's layout, so that its own tools find it too.
    fn keep(&self, id: &str, downloaded: &download::Downloaded) -> io::Result<()> {
        let (Some(repository), Some(commit)) = (self.repository(id), &downloaded.commit) else {
            return Err(io::Error::other(
                "no cache directory, or the hub did not say which commit it sent",
            ));
        };
        let snapshot = repository.join("snapshots").join(commit);
        write_whole(&snapshot.join(FILE_NAME), &downloaded.json)?;
        write_whole(&repository.join("refs/main"), commit.as_bytes())
    }

    fn repository(&self, id: &str) -> Option<PathBuf> {
        Some(
            self.cache
                .as_ref()?
                .join(format!("models--{}", id.replace('/', "--"))),
        )
    }
}

/// Writes a temporary file and renames it, because several runs may start at once and none may read an incomplete file.
fn write_whole(path: &Path, content: &[u8]) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.persist(path)?;
    Ok(())
}

/// Whether this is a valid id of the hub: one or two names of letters, digits, `-`, `_` and `.`, separated by a slash.
pub(super) fn is_hub_id(id: &str) -> bool {
    let is_name = |name: &str| {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !name.is_empty() && name.len() <= 96 && !name.starts_with('.') && name.chars().all(is_allowed)
    };
    id.split('/').count() <= 2 && id.split('/').all(is_name)
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Hub")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("cache", &self.cache)
            .field("is_offline", &self.is_offline)
            .finish()
    }
}
