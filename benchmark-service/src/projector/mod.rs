//! Keeps the snapshot of the rankings up to date with the database, and marks it as stale when it cannot.

mod freshness;
mod rankings;
mod statistics_cache;
mod telemetry;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use prometheus::IntCounter;
use shared_types::{Clock, Llm, Metric};
use storage::{Revision, Storage, StorageError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::dependencies::Dependencies;
use crate::snapshot::{BodyFormat, RankingSelection, Snapshot};
use statistics_cache::StatisticsCache;

pub(crate) use freshness::Freshness;
pub(crate) use rankings::Rankings;
pub use statistics_cache::UnreadableStatistics;

/// Why the rankings could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The database is away or refuses.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Stored statistics do not decode. The rankings lack what they say.
    #[error(transparent)]
    Unreadable(#[from] UnreadableStatistics),
    /// A bug: a task of its own computes the summaries, and panicked.
    #[error("computing the summaries panicked")]
    Panicked(#[from] tokio::task::JoinError),
}

/// The rankings as the database says now, for a process that does not keep them up to date.
///
/// # Errors
/// The database is away, or holds statistics that do not decode.
pub async fn current_snapshot(storage: &dyn Storage, now: DateTime<Utc>) -> Result<Snapshot, RefreshError> {
    let (llms, metrics) = (storage.llms().await?, storage.metrics().await?);
    let oldest = StatisticsCache::oldest_hour(now);
    let mut cache = StatisticsCache::default();
    cache.apply(storage.statistics_since(None, oldest).await?, now);
    cache.update()?;
    let (none, summaries) = (Snapshot::empty(), cache.summaries());
    Ok(Snapshot::next(&none, now, llms, metrics, summaries))
}

/// The task that makes snapshots.
pub(crate) struct Projector {
    storage: Arc<dyn Storage>,
    clock: Arc<dyn Clock>,
    rankings: Arc<Rankings>,
    freshness: Arc<Freshness>,
    /// The longest time until commits of other processes and changes of the registry are noticed.
    refresh_interval: Duration,
    default_selection: RankingSelection,
    failures: IntCounter,
    since: Option<Revision>,
    cache: StatisticsCache,
}

impl Projector {
    /// The shortest pause between two refreshes.
    const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
    /// The longest pause after a refresh that took long. Together with `refresh_interval` it leaves a second for each of
    /// two refreshes before the rankings are stale.
    const LONGEST_PAUSE: Duration = Duration::from_secs(2);
    /// How often the projector checks whether the rankings have become stale or fresh.
    const FRESHNESS_PAUSE: Duration = Duration::from_millis(250);

    pub(crate) fn new(
        dependencies: &Dependencies,
        rankings: Arc<Rankings>,
        freshness: Freshness,
        refresh_interval: Duration,
        default_selection: RankingSelection,
    ) -> prometheus::Result<Self> {
        Ok(Self {
            failures: telemetry::register(&dependencies.telemetry, &rankings)?,
            storage: Arc::clone(&dependencies.storage),
            clock: Arc::clone(&dependencies.clock),
            rankings,
            freshness: Arc::new(freshness),
            refresh_interval,
            default_selection,
            since: None,
            cache: StatisticsCache::default(),
        })
    }

    /// Refreshes until shutdown: soon after a commit of this process, and at least once in `refresh_interval`. While a
    /// refresh hangs, the rankings still become stale.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let watch = watch_freshness(
            Arc::clone(&self.rankings),
            Arc::clone(&self.freshness),
            self.default_selection,
        );
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = self.refresh_for_ever() => {}
            () = watch => {}
        }
    }

    async fn refresh_for_ever(mut self) {
        let rankings = Arc::clone(&self.rankings);
        let mut failing = false;
        loop {
            let started = Instant::now();
            match self.refresh().await {
                Ok(()) => {
                    if failing {
                        tracing::info!("the rankings are up to date again");
                    }
                    failing = false;
                }
                Err(error) => {
                    self.failures.inc();
                    if !failing {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the rankings could not be refreshed; serving what is known"
                        );
                    }
                    failing = true;
                }
            }
            // The pause is nine times as long as the work, so that refreshing takes a tenth of a core. After a failure the
            // pause is short, however long the database took to fail.
            let pause = if failing {
                self.refresh_interval
            } else {
                (started.elapsed() * 9).clamp(Self::SHORTEST_PAUSE, Self::LONGEST_PAUSE)
            };
            tokio::time::sleep(pause).await;
            tokio::time::timeout(self.refresh_interval, rankings.refresh_requests().notified())
                .await
                .ok();
        }
    }

    async fn refresh(&mut self) -> Result<(), RefreshError> {
        let (asked_at, now) = (Instant::now(), self.clock.now());
        let (llms, metrics) = (self.storage.llms().await?, self.storage.metrics().await?);
        let change = self
            .storage
            .statistics_since(self.since, StatisticsCache::oldest_hour(now))
            .await?;
        let revision = change.revision;
        let moved = self.cache.apply(change, now);
        self.since = Some(revision);

        let previous = self.rankings.load_full();
        let outdated = moved || !previous.has_registry(&llms, &metrics);
        if !outdated && !self.cache.is_outdated() {
            self.rankings.confirm(asked_at, now);
            return Ok(());
        }
        // A panic loses the cache: the next refresh then reads everything again.
        self.since = None;
        let work = SnapshotUpdate {
            rankings: Arc::clone(&self.rankings),
            freshness: Arc::clone(&self.freshness),
            cache: std::mem::take(&mut self.cache),
            selection: self.default_selection,
            previous,
            asked_at,
            now,
        };
        let registry = outdated.then_some((llms, metrics));
        let (cache, updated) = tokio::task::spawn_blocking(move || work.run(registry)).await?;
        (self.cache, self.since) = (cache, Some(revision));
        Ok(updated?)
    }
}

