//! Caches the statistics rows that the rankings are computed from, in their serialised form.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use statistics::{CountOverflow, DecodeError, RunningStatistics};
use storage::{Hour, Period, StatisticsChange, StatisticsKey};

use crate::snapshot::{Summaries, SummariesByKey, Summary, TimeWindow};

/// The longest window, in full hours before the current hour. Older hours are not needed.
const LONGEST_WINDOW: i64 = 30 * 24;

/// Why a key's statistics could not be computed.
#[derive(Debug, thiserror::Error)]
#[error("the stored statistics of {key:?} are not usable")]
pub struct UnreadableStatistics {
    key: StatisticsKey,
    #[source]
    source: StateError,
}

#[derive(Debug, thiserror::Error)]
enum StateError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error(transparent)]
    Overflow(#[from] CountOverflow),
}

/// The rows by key. Memory: one serialised row per (key, hour) of the last 30 days and per key for all time, about
/// 0.3 to 1 KB each, so up to 721 rows per key; and up to five decoded states per key, a few KB each.
#[derive(Debug, Default)]
pub(crate) struct StatisticsCache {
    keys: BTreeMap<StatisticsKey, KeyRows>,
    /// Keys whose summaries are outdated.
    outdated: BTreeSet<StatisticsKey>,
    summaries: SummariesByKey,
    current: Option<Hour>,
}

#[derive(Debug, Default)]
struct KeyRows {
    all_time: Option<Row>,
    hours: BTreeMap<Hour, Row>,
    /// The merge of the full hours before the current one, by window. It stays the same for an hour, so a new batch
    /// costs the decoding of one row instead of 720.
    full_hours: Option<[Merged; TimeWindow::ALL.len()]>,
}

#[derive(Debug)]
struct Row {
    state: Box<[u8]>,
    updated_at: DateTime<Utc>,
}

impl StatisticsCache {
    /// The oldest hour that any window needs at `now`.
    pub(crate) fn oldest_hour(now: DateTime<Utc>) -> Hour {
        Hour(Hour::of(now).0 - LONGEST_WINDOW)
    }

    /// Applies what changed in the database, as of `now`. Returns whether any ranking may have changed.
    pub(crate) fn apply(&mut self, change: StatisticsChange, now: DateTime<Utc>) -> bool {
        if change.complete {
            *self = Self::default();
        }
        let new_hour = self.current != Some(Hour::of(now));
        if new_hour {
            self.begin_hour(now);
        }
        let changed = !change.rows.is_empty();
        for row in change.rows {
            let rows = self.keys.entry(row.key).or_default();
            let (period, row_key) = (row.period, row.key);
            let row = Row {
                state: row.state.into(),
                updated_at: row.updated_at,
            };
            match period {
                Period::AllTime => rows.all_time = Some(row),
                Period::Hour(hour) if hour < Self::oldest_hour(now) => {}
                Period::Hour(hour) => {
                    rows.hours.insert(hour, row);
                    if Some(hour) != self.current {
                        rows.full_hours = None;
                    }
                }
            }
            self.outdated.insert(row_key);
        }
        new_hour || changed || change.complete
    }

    /// Moves every window to the hour of `now`, which differs from the current hour.
    fn begin_hour(&mut self, now: DateTime<Utc>) {
        let oldest_hour = Self::oldest_hour(now);
        self.current = Some(Hour::of(now));
        for (key, rows) in &mut self.keys {
            rows.hours = rows.hours.split_off(&oldest_hour);
            rows.full_hours = None;
            self.outdated.insert(*key);
        }
    }

