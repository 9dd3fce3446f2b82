use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use actix_web::HttpRequest;
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use tokio_util::sync::CancellationToken;

use super::Cost;
use crate::problem::Problem;

/// The number of requests per second that each caller may send. A caller is an API key, or the address of the peer if no
/// key was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// No limit.
    Off,
    /// Limits requests that need a database query. Rankings are exempt: sending a body from memory costs no more than
    /// a refusal.
    Queries(NonZeroU32),
    /// Limits every request that needs a scope.
    Everything(NonZeroU32),
}

/// The party whose requests the rate limit counts together.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Caller {
    /// The holder of a key, by the key's id.
    Key(Arc<str>),
    /// The address of the connection, never of a header, which any client can forge. Of an IPv6 address the /64
    /// network, because one customer usually has a whole one.
    Peer(IpAddr),
}

impl Caller {
    pub(crate) fn peer(request: &HttpRequest) -> Self {
        let address = request
            .peer_addr()
            .map_or(IpAddr::from(Ipv6Addr::UNSPECIFIED), |peer| peer.ip());
        Self::Peer(match address.to_canonical() {
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
            v4 @ IpAddr::V4(_) => v4,
        })
    }
}

/// The rate limit of each caller. After a pause a caller may send the requests of one second at once.
#[derive(Debug)]
pub(crate) struct Limiter {
    counts_cached: bool,
    buckets: Option<DefaultKeyedRateLimiter<Caller>>,
    clock: DefaultClock,
}

impl Limiter {
    /// How often callers that send nothing are removed from memory.
    const SWEEP: Duration = Duration::from_secs(60);

    pub(crate) fn new(limit: RateLimit) -> Self {
        let per_second = match limit {
            RateLimit::Off => None,
            RateLimit::Queries(per_second) | RateLimit::Everything(per_second) => Some(per_second),
        };
        Self {
            counts_cached: matches!(limit, RateLimit::Everything(_)),
            buckets: per_second.map(|per_second| RateLimiter::keyed(Quota::per_second(per_second))),
            clock: DefaultClock::default(),
        }
    }

    /// Whether requests of this cost count towards the limit.
    pub(crate) fn counts(&self, cost: Cost) -> bool {
        self.buckets.is_some() && (cost == Cost::Query || self.counts_cached)
    }

    /// Counts a request.
    ///
    /// # Errors
    /// The caller is over the limit; the problem says how long to wait.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), Problem> {
        let Some(buckets) = &self.buckets else {
            return Ok(());
        };
        buckets
            .check_key(caller)
            .map_err(|over| Problem::too_many_requests(over.wait_time_from(self.clock.now())))
    }

    /// Removes callers that send nothing from memory, again and again until shutdown.
    pub(crate) async fn sweep(self: Arc<Self>, shutdown: CancellationToken) {
        let Some(buckets) = &self.buckets else {
            return;
        };
        while shutdown
            .run_until_cancelled(tokio::time::sleep(Self::SWEEP))
            .await
            .is_some()
        {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn peer(address: &str) -> Caller {
        let request = TestRequest::default().peer_addr(address.parse().unwrap());
        Caller::peer(
            &request
                .insert_header(("X-Forwarded-For", "9.9.9.9"))
                .to_http_request(),
        )
    }

    #[test]
    fn an_address_is_the_connections_and_a_network_is_one_caller() {
        assert_eq!(peer("10.0.0.1:1"), Caller::Peer("10.0.0.1".parse().unwrap()));
        assert_eq!(peer("[::ffff:10.0.0.1]:1"), peer("10.0.0.1:2"));
        assert_eq!(peer("[2001:db8::1]:1"), peer("[2001:db8::ffff]:1"));
        assert_ne!(peer("[2001:db8::1]:1"), peer("[2001:db8:0:1::1]:1"));
    }

    #[test]
    fn each_caller_has_its_own_burst() {
        let limit = NonZeroU32::new(2).unwrap();
        let limiter = Limiter::new(RateLimit::Everything(limit));
        let (a, b) = (peer("10.0.0.1:1"), peer("10.0.0.2:1"));
        assert!(limiter.check(&a).is_ok() && limiter.check(&a).is_ok());
        assert!(limiter.check(&a).is_err());
        assert!(limiter.check(&b).is_ok());
        assert!(!Limiter::new(RateLimit::Queries(limit)).counts(Cost::Cached));
        assert!(!Limiter::new(RateLimit::Off).counts(Cost::Query));
    }
}
