//! What `/readyz` answers: each component with its state.

use std::{collections::BTreeMap, future::Future, pin::Pin, sync::Arc};

use serde::Serialize;

use crate::lifecycle::Lifecycle;

/// How one component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum ComponentState {
    /// Usable.
    Ready,
    /// Not usable now.
    Missing {
        /// Why, in words.
        reason: String,
    },
}

impl ComponentState {
    /// Missing, with the reason.
    pub fn missing(reason: impl Into<String>) -> Self {
        Self::Missing {
            reason: reason.into(),
        }
    }
}

/// The answer as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether every component is ready.
    pub ready: bool,
    /// Each component by name.
    pub components: BTreeMap<&'static str, ComponentState>,
}

type Check = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = ComponentState> + Send>> + Send + Sync>;

/// The components of a service, each with the way to ask it.
#[derive(Clone, Default)]
pub struct Health(Vec<(&'static str, Check)>);

impl Health {
    /// Only that the process is not about to end; components are added with [`Self::with`].
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

    /// Asks every component.
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
