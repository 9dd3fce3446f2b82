use std::{
    fmt, io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::Misbehaviour;

/// The settings of a mock server. Its behaviour is a function of `seed` and the order in which requests arrive.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The address to listen on; port 0 takes a free port.
    pub address: SocketAddr,
    /// The number of threads, each with a runtime of its own. Connections are distributed to them in turn.
    pub cores: usize,
    /// From the request's last byte to the first token.
    pub ttft: Duration,
    /// From one token to the next.
    pub itl: Duration,
    /// Jitter of `ttft`: the standard deviation of the logarithm of a log-normal factor of mean 1, drawn for each request; 0 means no
    /// jitter.
    pub ttft_jitter: f64,
    /// Jitter of `itl`, like `ttft_jitter`, drawn for each token.
    pub itl_jitter: f64,
    /// Added to `ttft` for each input token (a word of the prompt is a token).
    pub prefill_per_token: Duration,
    /// The limit of tokens in a response, and their number when the request sets no limit.
    pub output_tokens: u32,
    /// The number of tokens in one event, all due when the first of them is.
    pub tokens_per_chunk: u32,
    /// The limit of concurrent responses. Other requests wait, and their deadlines count from their admission. Unlimited by default.
    pub slots: Option<usize>,
    /// Periods in which no response continues.
    pub stall: Option<Stall>,
    /// The key that requests need in `Authorization: Bearer` or `x-api-key`; none by default.
    pub api_key: Option<ApiKey>,
    /// The shares of requests that fail.
    pub errors: ErrorRates,
    /// The share of the correctness test's questions that are answered with a wrong number.
    pub wrong_numbers: f64,
    /// Whether responses state their token counts (in streams of OpenAI's APIs only when the request asks for it).
    pub usage: bool,
    /// The known models; empty accepts any model.
    pub models: Vec<String>,
    /// The misbehaviour of every response whose request does not ask for another one.
    pub misbehaviour: Option<Misbehaviour>,
    /// The seed of all random numbers.
    pub seed: u64,
}

/// Periodic stalls: no tokens are written during a stall, and those that would be due in it are due at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    /// The time from the beginning of one stall to that of the next; the first begins this long after the server's start.
    pub every: Duration,
    /// The length of a stall, shorter than `every`.
    pub lasts: Duration,
}

/// Shares of all requests, drawn from the seed and the request's number; together at most 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ErrorRates {
    /// Responses with 429 and `Retry-After`.
    pub too_many_requests: f64,
    /// Responses with 500.
    pub internal: f64,
    /// Streams that end with an error event halfway; 500 when the request does not ask for a stream.
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
    /// A free port of 127.0.0.1, one core, TTFT 200 ms, ITL 20 ms, 128 tokens, without jitter and errors.
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
    /// Fails with `InvalidInput`, naming the setting, the value and what is expected.
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
