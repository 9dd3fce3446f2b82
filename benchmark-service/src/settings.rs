use std::{net::SocketAddr, num::NonZeroU32, time::Duration};

use service_runtime::settings::{Variables, registry_seed};
use shared_types::{Invalid, RegistrySeed};

use crate::{
    auth::{AccessPolicy, RateLimit},
    housekeeping::HousekeepingSettings,
    snapshot::{RankingSelection, SourceFilter},
};

/// Limits that protect the service from slow clients. A deployed service uses the defaults; tests set shorter times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientLimits {
    /// How long the head of a request may take to arrive.
    pub head: Duration,
    /// How long the body of a request may take to arrive: 16 MiB in 30 s are 4.5 Mbit/s.
    pub body: Duration,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long the client may leave sent data unacknowledged, or its receive window closed (`TCP_USER_TIMEOUT`). Only
    /// on Linux; elsewhere the system's limit holds.
    pub stalled: Duration,
    /// The most connections of one worker thread; further ones wait in the system's queue.
    pub connections: usize,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(5),
            body: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            stalled: Duration::from_secs(60),
            connections: 10_000,
        }
    }
}

/// How often the service reads from the database, and how long it waits for it. A deployed service uses the defaults;
/// tests set other times.
///
/// After a refresh of the rankings the service pauses for up to 2 s and then waits for up to [`Self::rankings_refresh`].
/// [`Self::stale_after`] must be longer than the pause, the wait and two refreshes together. Otherwise the rankings
/// become stale while the database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The longest time until a new or revoked key is noticed. While the database is away, the last known keys stay valid.
    pub key_refresh: Duration,
    /// The longest time until the rankings show commits of other processes and changes of the registry.
    pub rankings_refresh: Duration,
    /// The rankings are stale if the database has not confirmed them, or the consumer has not worked, for this long.
    pub stale_after: Duration,
    /// How long one step of a request may wait for the database.
    pub database_deadline: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            key_refresh: Duration::from_secs(5),
            rankings_refresh: Duration::from_secs(1),
            stale_after: Duration::from_secs(5),
            database_deadline: Duration::from_secs(5),
        }
    }
}

/// The settings of the benchmark service.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the API listens; port 0 lets the system choose.
    pub http_addr: SocketAddr,
    /// The settings of authentication.
    pub access: AccessPolicy,
    /// The ranking that a request without parameters selects.
    pub default_selection: RankingSelection,
    /// The rate limit of each caller.
    pub rate_limit: RateLimit,
    /// Limits for slow clients.
    pub client_limits: ClientLimits,
    /// Intervals and timeouts of access to the database.
    pub timing: Timing,
    /// The LLMs and metrics that fill an empty registry.
    pub registry_seed: RegistrySeed,
    /// Whether missing migrations are applied at start.
    pub migrate_at_start: bool,
    /// The settings of housekeeping.
    pub housekeeping: HousekeepingSettings,
}

impl Settings {
    /// Reads the variables of this service.
    ///
    /// # Errors
    /// The first variable that is refused: its name, what was found and what is expected.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        const SHORTEST_KEY: usize = 16;
        const SHORTEST_PEPPER: usize = 32;
        Ok(Self {
            http_addr: variables
                .parsed("HTTP_ADDR", "an address such as 127.0.0.1:8000", |_| true)?
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8000))),
            access: AccessPolicy {
                anonymous_read: variables.flag("ANONYMOUS_READ")?.unwrap_or(false),
                bootstrap_key: variables.secret("API_KEY", SHORTEST_KEY)?,
                pepper: variables.secret("API_KEY_PEPPER", SHORTEST_PEPPER)?,
            },
            default_selection: RankingSelection {
                source: variables
                    .parsed::<SourceFilter>("RANKING_SOURCE", SourceFilter::EXPECTED, |_| true)?
                    .unwrap_or_default(),
                ..RankingSelection::default()
            },
            rate_limit: rate_limit(variables)?,
            client_limits: ClientLimits::default(),
            timing: Timing::default(),
            registry_seed: registry_seed(variables)?,
            migrate_at_start: variables.flag("MIGRATE_AT_START")?.unwrap_or(true),
            housekeeping: HousekeepingSettings::read(variables)?,
        })
    }
}

fn rate_limit(variables: &Variables) -> Result<RateLimit, Invalid> {
    const DEFAULT: NonZeroU32 = NonZeroU32::new(1000).expect("not zero");
    let given = variables.parsed::<u32>("RATE_LIMIT_PER_SECOND", "a whole number, 0 for no limit", |_| {
        true
    })?;
    Ok(match given.map(NonZeroU32::new) {
        None => RateLimit::Queries(DEFAULT),
        Some(None) => RateLimit::Off,
        Some(Some(per_second)) => RateLimit::Everything(per_second),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Settings, Invalid> {
        Settings::read(&Variables::from_map(
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )?)
    }

    #[test]
    fn without_variables_reading_needs_a_key_and_rankings_are_simulated() {
        let settings = read(&[]).unwrap();
        assert!(!settings.access.anonymous_read);
        assert_eq!(settings.default_selection, RankingSelection::default());
        assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8000");
    }

    #[test]
    fn a_limit_that_is_asked_for_covers_everything() {
        let limit = |value| read(&[("RATE_LIMIT_PER_SECOND", value)]).unwrap().rate_limit;
        assert_eq!(limit("0"), RateLimit::Off);
        assert_eq!(limit("5"), RateLimit::Everything(NonZeroU32::new(5).unwrap()));
        assert!(matches!(read(&[]).unwrap().rate_limit, RateLimit::Queries(_)));
    }

    #[test]
    fn refusals_name_the_variable() {
        for (name, value, told) in [
            ("HTTP_ADDR", "everywhere", "HTTP_ADDR: found everywhere, expected"),
            (
                "RANKING_SOURCE",
                "guessed",
                "RANKING_SOURCE: found guessed, expected",
            ),
            ("API_KEY", "short", "API_KEY: found 5 characters"),
            ("LLM_MODELS_STR", " , ", "LLM_MODELS_STR: found"),
        ] {
            let refused = read(&[(name, value)]).unwrap_err().to_string();
            assert!(refused.starts_with(told), "{refused}");
        }
    }
}