    /// Computes the outdated summaries.
    ///
    /// # Errors
    /// The first key with a row that does not decode. Such keys stay outdated and keep their summaries; the summaries of
    /// the other keys are computed.
    pub(crate) fn update(&mut self) -> Result<(), UnreadableStatistics> {
        let Self {
            keys,
            outdated,
            summaries,
            current,
        } = self;
        let mut first = Ok(());
        outdated.retain(|&key| {
            let (Some(rows), Some(current)) = (keys.get_mut(&key), *current) else {
                return false;
            };
            match rows.summaries(current) {
                Ok(computed) => {
                    let cached_key = (key.metric, key.source, key.llm);
                    if summaries.get(&cached_key).is_none_or(|known| **known != computed) {
                        summaries.insert(cached_key, Arc::new(computed));
                    }
                    false
                }
                Err(source) => {
                    if first.is_ok() {
                        first = Err(UnreadableStatistics { key, source });
                    }
                    true
                }
            }
        });
        first
    }

    /// Whether any summaries are outdated.
    pub(crate) fn is_outdated(&self) -> bool {
        !self.outdated.is_empty()
    }

    /// The summaries of every key, as of the last update.
    pub(crate) fn summaries(&self) -> &SummariesByKey {
        &self.summaries
    }
}

impl KeyRows {
    fn summaries(&mut self, current: Hour) -> Result<Summaries, StateError> {
        if self.full_hours.is_none() {
            self.full_hours = Some(self.merge_full_hours(current)?);
        }
        let now = self.hours.get(&current).map(Row::decode).transpose()?;
        let all_time = self.all_time.as_ref().map(Row::decode).transpose()?;
        let mut summaries = Summaries::default();
        for (&window, before) in TimeWindow::ALL.iter().zip(self.full_hours.iter().flatten()) {
            let merged = match window.full_hours() {
                Some(_) => before.clone().and(now.as_ref())?,
                None => Merged(all_time.clone()),
            };
            summaries[window as usize] = merged
                .0
                .and_then(|(statistics, updated_at)| Summary::of(&statistics, updated_at));
        }
        Ok(summaries)
    }

    /// Merges the hours from the newest to the oldest in one pass: each window contains the next shorter one.
    fn merge_full_hours(&self, current: Hour) -> Result<[Merged; TimeWindow::ALL.len()], StateError> {
        let mut by_window: [Merged; TimeWindow::ALL.len()] = Default::default();
        let mut merged = Merged::default();
        let mut hours = self.hours.range(..current).rev().peekable();
        for &window in TimeWindow::ALL {
            let Some(full_hours) = window.full_hours() else {
                continue;
            };
            while let Some((_, row)) = hours.next_if(|(hour, _)| hour.0 >= current.0 - full_hours) {
                merged = merged.and(Some(&row.decode()?))?;
            }
            by_window[window as usize] = merged.clone();
        }
        Ok(by_window)
    }
}

impl Row {
    fn decode(&self) -> Result<(RunningStatistics, DateTime<Utc>), DecodeError> {
        Ok((RunningStatistics::from_bytes(&self.state)?, self.updated_at))
    }
}

/// A merge of rows, and when the last of them was updated; `None` if there are no rows.
#[derive(Debug, Clone, Default)]
struct Merged(Option<(RunningStatistics, DateTime<Utc>)>);

