//! Who counted the output tokens, and how much the server's and the client's counts differ.

use serde::{Deserialize, Serialize};

use super::request_metrics::output_tokens;
use crate::record::RequestRecord;

/// Who counted the output tokens that the figures rest on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CountedBy {
    /// The server, for every request.
    Server,
    /// The client, for every request, because the server did not.
    Client,
    /// The server for some, the client for the rest.
    Both,
}

/// Who counted the output tokens of answered requests, and how much the counts differ. Sums only, so that they merge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TokenCounts {
    /// Requests whose tokens the server counted.
    pub by_server: u64,
    /// Requests whose tokens only the client counted.
    pub by_client: u64,
    /// Requests whose tokens nobody counted.
    pub uncounted: u64,
    /// Requests that both counted.
    pub by_both: u64,
    /// Sum of (server's count − client's count) over the requests that both counted.
    pub difference_sum: i64,
    /// Largest absolute difference among the requests that both counted.
    pub difference_max: u64,
    /// Sum of the client's counts over the requests that both counted.
    pub client_sum: u64,
}

/// How much the server's and the client's counts differ, over the requests that both counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TokenDifference {
    /// Requests that both counted.
    pub n: u64,
    /// Mean of (server's − client's), tokens.
    pub mean: Option<f64>,
    /// Largest absolute difference, tokens.
    pub max: Option<u64>,
    /// Sum of the differences over the sum of the client's counts.
    pub relative: Option<f64>,
}

impl TokenCounts {
    /// Adds an answered request.
    pub fn add(&mut self, record: &RequestRecord) {
        match (record.server_output_tokens, output_tokens(record)) {
            (Some(_), _) => self.by_server += 1,
            (None, Some(_)) => self.by_client += 1,
            (None, None) => self.uncounted += 1,
        }
        if let (Some(server), Some(client)) = (record.server_output_tokens, record.client_output_tokens) {
            let difference = i64::from(server) - i64::from(client);
            self.by_both += 1;
            self.difference_sum += difference;
            self.difference_max = self.difference_max.max(difference.unsigned_abs());
            self.client_sum += u64::from(client);
        }
    }

    /// Adds other counts.
    pub fn merge(&mut self, other: &Self) {
        self.by_server += other.by_server;
        self.by_client += other.by_client;
        self.uncounted += other.uncounted;
        self.by_both += other.by_both;
        self.difference_sum += other.difference_sum;
        self.difference_max = self.difference_max.max(other.difference_max);
        self.client_sum += other.client_sum;
    }

    /// Who counted; `None` where nobody did.
    #[must_use]
    pub fn counted_by(&self) -> Option<CountedBy> {
        match (self.by_server > 0, self.by_client > 0) {
            (true, true) => Some(CountedBy::Both),
            (true, false) => Some(CountedBy::Server),
            (false, true) => Some(CountedBy::Client),
            (false, false) => None,
        }
    }

    /// How much the counts differ.
    #[must_use]
    pub fn difference(&self) -> TokenDifference {
        let some = self.by_both > 0;
        TokenDifference {
            n: self.by_both,
            mean: some.then(|| self.difference_sum as f64 / self.by_both as f64),
            max: some.then_some(self.difference_max),
            relative: (self.client_sum > 0).then(|| self.difference_sum as f64 / self.client_sum as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::record;

    fn counted(server: Option<u32>, client: Option<u32>) -> RequestRecord {
        RequestRecord {
            server_output_tokens: server,
            client_output_tokens: client,
            ..record(0)
        }
    }

    #[test]
    fn differences_are_of_what_both_counted() {
        let mut counts = TokenCounts::default();
        for (server, client) in [
            (Some(101), Some(100)),
            (Some(97), Some(100)),
            (Some(5), None),
            (None, Some(7)),
            (None, None),
        ] {
            counts.add(&counted(server, client));
        }
        assert_eq!(counts.counted_by(), Some(CountedBy::Both));
        assert_eq!((counts.by_server, counts.by_client, counts.uncounted), (3, 1, 1));
        let expected = TokenDifference {
            n: 2,
            mean: Some(-1.0),
            max: Some(3),
            relative: Some(-0.01),
        };
        assert_eq!(counts.difference(), expected);
    }

    #[test]
    fn without_two_counts_there_is_no_difference() {
        let none = TokenCounts::default();
        assert_eq!(none.counted_by(), None);
        assert_eq!((none.difference().mean, none.difference().relative), (None, None));
    }
}
