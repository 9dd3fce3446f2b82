use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::Misbehaviour;

/// What a mock server serves, and when. All of it is deterministic in `seed` and the order in which requests arrive.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where it listens; port 0 takes a free one.
    pub address: SocketAddr,
    /// Threads, each with a runtime of its own; connections are dealt out to them in turn.
    pub cores: usize,
    /// From the request's last byte to the first token.
    pub ttft: Duration,
    /// From one token to the next.
    pub itl: Duration,
    /// Standard deviation of the logarithm of a log-normal factor of mean 1 on `ttft`, drawn for each request; 0 is none.
    pub ttft_jitter: f64,
    /// The same on `itl`, drawn for each token.
    pub itl_jitter: f64,
    /// Added to `ttft` for each input token (a word of the prompt is a token).
    pub prefill_per_token: Duration,
    /// The most tokens of an answer, and how many there are where the request sets no limit.
    pub output_tokens: u32,
    /// Tokens that come together in one event, due when the first of them is.
    pub tokens_per_chunk: u32,
    /// Answers at once; other requests wait, and their deadlines count from their admission. Unlimited by default.
    pub slots: Option<usize>,
    /// Times in which no answer goes on.
    pub stall: Option<Stall>,
    /// Asked for as `Authorization: Bearer` or `x-api-key`, where set.
    pub api_key: Option<ApiKey>,
    /// Requests that fail, as shares of all.
    pub errors: ErrorRates,
    /// The share of the correctness test's questions that are answered with a wrong number.
    pub wrong_numbers: f64,
    /// Whether answers state their token counts (in streams of OpenAI's APIs only where the request asks for it).
    pub usage: bool,
    /// The models there are; any, where empty.
    pub models: Vec<String>,
    /// Every answer misbehaves so, unless the request itself asks for something else.
    pub misbehaviour: Option<Misbehaviour>,
    /// Of everything that is drawn.
    pub seed: u64,
}

/// Once every `every` nothing of an answer is written for as long as it `lasts`. What is due in it is due at its end instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// From one stall's beginning to the next's; the first begins this long after the server's start.
    pub every: Duration,
    /// Shorter than `every`.
    pub lasts: Duration,
}

/// Shares of all requests, drawn from the seed and the request's number; together at most 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ErrorRates {
    /// Answered with 429 and `Retry-After`.
    pub too_many_requests: f64,
    /// Answered with 500.
    pub internal: f64,
    /// Streams that end with an error event halfway; 500 where the request wants no stream.
    pub in_stream: f64,
}

/// A key that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey(String);

impl ApiKey {
    pub(crate) fn is(&self, offered: &str) -> bool {
        self.0 == offered
    }
}

impl<T: Into<String>> From<T> for ApiKey {
    fn from(key: T) -> Self {
        Self(key.into())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

impl Default for Settings {
    /// A free port of 127.0.0.1, one core, TTFT 200 ms, ITL 20 ms, 128 tokens, and nothing that is drawn or fails.
    fn default() -> Self {
        Self {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cores: 1,
            ttft: Duration::from_millis(200),
            itl: Duration::from_millis(20),
            ttft_jitter: 0.0,
            itl_jitter: 0.0,
            prefill_per_token: Duration::ZERO,
            output_tokens: 128,
            tokens_per_chunk: 1,
            slots: None,
            stall: None,
            api_key: None,
            errors: ErrorRates::default(),
            wrong_numbers: 0.0,
            usage: true,
            models: Vec::new(),
            misbehaviour: None,
            seed: 0,
        }
    }
}

impl Settings {
    /// `InvalidInput`, saying which setting, what was found and what is expected.
    pub(crate) fn check(&self) -> io::Result<()> {
        let rates = [
            ("errors.too_many_requests", self.errors.too_many_requests),
            ("errors.internal", self.errors.internal),
            ("errors.in_stream", self.errors.in_stream),
            ("wrong_numbers", self.wrong_numbers),
        ];
        for (name, rate) in rates {
            expect((0.0..=1.0).contains(&rate), name, rate, "a share from 0 to 1")?;
        }
        let errors = self.errors.too_many_requests + self.errors.internal + self.errors.in_stream;
        expect(errors <= 1.0, "errors", errors, "shares that sum up to at most 1")?;
        for (name, sigma) in [("ttft_jitter", self.ttft_jitter), ("itl_jitter", self.itl_jitter)] {
            expect((0.0..=5.0).contains(&sigma), name, sigma, "from 0 to 5")?;
        }
        let positive = [
            ("cores", self.cores),
            ("output_tokens", self.output_tokens as usize),
            ("tokens_per_chunk", self.tokens_per_chunk as usize),
            ("slots", self.slots.unwrap_or(1)),
        ];
        for (name, number) in positive {
            expect(number > 0, name, number, "1 or more")?;
        }
        if let Some(Stall { every, lasts }) = self.stall {
            expect(
                lasts < every,
                "stall.lasts",
                format!("{lasts:?}"),
                "less than stall.every",
            )?;
        }
        Ok(())
    }
}

fn expect(is_so: bool, setting: &str, found: impl fmt::Display, expected: &str) -> io::Result<()> {
    if is_so {
        return Ok(());
    }
    let text = format!("{setting}: found {found}, expected {expected}");
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_valid_and_what_is_not_is_named() {
        Settings::default().check().unwrap();
        let bad = Settings {
            wrong_numbers: 1.5,
            ..Settings::default()
        };
        let error = bad.check().unwrap_err().to_string();
        assert_eq!(error, "wrong_numbers: found 1.5, expected a share from 0 to 1");
        let second = Duration::from_secs(1);
        let stall = Stall {
            every: second,
            lasts: second,
        };
        let bad = Settings {
            stall: Some(stall),
            ..Settings::default()
        };
        assert!(bad.check().is_err());
    }

    #[test]
    fn the_key_is_not_shown() {
        assert!(!format!("{:?}", ApiKey::from("secret")).contains("secret"));
    }
}
