//! Background tasks: send batches again that the broker lost, audit the statistics against the stored batches, and
//! delete batches that are older than the retention.
//!
//! Every process of a deployment runs all tasks; the database's operations allow several processes at once.

mod reconciler;
mod retention;
mod telemetry;

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use service_runtime::{
    lifecycle::Lifecycle,
    settings::{Variables, seconds},
};
use shared_types::Invalid;

use crate::dependencies::Dependencies;
use reconciler::Reconciler;
use retention::Retention;
use telemetry::HousekeepingTask;
pub(crate) use telemetry::HousekeepingTelemetry;

/// The settings of housekeeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HousekeepingSettings {
    /// From the end of one pass of the reconciler to the start of the next.
    pub interval: Duration,
    /// The time after which a stored batch that is not counted is sent again.
    pub grace: Duration,
    /// The age at which counted batches are deleted; `None` keeps them for ever.
    pub retention: Option<TimeDelta>,
}

impl Default for HousekeepingSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            grace: Duration::from_secs(300),
            retention: None,
        }
    }
}

impl HousekeepingSettings {
    /// The grace while `queued` messages wait in the queue. It is longer during a backlog, because batches in a backlog
    /// are not lost. `None`: the broker cannot be asked and may have a backlog.
    #[must_use]
    pub fn grace_with(&self, queued: Option<u64>) -> Duration {
        const BACKLOG_FACTOR: u32 = 12;
        match queued {
            Some(0) => self.grace,
            Some(_) | None => self.grace * BACKLOG_FACTOR,
        }
    }

    /// Reads `RECONCILE_INTERVAL_SECONDS`, `RECONCILE_GRACE_SECONDS` and `RETENTION_DAYS`.
    ///
    /// # Errors
    /// The first variable that is refused.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        const DAY: u64 = 86_400;
        const LONGEST_RETENTION: i64 = 36_500;
        let default = Self::default();
        let retention = variables.parsed("RETENTION_DAYS", "whole days from 1 to 36500", |days: &i64| {
            (1..=LONGEST_RETENTION).contains(days)
        })?;
        Ok(Self {
            interval: seconds(variables, "RECONCILE_INTERVAL_SECONDS", 1..=DAY)?.unwrap_or(default.interval),
            grace: seconds(variables, "RECONCILE_GRACE_SECONDS", 1..=DAY)?.unwrap_or(default.grace),
            retention: retention.map(TimeDelta::days),
        })
    }
}

/// Starts the tasks; they end with `life`.
pub(crate) fn start(
    settings: HousekeepingSettings,
    dependencies: &Dependencies,
    telemetry: HousekeepingTelemetry,
    life: &Lifecycle,
) {
    let Dependencies {
        storage,
        broker,
        clock,
        ..
    } = dependencies;
    if let Some(keep) = settings.retention.and_then(|keep| keep.to_std().ok()) {
        let retention = Retention {
            storage: Arc::clone(storage) as Arc<_>,
            clock: Arc::clone(clock),
            keep,
            telemetry: telemetry.clone(),
        };
        life.spawn("retention", retention.run(life.shutdown()));
    }
    let (storage, broker) = (Arc::clone(storage) as Arc<_>, Arc::clone(broker));
    let reconciler = Reconciler::new(storage, broker, settings, telemetry);
    life.spawn("reconciler", reconciler.run(life.shutdown()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<HousekeepingSettings, Invalid> {
        HousekeepingSettings::read(&Variables::from_map(
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())),
        )?)
    }

    #[test]
    fn batches_are_kept_for_ever_unless_a_retention_is_given() {
        assert_eq!(read(&[]).unwrap(), HousekeepingSettings::default());
        let given = read(&[("RETENTION_DAYS", "30"), ("RECONCILE_GRACE_SECONDS", "5")]).unwrap();
        assert_eq!(given.retention, Some(TimeDelta::days(30)));
        assert_eq!(given.grace, Duration::from_secs(5));
    }

    #[test]
    fn refusals_name_the_variable() {
        for (name, value) in [
            ("RETENTION_DAYS", "0"),
            ("RETENTION_DAYS", "-1"),
            ("RETENTION_DAYS", "for ever"),
            ("RECONCILE_INTERVAL_SECONDS", "0"),
            ("RECONCILE_GRACE_SECONDS", "0.5"),
        ] {
            let refused = read(&[(name, value)]).unwrap_err().to_string();
            let told = format!("{name}: found {value}, expected whole ");
            assert!(refused.starts_with(&told), "{refused}");
        }
    }
}
