use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use storage::{ApiKeyId, ApiKeyRecord, Scope, Storage};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::{
    AccessPolicy,
    key::{ApiKey, Pepper},
};

/// The id of the bootstrap key for the rate limit. No stored key has this id.
const BOOTSTRAP: &str = "bootstrap";

/// The holder of an accepted key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyHolder {
    pub(crate) id: Arc<str>,
    pub(crate) scope: Scope,
}

/// The keys that are accepted, kept in memory so that a request costs one hash and no query.
#[derive(Debug)]
pub(crate) struct KeyRing {
    stored: ArcSwap<HashMap<ApiKeyId, (Arc<str>, ApiKeyRecord)>>,
    /// Hashes stored secrets; without one there are no stored keys.
    pepper: Option<Pepper>,
    /// Hashes the bootstrap key and the keys that are compared with it, so that both have the same length.
    bootstrap_pepper: Pepper,
    bootstrap: Option<(Arc<str>, [u8; 32])>,
}

impl KeyRing {
    pub(crate) fn new(policy: &AccessPolicy) -> Self {
        let pepper = policy.pepper.as_ref().map(Pepper::new);
        let bootstrap_pepper = Pepper::new(&service_runtime::Secret::new(BOOTSTRAP.to_owned()));
        let bootstrap = policy
            .bootstrap_key
            .as_ref()
            .map(|key| (BOOTSTRAP.into(), bootstrap_pepper.hash(key.expose())));
        Self {
            stored: ArcSwap::default(),
            pepper,
            bootstrap_pepper,
            bootstrap,
        }
    }

    /// The holder of this key; `None` if the key is unknown, expired or revoked.
    pub(crate) fn holder(&self, presented: &str, now: DateTime<Utc>) -> Option<KeyHolder> {
        self.stored_holder(presented, now)
            .or_else(|| self.bootstrap_holder(presented))
    }

    fn stored_holder(&self, presented: &str, now: DateTime<Utc>) -> Option<KeyHolder> {
        let (pepper, key) = (self.pepper.as_ref()?, ApiKey::parse(presented)?);
        let stored = self.stored.load();
        let (id, record) = stored.get(key.id())?;
        let same = bool::from(key.hash(pepper).ct_eq(&record.hash));
        (same && is_live(record, now)).then(|| KeyHolder {
            id: Arc::clone(id),
            scope: record.scope,
        })
    }

    fn bootstrap_holder(&self, presented: &str) -> Option<KeyHolder> {
        let (id, hash) = self.bootstrap.as_ref()?;
        bool::from(self.bootstrap_pepper.hash(presented).ct_eq(hash)).then(|| KeyHolder {
            id: Arc::clone(id),
            scope: Scope::Admin,
        })
    }

    pub(crate) fn replace(&self, records: Vec<ApiKeyRecord>) {
        let records = records
            .into_iter()
            .map(|record| (record.id.clone(), (record.id.0.as_str().into(), record)))
            .collect();
        self.stored.store(Arc::new(records));
    }

    /// Reads the stored keys from the database again and again, with this pause in between, until shutdown.
    pub(crate) async fn keep_fresh(
        self: Arc<Self>,
        storage: Arc<dyn Storage>,
        pause: Duration,
        shutdown: CancellationToken,
    ) {
        let refresh = async {
            let mut failing = false;
            loop {
                let read = storage.api_keys().await;
                if let Err(error) = &read
                    && !failing
                {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the API keys could not be read; the last known ones stay accepted"
                    );
                }
                failing = read.is_err();
                if let Ok(records) = read {
                    self.replace(records);
                }
                tokio::time::sleep(pause).await;
            }
        };
        shutdown.run_until_cancelled(refresh).await;
    }
}

fn is_live(record: &ApiKeyRecord, now: DateTime<Utc>) -> bool {
    record.revoked_at.is_none_or(|revoked| now < revoked)
        && record.expires_at.is_none_or(|expires| now < expires)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use rand::rngs::SysRng;
    use service_runtime::Secret;

    use super::*;

    fn secret(text: &str) -> Option<Secret> {
        Some(Secret::new(text.to_owned()))
    }

    fn policy() -> AccessPolicy {
        AccessPolicy {
            anonymous_read: false,
            bootstrap_key: secret("bootstrap-key-of-16"),
            pepper: secret("a pepper"),
        }
    }

    #[test]
    fn stored_keys_are_accepted_until_they_expire_or_are_revoked() {
        let (ring, now) = (KeyRing::new(&policy()), DateTime::UNIX_EPOCH);
        let key = ApiKey::draw(&mut SysRng).unwrap();
        let record = ApiKeyRecord {
            id: key.id().clone(),
            name: "test".to_owned(),
            scope: Scope::Write,
            hash: key.hash(&Pepper::new(&Secret::new("a pepper".to_owned()))),
            created_at: now,
            expires_at: Some(now + TimeDelta::hours(1)),
            revoked_at: None,
        };
        let scope = |ring: &KeyRing, at| ring.holder(&key.expose(), at).map(|holder| holder.scope);
        assert_eq!(scope(&ring, now), None);
        ring.replace(vec![record.clone()]);
        assert_eq!(scope(&ring, now), Some(Scope::Write));
        assert_eq!(scope(&ring, now + TimeDelta::hours(1)), None);

        let mut other_secret = ApiKey::draw(&mut SysRng).unwrap().expose();
        other_secret.replace_range(..21, &key.expose()[..21]);
        assert_eq!(ring.holder(&other_secret, now), None);

        ring.replace(vec![ApiKeyRecord {
            revoked_at: Some(now),
            ..record
        }]);
        assert_eq!(scope(&ring, now), None);
    }

    #[test]
    fn the_bootstrap_key_has_every_scope() {
        let ring = KeyRing::new(&policy());
        let holder = ring.holder("bootstrap-key-of-16", DateTime::UNIX_EPOCH);
        assert_eq!(holder.unwrap().scope, Scope::Admin);
        assert_eq!(ring.holder("bootstrap-key-of-17", DateTime::UNIX_EPOCH), None);
        assert_eq!(ring.holder("", DateTime::UNIX_EPOCH), None);
    }
}