impl Merged {
    fn and(self, row: Option<&(RunningStatistics, DateTime<Utc>)>) -> Result<Self, CountOverflow> {
        Ok(Self(match (self.0, row) {
            (Some((mut statistics, updated_at)), Some((more, later))) => {
                statistics.merge(more)?;
                Some((statistics, updated_at.max(*later)))
            }
            (some, None) => some,
            (None, row) => row.cloned(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use shared_types::{LlmId, MetricId, Source};
    use storage::{Revision, StatisticsRow};

    use super::*;

    const KEY: StatisticsKey = StatisticsKey {
        llm: LlmId(1),
        metric: MetricId(1),
        source: Source::Simulated,
    };

    fn noon() -> DateTime<Utc> {
        "2026-05-01T12:30:00Z".parse().unwrap()
    }

    fn row(period: Period, values: &[f64]) -> StatisticsRow {
        StatisticsRow {
            key: KEY,
            period,
            state: RunningStatistics::try_from(values).unwrap().to_bytes(),
            updated_at: noon(),
        }
    }

    fn hours_ago(hours: i64) -> Period {
        Period::Hour(Hour(Hour::of(noon()).0 - hours))
    }

    fn change(complete: bool, rows: Vec<StatisticsRow>) -> StatisticsChange {
        StatisticsChange {
            complete,
            rows,
            revision: Revision {
                generation: 0,
                position: 0,
            },
        }
    }

    /// n of each window: 1h, 24h, 7d, 30d, all.
    fn counts(cache: &mut StatisticsCache) -> Vec<u64> {
        cache.update().unwrap();
        cache.summaries()[&(KEY.metric, KEY.source, KEY.llm)]
            .iter()
            .map(|summary| summary.as_ref().map_or(0, |summary| summary.n))
            .collect()
    }

    #[test]
    fn windows_hold_the_current_hour_and_the_full_hours_before_it() {
        let mut cache = StatisticsCache::default();
        let rows = vec![
            row(Period::AllTime, &[0.0; 100]),
            row(hours_ago(-1), &[1.0; 50]),
            row(hours_ago(0), &[1.0]),
            row(hours_ago(1), &[1.0; 2]),
            row(hours_ago(2), &[1.0; 4]),
            row(hours_ago(24), &[1.0; 8]),
            row(hours_ago(25), &[1.0; 16]),
            row(hours_ago(720), &[1.0; 32]),
            row(hours_ago(721), &[1.0; 64]),
        ];
        assert!(cache.apply(change(true, rows), noon()));
        assert_eq!(counts(&mut cache), [3, 15, 31, 63, 100]);
        assert!(
            !cache.apply(change(false, vec![]), noon()),
            "nothing new, nothing to do"
        );
    }

    #[test]
    fn only_what_changed_is_computed_and_late_hours_count() {
        let mut cache = StatisticsCache::default();
        cache.apply(change(true, vec![row(hours_ago(0), &[1.0])]), noon());
        assert_eq!(counts(&mut cache), [1, 1, 1, 1, 0]);
        cache.apply(change(false, vec![row(hours_ago(0), &[1.0, 2.0])]), noon());
        assert_eq!(counts(&mut cache), [2, 2, 2, 2, 0]);
        cache.apply(change(false, vec![row(hours_ago(30), &[1.0; 5])]), noon());
        assert_eq!(counts(&mut cache), [2, 2, 7, 7, 0]);
    }

    #[test]
    fn windows_move_on_with_the_hour() {
        let mut cache = StatisticsCache::default();
        cache.apply(change(true, vec![row(hours_ago(0), &[1.0])]), noon());
        assert_eq!(counts(&mut cache), [1, 1, 1, 1, 0]);
        let in_hours = |hours| noon() + TimeDelta::hours(hours);
        assert!(cache.apply(change(false, vec![]), in_hours(1)));
        assert_eq!(counts(&mut cache), [1, 1, 1, 1, 0]);
        cache.apply(change(false, vec![]), in_hours(2));
        assert_eq!(counts(&mut cache), [0, 1, 1, 1, 0]);
        cache.apply(change(false, vec![]), in_hours(721));
        assert_eq!(counts(&mut cache), [0, 0, 0, 0, 0]);
    }

    #[test]
    fn an_unreadable_row_is_an_error_and_not_a_gap_and_the_other_keys_are_computed() {
        let mut cache = StatisticsCache::default();
        let mut broken = row(Period::AllTime, &[1.0]);
        broken.state.pop();
        let mut healthy = row(Period::AllTime, &[1.0]);
        healthy.key.llm = LlmId(2);
        cache.apply(change(true, vec![broken, healthy]), noon());
        assert!(cache.update().is_err());
        assert!(cache.is_outdated() && cache.update().is_err());
        assert!(cache.summaries().keys().eq([&(KEY.metric, KEY.source, LlmId(2))]));
        cache.apply(change(false, vec![row(Period::AllTime, &[1.0])]), noon());
        assert_eq!(counts(&mut cache), [0, 0, 0, 0, 1]);
        assert!(!cache.is_outdated());
    }
}
