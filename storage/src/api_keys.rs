use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::Result;

/// The public part of an API key, by which its record is found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKeyId(pub String);

/// What an API key may do. Each scope includes the ones before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// Read rankings, history, batches and the registry.
    Read,
    /// Send batches.
    Write,
    /// Change the registry and manage keys.
    Admin,
}

impl Scope {
    /// The name in the database, on the command line and in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = shared_types::Invalid;

    fn from_str(raw: &str) -> std::result::Result<Self, Self::Err> {
        [Self::Read, Self::Write, Self::Admin]
            .into_iter()
            .find(|scope| scope.as_str() == raw)
            .ok_or_else(|| shared_types::Invalid::new("scope", raw, "read, write or admin"))
    }
}

/// A stored API key: never the secret, only its keyed hash.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKeyRecord {
    /// The public part.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// HMAC-SHA-256 of the secret under the pepper.
    pub hash: [u8; 32],
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops being accepted.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl std::fmt::Debug for ApiKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKeyRecord")
            .field("id", &self.id)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

/// The API keys of the HTTP API.
#[async_trait]
pub trait ApiKeys: Send + Sync {
    /// Stores a key. A repetition with the same id does nothing.
    async fn add_api_key(&self, key: &ApiKeyRecord) -> Result<()>;

    /// Every key, revoked and expired ones included, oldest first.
    async fn api_keys(&self) -> Result<Vec<ApiKeyRecord>>;

    /// Revokes a key. A repetition keeps the first time.
    ///
    /// # Errors
    /// `NotFound`.
    async fn revoke_api_key(&self, id: &ApiKeyId, at: DateTime<Utc>) -> Result<()>;
}
