//! The readiness of a service, as `/readyz` reports it: each component with its state.

use std::{collections::BTreeMap, fmt::Display, future::Future, pin::Pin, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::lifecycle::Lifecycle;

/// The state of one component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ComponentState {
    /// The component is usable.
    Ready,
    /// The component is not usable now.
    Missing {
        /// Why it is not usable.
        reason: String,
    },
}

impl ComponentState {
    /// A component that is not usable, with the reason.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing {
            reason: reason.into(),
        }
    }

    /// Missing for the given reason; ready for `None`.
    #[must_use]
    pub fn ready_unless(reason: Option<impl Into<String>>) -> Self {
        reason.map_or(Self::Ready, Self::missing)
    }
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether every component is ready.
    pub ready: bool,
    /// The state of each component, by the component's name.
    pub components: BTreeMap<&'static str, ComponentState>,
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ComponentState> + Send>> + Send + Sync>;

/// The components of a service, each with a function that checks it.
#[derive(Clone, Default)]
pub struct Health(Vec<(&'static str, Check)>);

impl Health {
    /// With the one component `process`, which is missing when the process is about to end. [`Self::with`] adds others.
    #[must_use]
    pub fn of(life: &Lifecycle) -> Self {
        let leaving = life.leaving();
        Self::default().with("process", move || {
            let state = if leaving.is_cancelled() {
                ComponentState::missing("about to end")
            } else {
                ComponentState::Ready
            };
            async move { state }
        })
    }

    /// Adds a component.
    #[must_use]
    pub fn with<F>(mut self, name: &'static str, check: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ComponentState> + Send + 'static,
    {
        self.0.push((name, Arc::new(move || Box::pin(check()))));
        self
    }

    /// Checks every component.
    pub async fn report(&self) -> HealthReport {
        let mut components = BTreeMap::new();
        for (name, check) in &self.0 {
            components.insert(*name, check().await);
        }
        let ready = components.values().all(|state| *state == ComponentState::Ready);
        HealthReport { ready, components }
    }
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// Checks whether a database answers: at most once a second, however often readiness is asked for, and with a time limit of
/// 2 s, because a database that hangs is not usable.
#[derive(Debug, Default)]
pub struct CachedPing {
    last: Mutex<Option<(Instant, ComponentState)>>,
}

impl CachedPing {
    const MAX_AGE: Duration = Duration::from_secs(1);
    const TIMEOUT: Duration = Duration::from_secs(2);

    /// The result of `ping`, or of the last ping where that was less than a second ago.
    ///
    /// Shows the error without its causes: they may name hosts and users, and readiness needs no API key.
    pub async fn state<E: Display>(&self, ping: impl Future<Output = Result<(), E>>) -> ComponentState {
        let mut last = self.last.lock().await;
        if let Some((asked, state)) = last.as_ref()
            && asked.elapsed() < Self::MAX_AGE
        {
            return state.clone();
        }
        let state = match timeout(Self::TIMEOUT, ping).await {
            Ok(Ok(())) => ComponentState::Ready,
            Ok(Err(error)) => ComponentState::missing(error.to_string()),
            Err(_elapsed) => {
                ComponentState::missing(format!("no answer within {} s", Self::TIMEOUT.as_secs()))
            }
        };
        *last = Some((Instant::now(), state.clone()));
        state
    }
}
