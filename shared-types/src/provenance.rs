use serde::{Deserialize, Serialize};

use crate::{Invalid, Metadata, invalid::short_text_type};

/// Where a batch's values come from. Values of different sources are never ranked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Drawn by the simulation; the seed says which values.
    Simulated,
    /// Measured by a load test; the run says which.
    Measured,
    /// Anything else, such as an older producer's messages.
    Imported,
}

impl Source {
    /// Every source, in the order they are shown.
    pub const ALL: [Self; 3] = [Self::Simulated, Self::Measured, Self::Imported];

    /// The name on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Simulated => "simulated",
            Self::Measured => "measured",
            Self::Imported => "imported",
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Source {
    type Err = Invalid;

    fn from_str(raw: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|source| source.as_str() == raw)
            .ok_or_else(|| Invalid::new("source", raw, "simulated, measured or imported"))
    }
}

short_text_type!(
    /// Names the run (of a simulation or a load test) that a batch belongs to.
    RunId,
    "run_id",
    str::to_owned
);

/// Where a batch comes from, in full.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// The kind of origin: part of the statistics' key.
    pub source: Source,
    /// The run, where there is one.
    pub run_id: Option<RunId>,
    /// The simulation's seed.
    pub seed: Option<u64>,
    /// The batch's place in its run: for the simulation the tick.
    pub sequence: Option<u64>,
    /// How it came to be, in the producer's words. Not part of the checksum.
    pub metadata: Metadata,
}

impl Provenance {
    /// The provenance of a message that says nothing about it.
    #[must_use]
    pub fn imported() -> Self {
        Self {
            source: Source::Imported,
            run_id: None,
            seed: None,
            sequence: None,
            metadata: Metadata::default(),
        }
    }
}
