//! The steady window: the time of a run that its figures are computed from.

use std::time::Duration;

use precise_time::MonotonicTime;
use serde::{Deserialize, Serialize};

use super::request_metrics::end_to_end;
use crate::{
    record::{Class, RequestRecord},
    run::RunMeasurements,
};

/// The kind of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    /// From the end of warm-up and ramp until the last request was sent: the load was what was asked for.
    Steady,
    /// From the first request after the warm-up until the last answer ended, because the steady part is too short.
    WholeRun,
}

/// Why the steady part of a run is not used for figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TooShort {
    /// No request that was sent in it was answered in full.
    NothingSent,
    /// No request was answered in full in it.
    NothingCompleted,
    /// It is shorter than the median end-to-end latency.
    ShorterThanMedianRequest,
}

/// The time of a run that its figures are computed from.
///
/// It begins at the end of the ramp or with the first request after the warm-up, whichever is later, and ends when the last request
/// was sent: before it the load still grows, after it the load decreases. Without a ramp an open loop begins with an idle server, so
/// its rates are too low by the share of the window that one request takes; a ramp or a longer run avoids that. Where this window is
/// too short ([`TooShort`]), the window is the whole run after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Why it is the whole run; `None` where it is the steady part.
    pub too_short: Option<TooShort>,
    /// Its first moment.
    pub start: MonotonicTime,
    /// Its last moment.
    pub end: MonotonicTime,
    /// Requests with a smaller index are the warm-up's.
    pub first_index: u64,
}

impl Window {
    /// The window of a run with these records.
    #[must_use]
    pub fn choose(records: &[RequestRecord], warmup_requests: u64, measurements: &RunMeasurements) -> Self {
        let counted = || {
            records
                .iter()
                .filter(move |record| record.index >= warmup_requests)
        };
        let sent = || counted().filter_map(|record| record.sent);
        let first_sent = sent().min();
        let start = first_sent.unwrap_or(measurements.started);
        let last_closed = counted().map(|record| record.closed).max();
        let steady = Self {
            too_short: None,
            start: start.max(measurements.ramp_end),
            // The last request is begun before its first byte is sent, and belongs to the window.
            end: measurements
                .last_begun
                .max(sent().max())
                .unwrap_or(measurements.ramp_end),
            first_index: warmup_requests,
        };
        steady.basis_is_missing(records).map_or(steady, |reason| Self {
            too_short: Some(reason),
            start,
            end: last_closed.unwrap_or(measurements.ended).max(start),
            first_index: warmup_requests,
        })
    }

    fn basis_is_missing(&self, records: &[RequestRecord]) -> Option<TooShort> {
        if !records.iter().any(|record| self.counts_for_latencies(record)) {
            return Some(TooShort::NothingSent);
        }
        if !records.iter().any(|record| self.counts_for_rates(record)) {
            return Some(TooShort::NothingCompleted);
        }
        let median = median_latency(records.iter().filter(|record| record.index >= self.first_index))?;
        (self.length() < median).then_some(TooShort::ShorterThanMedianRequest)
    }

    /// The kind of the window.
    #[must_use]
    pub fn kind(&self) -> WindowKind {
        match self.too_short {
            None => WindowKind::Steady,
            Some(_) => WindowKind::WholeRun,
        }
    }

    /// Its length.
    #[must_use]
    pub fn length(&self) -> Duration {
        self.end.saturating_since(self.start)
    }

    /// Whether the request's latencies count: it was sent in the window and answered in full.
    #[must_use]
    pub fn counts_for_latencies(&self, record: &RequestRecord) -> bool {
        self.answered(record) && record.sent.is_some_and(|sent| self.contains(sent))
    }

    /// Whether the request counts for rates: it was answered in full in the window, whenever it was sent. Requests that were sent
    /// before the window and requests that end after it compensate each other.
    #[must_use]
    pub fn counts_for_rates(&self, record: &RequestRecord) -> bool {
        self.answered(record) && self.contains(record.closed)
    }

