use std::fmt;

/// BLAKE3 over a batch's content (not its id): tells apart a redelivery from another batch under the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checksum([u8; 32]);

/// A checksum that is not 64 hexadecimal digits, or not 32 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a checksum of 32 bytes")]
pub struct InvalidChecksum;

impl Checksum {
    /// The 32 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl TryFrom<&[u8]> for Checksum {
    type Error = InvalidChecksum;

    fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
        bytes
            .try_into()
            .map(Self)
            .map_err(|_: std::array::TryFromSliceError| InvalidChecksum)
    }
}

impl std::str::FromStr for Checksum {
    type Err = InvalidChecksum;

    fn from_str(hex: &str) -> Result<Self, Self::Err> {
        blake3::Hash::from_hex(hex)
            .map(|hash| Self(*hash.as_bytes()))
            .map_err(|_: blake3::HexError| InvalidChecksum)
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&blake3::Hash::from_bytes(self.0).to_hex())
    }
}

/// Collects a batch's content in a canonical form. Every part is length-prefixed or of fixed size, so that no two
/// contents give the same bytes.
pub(crate) struct ContentHasher(blake3::Hasher);

impl ContentHasher {
    pub(crate) fn new() -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"llm-bench batch v1");
        Self(hasher)
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.integer(text.len() as u64);
        self.0.update(text.as_bytes());
        self
    }

    pub(crate) fn integer(&mut self, integer: u64) -> &mut Self {
        self.0.update(&integer.to_le_bytes());
        self
    }

    pub(crate) fn optional(&mut self, integer: Option<u64>) -> &mut Self {
        self.integer(u64::from(integer.is_some()))
            .integer(integer.unwrap_or(0))
    }

    pub(crate) fn values(&mut self, values: &[f64]) -> &mut Self {
        // In one piece: BLAKE3 hashes kilobytes side by side, if it is given them together.
        let mut bytes = Vec::with_capacity(values.len() * 8);
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        self.integer(values.len() as u64);
        self.0.update(&bytes);
        self
    }

    pub(crate) fn finish(&self) -> Checksum {
        Checksum(*self.0.finalize().as_bytes())
    }
}
