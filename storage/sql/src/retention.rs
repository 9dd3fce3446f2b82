//! Which hours are old enough to be pruned.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use storage::Hour;

/// The first hour to keep, if batches are kept for `keep`; `None` where that is all of them.
///
/// A clock that is wrong deletes what cannot be brought back, so three must agree: the caller's (`now`), the database's
/// own, and `newest`, when the newest stored batch was stored.
#[must_use]
pub fn first_hour_kept(
    keep: Duration,
    now: DateTime<Utc>,
    database: DateTime<Utc>,
    newest: Option<DateTime<Utc>>,
) -> Option<Hour> {
    let latest = now.min(database).min(newest?);
    let keep = TimeDelta::from_std(keep).ok()?;
    latest.checked_sub_signed(keep).map(Hour::of)
}

/// [`storage::Pruned::held_back_hours`]: how far the limit stays behind what was `wanted`, of which `None` is nothing.
#[must_use]
pub fn hours_held_back(wanted: Option<Hour>, retained_from: Hour) -> u64 {
    let hours = wanted.map_or(0, |wanted| wanted.0.saturating_sub(retained_from.0));
    u64::try_from(hours).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_clocks_the_earliest_counts() {
        const DAY: Duration = Duration::from_secs(86_400);
        let day = |day| DateTime::UNIX_EPOCH + TimeDelta::days(day);
        let hours = |days: i64| Some(Hour(days * 24));
        for (now, database, newest) in [(10, 400, 400), (400, 10, 400), (400, 400, 10)] {
            assert_eq!(
                first_hour_kept(DAY, day(now), day(database), Some(day(newest))),
                hours(9)
            );
        }
        assert_eq!(
            first_hour_kept(DAY, day(400), day(400), None),
            None,
            "nothing is stored"
        );
        assert_eq!(first_hour_kept(Duration::MAX, day(1), day(1), Some(day(1))), None);
    }
}