    fn answered(&self, record: &RequestRecord) -> bool {
        record.index >= self.first_index && record.class == Class::Ok
    }

    fn contains(&self, moment: MonotonicTime) -> bool {
        (self.start..=self.end).contains(&moment)
    }
}

fn median_latency<'a>(records: impl Iterator<Item = &'a RequestRecord>) -> Option<Duration> {
    let mut latencies: Vec<Duration> = records
        .filter(|record| record.class == Class::Ok)
        .filter_map(|record| end_to_end(record, record.sent?))
        .collect();
    if latencies.is_empty() {
        return None;
    }
    let middle = latencies.len() / 2;
    Some(*latencies.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixtures::{at, measurements, record, refused};

    /// 100 requests, one every 100 ms, each 280 ms long.
    fn run() -> Vec<RequestRecord> {
        (0..100).map(record).collect()
    }

    fn window(records: &[RequestRecord], warmup: u64, ramp_ms: u64) -> Window {
        let mut measurements = measurements(records);
        measurements.ramp_end = at(ramp_ms);
        Window::choose(records, warmup, &measurements)
    }

    #[test]
    fn it_reaches_from_the_ramps_end_to_the_last_request_sent() {
        let records = run();
        let window = window(&records, 0, 2_000);
        assert_eq!(
            (window.kind(), window.start, window.end),
            (WindowKind::Steady, at(2_000), at(9_910))
        );
        let latencies = records
            .iter()
            .filter(|record| window.counts_for_latencies(record));
        assert_eq!(
            latencies.map(|record| record.index).collect::<Vec<_>>(),
            (20..100).collect::<Vec<_>>()
        );
        // Request 18 is due at 1 800 ms and closed at 2 091 ms; request 96 is closed at 9 891 ms.
        let rates = records.iter().filter(|record| window.counts_for_rates(record));
        assert_eq!(
            rates.map(|record| record.index).collect::<Vec<_>>(),
            (18..97).collect::<Vec<_>>()
        );
    }

    #[test]
    fn the_warm_up_is_left_out_even_where_the_ramp_is_shorter() {
        let records = run();
        let window = window(&records, 30, 2_000);
        assert_eq!(window.start, at(3_010));
        assert!(!window.counts_for_rates(&records[29]) && window.counts_for_latencies(&records[30]));
    }

    #[test]
    fn a_burst_has_no_steady_part() {
        let burst: Vec<_> = (0..10)
            .map(|index| RequestRecord { index, ..record(0) })
            .collect();
        let window = window(&burst, 0, 0);
        assert_eq!(window.too_short, Some(TooShort::NothingCompleted));
        assert_eq!((window.start, window.end), (at(10), at(291)));
        assert!(
            burst
                .iter()
                .all(|record| window.counts_for_latencies(record) && window.counts_for_rates(record))
        );
    }

    #[test]
    fn a_ramp_that_never_ends_leaves_the_whole_run() {
        let records = run();
        let window = window(&records, 0, 60_000);
        assert_eq!(window.too_short, Some(TooShort::NothingSent));
        assert_eq!((window.start, window.end), (at(10), at(10_191)));
    }

    #[test]
    fn a_window_shorter_than_a_typical_request_is_none() {
        let records: Vec<_> = (0..4).map(record).collect();
        // 110 ms to 310 ms, and a request takes 280 ms.
        let window = window(&records, 0, 110);
        assert_eq!(window.too_short, Some(TooShort::ShorterThanMedianRequest));
    }

    #[test]
    fn a_run_without_answers_has_a_window_too() {
        let records = [refused(0, 500)];
        assert_eq!(window(&records, 0, 0).length(), Duration::from_millis(281));
        assert_eq!(window(&[], 0, 0).kind(), WindowKind::WholeRun);
    }
}
