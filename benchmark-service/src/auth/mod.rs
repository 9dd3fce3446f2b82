//! Authentication, authorization and the rate limit, decided before a handler runs.

mod key;
mod keyring;
mod limiter;

use std::{
    future::{Ready, ready},
    marker::PhantomData,
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header, web::Data};
use service_runtime::Secret;
use shared_types::Clock;
use storage::Scope;

pub use key::{ApiKey, Pepper};
pub(crate) use keyring::KeyRing;
pub use limiter::RateLimit;
pub(crate) use limiter::{Caller, Limiter};

use crate::problem::Problem;

/// The settings of authentication.
#[derive(Debug, Clone, Default)]
pub struct AccessPolicy {
    /// Whether reading needs no key.
    pub anonymous_read: bool,
    /// A key with every scope, beside the stored ones.
    pub bootstrap_key: Option<Secret>,
    /// Keys the hashes of stored keys; without it stored keys are not accepted.
    pub pepper: Option<Secret>,
}

/// The cost of a request, which decides whether the default rate limit counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cost {
    /// The response is in memory.
    Cached,
    /// The response needs a query to the database.
    Query,
}

/// Accepts or refuses every request that needs a scope.
#[derive(Debug)]
pub(crate) struct AccessControl {
    pub(crate) ring: Arc<KeyRing>,
    pub(crate) limiter: Arc<Limiter>,
    anonymous_read: bool,
    clock: Arc<dyn Clock>,
}

impl AccessControl {
    pub(crate) fn new(policy: &AccessPolicy, rate_limit: RateLimit, clock: Arc<dyn Clock>) -> Self {
        Self {
            ring: Arc::new(KeyRing::new(policy)),
            limiter: Arc::new(Limiter::new(rate_limit)),
            anonymous_read: policy.anonymous_read,
            clock,
        }
    }

    fn authorize(&self, request: &HttpRequest, needed: Scope, cost: Cost) -> Result<Option<Caller>, Problem> {
        let needs_no_key = needed == Scope::Read && self.anonymous_read;
        if needs_no_key && !self.limiter.counts(cost) {
            return Ok(None);
        }
        let caller = match presented_key(request) {
            Some(key) if !needs_no_key => self.key_holder(request, key, needed)?,
            None if !needs_no_key => {
                return Err(Problem::unauthorized(
                    "send a key in the header api-key, X-API-KEY or Authorization: Bearer",
                ));
            }
            _ => Caller::peer(request),
        };
        if self.limiter.counts(cost) {
            self.limiter.check(&caller)?;
        }
        Ok(Some(caller))
    }

    fn key_holder(&self, request: &HttpRequest, key: &str, needed: Scope) -> Result<Caller, Problem> {
        let Some(holder) = self.ring.holder(key, self.clock.now()) else {
            self.limiter.check(&Caller::peer(request))?;
            return Err(Problem::unauthorized("the key is unknown, expired or revoked"));
        };
        if holder.scope < needed {
            return Err(Problem::forbidden(needed.as_str()));
        }
        Ok(Caller::Key(holder.id))
    }
}

/// The key in the first of the three headers that the request has.
fn presented_key(request: &HttpRequest) -> Option<&str> {
    let headers = request.headers();
    let plain = headers.get("api-key").or_else(|| headers.get("x-api-key"));
    if let Some(key) = plain {
        return key.to_str().ok().map(str::trim);
    }
    let (scheme, token) = headers
        .get(header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a handler requires by taking an [`Authorized`] as an argument.
pub(crate) trait Permission {
    const SCOPE: Scope;
    const COST: Cost;
}

macro_rules! permission {
    ($($(#[$doc:meta])* $name:ident = $scope:ident, $cost:ident;)+) => {
        $(
            $(#[$doc])*
            #[derive(Debug)]
            pub(crate) enum $name {}

            impl Permission for $name {
                const SCOPE: Scope = Scope::$scope;
                const COST: Cost = Cost::$cost;
            }
        )+
    };
}

permission! {
    /// Reads what is in memory.
    ReadRankings = Read, Cached;
    /// Reads the database.
    Read = Read, Query;
    /// Sends batches.
    Write = Write, Query;
    /// Changes the registry.
    Administer = Admin, Query;
}

/// Proof that the request may do what `P` says. Handlers take it as the first argument, so that the body of a refused
/// request is not read.
#[derive(Debug)]
pub(crate) struct Authorized<P> {
    caller: Option<Caller>,
    permission: PhantomData<P>,
}

impl<P> Authorized<P> {
    /// Separates the idempotency keys of different callers.
    pub(crate) fn namespace(&self) -> &str {
        match &self.caller {
            Some(Caller::Key(id)) => id,
            Some(Caller::Peer(_)) | None => "",
        }
    }
}

impl<P: Permission> FromRequest for Authorized<P> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        #[expect(
            clippy::expect_used,
            reason = "every app is configured with its access_control"
        )]
        let access_control = request
            .app_data::<Data<AccessControl>>()
            .expect("a access_control");
        ready(
            access_control
                .authorize(request, P::SCOPE, P::COST)
                .map(|caller| Self {
                    caller,
                    permission: PhantomData,
                }),
        )
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_key_is_taken_from_each_of_the_headers() {
        for (name, value, key) in [
            ("api-key", "k", Some("k")),
            ("X-API-KEY", " k ", Some("k")),
            ("Authorization", "Bearer k", Some("k")),
            ("authorization", "bearer  k", Some("k")),
            ("Authorization", "Basic k", None),
            ("Authorization", "Bearer", None),
            ("X-Key", "k", None),
        ] {
            let request = TestRequest::default()
                .insert_header((name, value))
                .to_http_request();
            assert_eq!(presented_key(&request), key, "{name}: {value}");
        }
    }
}