/// The computing part of a refresh, which runs on a blocking thread.
struct SnapshotUpdate {
    rankings: Arc<Rankings>,
    freshness: Arc<Freshness>,
    cache: StatisticsCache,
    selection: RankingSelection,
    previous: Arc<Snapshot>,
    asked_at: Instant,
    now: DateTime<Utc>,
}

impl SnapshotUpdate {
    /// Computes the outdated summaries. If `registry` is given, the rankings may have changed: publishes a snapshot. If
    /// some statistics do not decode, publishes the others, returns the error, and does not confirm the rankings.
    fn run(
        mut self,
        registry: Option<(Vec<Llm>, Vec<Metric>)>,
    ) -> (StatisticsCache, Result<(), UnreadableStatistics>) {
        let updated = self.cache.update();
        if let Some((llms, metrics)) = registry {
            let before = self.rankings.confirmed().as_of;
            let (as_of, stale) = if updated.is_ok() {
                (before.max(self.now), self.freshness.is_idle())
            } else {
                (before, self.freshness.is_stale(&self.rankings))
            };
            let snapshot = Snapshot::next(&self.previous, self.now, llms, metrics, self.cache.summaries())
                .with_freshness(as_of, stale);
            prepare_default_bodies(&snapshot, self.selection);
            self.rankings.publish(snapshot);
        }
        // After the publication: a confirmed time must not be visible before the rankings of that time.
        if updated.is_ok() {
            self.rankings.confirm(self.asked_at, self.now);
        }
        (self.cache, updated)
    }
}

/// Replaces the snapshot by one with another freshness whenever the rankings become stale or fresh again.
async fn watch_freshness(rankings: Arc<Rankings>, freshness: Arc<Freshness>, selection: RankingSelection) {
    loop {
        let (current, stale) = (rankings.load_full(), freshness.is_stale(&rankings));
        // Before the first confirmation there are no rankings to replace.
        if rankings.age().is_some() && current.stale != stale {
            let restated = current.with_freshness(rankings.confirmed().as_of, stale);
            let prepared = tokio::task::spawn_blocking(move || {
                prepare_default_bodies(&restated, selection);
                restated
            });
            match prepared.await {
                Ok(restated) => {
                    if stale {
                        tracing::warn!(data.as_of = %restated.as_of, "the rankings that are served are stale");
                    } else {
                        tracing::info!("the rankings that are served are fresh again");
                    }
                    rankings.restate(&current, restated);
                }
                Err(crashed) => std::panic::resume_unwind(crashed.into_panic()),
            }
        }
        tokio::time::sleep(Projector::FRESHNESS_PAUSE).await;
    }
}

/// Serialises the bodies that are asked for most before the snapshot is published. The others are serialised on first
/// use.
fn prepare_default_bodies(snapshot: &Snapshot, selection: RankingSelection) {
    for target in snapshot.targets() {
        snapshot.body(selection, target, BodyFormat::Json);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Timing;

    /// The age of the rankings counts from the beginning of one refresh to the end of the next.
    #[test]
    fn refreshes_of_a_second_never_make_the_rankings_stale() {
        let Timing {
            rankings_refresh,
            stale_after,
            ..
        } = Timing::default();
        let two_refreshes = Duration::from_secs(2);
        assert!(Projector::LONGEST_PAUSE + rankings_refresh + two_refreshes <= stale_after);
    }
}
