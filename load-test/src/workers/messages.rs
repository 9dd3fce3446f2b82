//! What coordinator and workers say to each other: JSON, one message each, with the protocol's version.
//!
//! | who | says | when |
//! |---|---|---|
//! | coordinator | the offer: [`Job`] | first, to whoever takes it |
//! | worker | [`hello`](WorkerSays::Hello) | it took the share, and begins to prepare |
//! | worker | [`ready`](WorkerSays::Ready) | its prompts are made and it has measured itself |
//! | coordinator | [`start`](CoordinatorSays::Start) | all are ready |
//! | worker | [`began`](WorkerSays::Began) | its run begins |
//! | worker | [`part`](WorkerSays::Part) | its run is over |
//! | worker | [`failed`](WorkerSays::Failed) | instead of any of these |
//! | both | `alive` | every two seconds, because silence is how a frozen process sounds |
//! | coordinator | [`stop`](CoordinatorSays::Stop) | the run is not to go on |
//!
//! No secret is among them: each worker has the API's address and key from its own environment.

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Contribution, Share};
use crate::plan::Plan;

/// The version of the protocol. It grows with every change of a message: all processes of a run have the same program.
pub const PROTOCOL_VERSION: u32 = 1;

/// A share of a run, as it is offered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// Identifies the run.
    pub run_id: String,
    /// Which part of it.
    pub share: Share,
    /// The whole run; worker threads are those of the coordinator's machine, and each worker takes its own number.
    pub plan: Plan,
    /// What tokens are counted with, where the coordinator was told.
    pub tokenizer_id: Option<String>,
    /// Whether each worker measures its own error before the run.
    pub calibrate: bool,
    /// Whether streams are asked for usage.
    pub stream_usage: bool,
}

/// Who works.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerName {
    /// Its name: unique, where the user gave no other.
    pub name: String,
    /// Its machine.
    pub host: String,
    /// Worker threads it will use.
    pub cores: u32,
    /// Version of its program.
    pub version: String,
}

/// What a worker made before the run. Workers of one run have to have made the same.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// The tokenizer that prompts were counted with.
    pub tokenizer: String,
    /// [`digest`] of all prompts of the run.
    pub prompts: String,
    /// What the prompts are like, as the report says it.
    pub facts: serde_json::Map<String, serde_json::Value>,
}

/// What a worker says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum WorkerSays {
    /// It took this share, and begins to prepare.
    Hello {
        /// Who it is.
        worker: WorkerName,
        /// What it took.
        share: Share,
    },
    /// It can begin at once.
    Ready {
        /// What it made.
        made: Made,
    },
    /// It begins.
    Began,
    /// It is still there.
    Alive,
    /// What it did.
    Part {
        /// The figures.
        contribution: Box<Contribution>,
    },
    /// It does not go on.
    Failed {
        /// Why, in words.
        reason: String,
    },
}

/// What the coordinator says after its offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum CoordinatorSays {
    /// Begin so long after this was received.
    Start {
        /// Milliseconds: long enough for the message to reach all workers, so that all wait for the same moment.
        delay_ms: u64,
    },
    /// It is still there.
    Alive,
    /// Stop, and send what there is.
    Stop,
}

/// Why a message cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MessageError {
    /// Another version of the protocol.
    #[error(
        "protocol version {found}: expected {PROTOCOL_VERSION}; use one version of llm-bench on all machines"
    )]
    Version {
        /// Its version.
        found: u32,
    },
    /// Not a message of this version.
    #[error("no message of protocol version {PROTOCOL_VERSION}")]
    Malformed(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    says: T,
}

/// All that is read of a message before its version is known.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

/// The message as it is sent.
pub(super) fn encode(says: &impl Serialize) -> Bytes {
    let envelope = Envelope {
        version: PROTOCOL_VERSION,
        says,
    };
    #[expect(
        clippy::expect_used,
        reason = "text keys and finite numbers, written to memory"
    )]
    let json = serde_json::to_vec(&envelope).expect("a message is JSON");
    json.into()
}

/// Reads a message.
///
/// # Errors
/// It has another version, or is no message.
pub(super) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, MessageError> {
    let Version { version: found } = serde_json::from_slice(body).map_err(MessageError::Malformed)?;
    if found != PROTOCOL_VERSION {
        return Err(MessageError::Version { found });
    }
    let envelope: Envelope<T> = serde_json::from_slice(body).map_err(MessageError::Malformed)?;
    Ok(envelope.says)
}

/// A hash of the requests' bodies in their order: files of the same name on two machines may differ.
#[must_use]
pub fn digest<'a>(bodies: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hasher = blake3::Hasher::new();
    for body in bodies {
        hasher.update(&(body.len() as u64).to_le_bytes());
        hasher.update(body);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::report::fixtures;

    fn job() -> Job {
        Job {
            run_id: "run".to_owned(),
            share: Share::new(1, NonZeroU32::new(2).unwrap()).unwrap(),
            plan: fixtures::plan(),
            tokenizer_id: Some("gpt2".to_owned()),
            calibrate: true,
            stream_usage: false,
        }
    }

    #[test]
    fn what_is_said_is_heard() {
        assert_eq!(decode::<Job>(&encode(&job())).unwrap(), job());
        for says in [
            CoordinatorSays::Start { delay_ms: 500 },
            CoordinatorSays::Alive,
            CoordinatorSays::Stop,
        ] {
            assert_eq!(decode::<CoordinatorSays>(&encode(&says)).unwrap(), says);
        }
    }

    #[test]
    fn another_version_is_refused_whatever_it_says() {
        let error = decode::<Job>(br#"{"version": 2, "tells": []}"#).unwrap_err();
        assert!(matches!(error, MessageError::Version { found: 2 }));
        assert_eq!(
            error.to_string(),
            "protocol version 2: expected 1; use one version of llm-bench on all machines"
        );
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for body in [
            &b"nonsense"[..],
            br#"{"version": 1, "says": {"kind": "dance"}}"#,
            br#"{"says": 1}"#,
        ] {
            let error = decode::<CoordinatorSays>(body).unwrap_err();
            assert!(matches!(error, MessageError::Malformed(_)), "{error}");
        }
    }

    #[test]
    fn a_digest_knows_where_bodies_end() {
        let of = |bodies: &[&'static str]| digest(bodies.iter().map(|body| body.as_bytes()));
        assert_eq!(of(&["ab", "c"]), of(&["ab", "c"]));
        assert_ne!(of(&["ab", "c"]), of(&["a", "bc"]));
    }
}
