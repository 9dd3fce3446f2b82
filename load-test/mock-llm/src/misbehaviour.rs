use std::{fmt, str::FromStr};

use thiserror::Error;

macro_rules! misbehaviours {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// A way in which real servers misbehave. Selected for all requests by `Settings::misbehaviour`, and for one request by the
        /// header `x-mock-misbehaviour: <name>` or the model `misbehave:<name>`. Misbehaviours of streams do not affect
        /// requests without a stream.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Misbehaviour {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Misbehaviour {
            /// All misbehaviours.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Its name in kebab-case, for the command line and the header.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }

            /// A description of one line.
            #[must_use]
            pub fn description(self) -> &'static str {
                let text = match self {
                    $(Self::$variant => concat!($($doc),+),)+
                };
                text.trim_start()
            }
        }
    };
}

misbehaviours! {
    /// Text beyond ASCII, cut within its characters; the parts come in writes of their own.
    SplitUtf8 = "split-utf8",
    /// Lines end with CR LF.
    CrlfLines = "crlf-lines",
    /// `data:` without the space after it.
    DataWithoutSpace = "data-without-space",
    /// Comments and heartbeats between the events.
    Comments = "comments",
    /// All events in a single write, in a single HTTP chunk.
    ManyEventsPerWrite = "many-events-per-write",
    /// Every byte in a write and an HTTP chunk of its own.
    ByteByByte = "byte-by-byte",
    /// A finish reason, but no `[DONE]` (Anthropic: no `message_stop`).
    MissingDone = "missing-done",
    /// The empty first delta at once, then half a second of nothing before the first content.
    RoleThenPause = "role-then-pause",
    /// Half of the tokens as `reasoning_content` (Anthropic: a thinking block), then the content.
    ReasoningContent = "reasoning-content",
    /// Half of the tokens as `reasoning` (Anthropic: a thinking block), then the content.
    Reasoning = "reasoning",
    /// The answer is a tool call, its arguments in deltas.
    ToolCalls = "tool-calls",
    /// Events with empty `choices` between the others (Anthropic: pings).
    EmptyChoices = "empty-choices",
    /// An error event in the middle of the stream, then its end.
    InStreamError = "in-stream-error",
    /// Status 200, and the body is a JSON error.
    ErrorBody200 = "error-body-200",
    /// The connection is reset before the head.
    ResetBeforeHead = "reset-before-head",
    /// The connection is reset after the head.
    ResetAfterHead = "reset-after-head",
    /// The connection is reset in the middle of an HTTP chunk.
    ResetInChunk = "reset-in-chunk",
    /// The body ends cleanly halfway, without a finish reason.
    CleanEndWithoutFinish = "clean-end-without-finish",
    /// One event of 100 MB in one line.
    HugeLine = "huge-line",
    /// Every request is answered with 429 and `Retry-After`.
    RateLimited = "rate-limited",
    /// Tokens without end.
    NeverEnding = "never-ending",
    /// A redirect (302) to the next port.
    Redirect = "redirect",
    /// The request is read, and nothing ever comes.
    NoHead = "no-head",
    /// Twenty bytes every 20 ms, the head included.
    SlowDrip = "slow-drip",
}

impl fmt::Display for Misbehaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An unknown name of a misbehaviour.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unknown misbehaviour {found:?}, expected one of {}", names())]
pub struct UnknownMisbehaviour {
    found: String,
}

fn names() -> String {
    let names: Vec<_> = Misbehaviour::ALL.iter().map(|each| each.name()).collect();
    names.join(", ")
}

impl FromStr for Misbehaviour {
    type Err = UnknownMisbehaviour;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|each| each.name() == name);
        found.copied().ok_or_else(|| UnknownMisbehaviour {
            found: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for each in Misbehaviour::ALL {
            assert_eq!(each.name().parse(), Ok(*each));
            assert!(each.description().ends_with('.'), "{each}");
        }
        let error = "polite".parse::<Misbehaviour>().unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown misbehaviour "polite", expected one of split-utf8, "#));
    }
}
