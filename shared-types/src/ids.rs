use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Checksum, Invalid};

/// The identity of a batch. Fixed before the first attempt to store or publish it and kept for every retry: it is
/// what makes a redelivery count once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BatchId(Uuid);

impl BatchId {
    /// A UUIDv7 (RFC 9562) from the time and 74 of the given random bits: ids sort by creation time, which keeps
    /// the database's index appends local.
    #[must_use]
    pub fn new(at: DateTime<Utc>, random: [u8; 10]) -> Self {
        let millis = u64::try_from(at.timestamp_millis()).unwrap_or(0);
        Self(uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid())
    }

    /// A UUIDv8 (RFC 9562) from a batch's content, for producers that give no id: the same content gives the same
    /// id, so that a redelivery still counts once.
    #[must_use]
    pub fn from_content(checksum: &Checksum) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&checksum.as_bytes()[..16]);
        Self(Uuid::new_v8(bytes))
    }

    /// The id as a UUID.
    #[must_use]
    pub fn as_uuid(&self) -> Uuid {
        self.0
    }
}

impl From<Uuid> for BatchId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

impl std::str::FromStr for BatchId {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        raw.parse()
            .map(Self)
            .map_err(|_: uuid::Error| Invalid::new("id", raw, "a UUID"))
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

row_id!(
    /// An LLM's row in the registry.
    LlmId
);
row_id!(
    /// A metric's row in the registry.
    MetricId
);
