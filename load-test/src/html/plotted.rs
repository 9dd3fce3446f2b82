//! The data of a run that are plotted.

use std::time::Duration;

use precise_time::MonotonicTime;

use super::bins::{RateSeries, TimeBins, quantile};
use crate::{
    plan::Load,
    record::{Class, RequestRecord},
    report::{
        Report,
        request_metrics::{end_to_end, output_tokens, time_to_first_token},
        window::Window,
    },
};

/// At most this many time bins.
const MOST_TIME_BINS: usize = 120;
/// Fewer bins where they would have fewer requests than this on average.
const REQUESTS_PER_TIME_BIN: usize = 10;
const FEWEST_TIME_BINS: usize = 12;
/// Up to this number, requests are plotted one by one; more are summarised by time bin.
pub(super) const MOST_DOTS: usize = 2_000;

/// A run's records with the parameters needed to plot them.
pub(super) struct PlottedRun<'a> {
    pub(super) records: &'a [RequestRecord],
    pub(super) is_open_loop: bool,
    /// Whether the first token's time is known: without a stream it is the last one's.
    pub(super) is_streamed: bool,
    pub(super) window: Window,
    /// In seconds since the run's start.
    pub(super) window_s: [f64; 2],
    pub(super) ramp_s: f64,
    pub(super) warmup_s: f64,
    started: MonotonicTime,
}

/// The latency of one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    /// When the request was sent, s since the run's start.
    pub(super) at_s: f64,
    /// Latency from sent.
    pub(super) from_sent_s: f64,
    /// Latency from the intended start.
    pub(super) from_intended_s: f64,
}

/// The course of a run in time bins.
pub(super) struct Timeline {
    pub(super) bins: TimeBins,
    pub(super) in_flight: Vec<f64>,
    pub(super) ok_per_s: Vec<f64>,
    pub(super) failed_per_s: Vec<f64>,
    /// Output tokens, spread evenly from a request's first to its last content.
    pub(super) tokens_per_s: Vec<f64>,
}

/// The latencies of the requests that were sent in one time bin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct LatencyBin {
    pub(super) n: usize,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p99_from_intended: f64,
}

impl<'a> PlottedRun<'a> {
    pub(super) fn new(report: &Report, records: &'a [RequestRecord], started: MonotonicTime) -> Self {
        let plan = &report.workload.plan;
        let window_s = [report.steady_window.start_s, report.steady_window.end_s];
        let [start, end] = window_s.map(|moment_s| after(started, moment_s));
        let mut run = Self {
            records,
            is_open_loop: plan.load.is_open_loop(),
            is_streamed: plan.stream,
            window: Window {
                too_short: report.steady_window.too_short,
                start,
                end,
                first_index: plan.warmup_requests,
            },
            window_s,
            ramp_s: match plan.load {
                Load::Trace { .. } => 0.0,
                Load::Closed { .. } | Load::Open { .. } => plan.load.ramp_up().as_secs_f64(),
            },
            warmup_s: 0.0,
            started,
        };
        run.warmup_s = run.warmup_end_s();
        run
    }

    fn warmup_end_s(&self) -> f64 {
        if self.window.first_index == 0 {
            return 0.0;
        }
        let counted = self.records.iter().filter(|r| r.index >= self.window.first_index);
        let first = counted.filter_map(|record| record.sent).min();
        first.map_or_else(|| self.length_s(), |first| self.seconds(first))
    }

    /// A metric of the requests in the report's window, in ascending order.
    pub(super) fn in_window(&self, figure: impl Fn(&RequestRecord) -> Option<f64>) -> Vec<f64> {
        let counted = self
            .records
            .iter()
            .filter(|r| self.window.counts_for_latencies(r));
        let mut values: Vec<f64> = counted.filter_map(figure).collect();
        values.sort_unstable_by(f64::total_cmp);
        values
    }

    /// Seconds since the run's start.
    pub(super) fn seconds(&self, moment: MonotonicTime) -> f64 {
        moment.saturating_since(self.started).as_secs_f64()
    }

    /// From the run's start to the end of its last request.
    pub(super) fn length_s(&self) -> f64 {
        let last = self.records.iter().map(|record| record.closed).max();
        last.map_or(0.0, |last| self.seconds(last))
    }

    /// The bins that cover the run's time.
    pub(super) fn time_bins(&self) -> TimeBins {
        let most = (self.records.len() / REQUESTS_PER_TIME_BIN).clamp(FEWEST_TIME_BINS, MOST_TIME_BINS);
        TimeBins::covering(self.length_s(), most)
    }

    /// Latencies of all answered requests, including ramp and warm-up: TTFT, or the end-to-end latency where nothing was streamed.
    pub(super) fn latencies(&self) -> impl Iterator<Item = Latency> {
        let figure = if self.is_streamed {
            time_to_first_token
        } else {
            end_to_end
        };
        let answered = self.records.iter().filter(|record| record.class == Class::Ok);
        answered.filter_map(move |record| {
            let sent = record.sent?;
            Some(Latency {
                at_s: self.seconds(sent),
                from_sent_s: figure(record, sent)?.as_secs_f64(),
                from_intended_s: figure(record, record.intended)?.as_secs_f64(),
            })
        })
    }

    /// When failed requests ended, s since the run's start.
    pub(super) fn failures(&self) -> impl Iterator<Item = f64> {
        let failed = self.records.iter().filter(|record| record.class != Class::Ok);
        failed.map(|record| self.seconds(record.closed))
    }

    pub(super) fn timeline(&self) -> Timeline {
        let bins = self.time_bins();
        let [mut in_flight, mut ok, mut failed, mut tokens] = [(); 4].map(|()| RateSeries::over(bins));
        for record in self.records {
            let closed = self.seconds(record.closed);
            if let Some(sent) = record.sent.map(|sent| self.seconds(sent)) {
                in_flight.add(closed - sent, sent, closed);
            }
            let ended = if record.class == Class::Ok {
                &mut ok
            } else {
                &mut failed
            };
            ended.add(1.0, closed, closed);
            if let (Some(n), Some(first), Some(last)) =
                (output_tokens(record), record.first_content, record.last_content)
            {
                tokens.add(f64::from(n), self.seconds(first), self.seconds(last));
            }
        }
        Timeline {
            bins,
            in_flight: in_flight.per_second(),
            ok_per_s: ok.per_second(),
            failed_per_s: failed.per_second(),
            tokens_per_s: tokens.per_second(),
        }
    }

    /// The latencies of each time bin; `None` where none was sent in it.
    pub(super) fn latency_bins(&self, bins: TimeBins) -> Vec<Option<LatencyBin>> {
        let mut bins_of_latencies = vec![(Vec::new(), Vec::new()); bins.number];
        for latency in self.latencies() {
            let (sent, intended) = &mut bins_of_latencies[bins.bin(latency.at_s)];
            sent.push(latency.from_sent_s);
            intended.push(latency.from_intended_s);
        }
        bins_of_latencies
            .into_iter()
            .map(|(mut sent, mut intended)| {
                sent.sort_unstable_by(f64::total_cmp);
                intended.sort_unstable_by(f64::total_cmp);
                Some(LatencyBin {
                    n: sent.len(),
                    p50: quantile(&sent, 0.5)?,
                    p99: quantile(&sent, 0.99)?,
                    p99_from_intended: quantile(&intended, 0.99)?,
                })
            })
            .collect()
    }
}

fn after(started: MonotonicTime, seconds: f64) -> MonotonicTime {
    // The report's seconds are made of nanoseconds; rounded they are the same again.
    let nanos = Duration::try_from_secs_f64(seconds)
        .unwrap_or_default()
        .as_nanos();
    let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
    MonotonicTime::from_nanos(started.as_nanos().saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::html::fixtures::report;
    use crate::report::fixtures::{at, record, refused};

    #[test]
    fn the_window_is_the_reports() {
        let records: Vec<_> = (0..300).map(record).collect();
        let report = report(&records, |measurements, plan| {
            measurements.ramp_end = at(2_345);
            plan.warmup_requests = 7;
        });
        let run = PlottedRun::new(&report, &records, at(0));
        let plotted = run.in_window(|record| Some(time_to_first_token(record, record.sent?)?.as_secs_f64()));
        assert_eq!(plotted.len() as u64, report.ttft_s.n);
        assert!((run.warmup_s - 0.71).abs() < 1e-9);
    }

    #[test]
    fn seconds_of_a_report_are_nanoseconds_again() {
        for nanos in [1, 999_999_999, 12_345_678_901_234] {
            assert_eq!(
                after(at(0), nanos as f64 / 1e9).as_nanos(),
                at(0).as_nanos() + nanos
            );
        }
    }

    #[test]
    fn the_course_of_a_run() {
        let mut records: Vec<_> = (0..100).map(record).collect();
        records.push(refused(100, 500));
        let report = report(&records, |_, _| ());
        let run = PlottedRun::new(&report, &records, at(0));
        let timeline = run.timeline();
        let total = |per_second: &[f64]| (per_second.iter().sum::<f64>() * timeline.bins.width_s).round();
        assert_eq!(
            (total(&timeline.ok_per_s), total(&timeline.failed_per_s)),
            (100.0, 1.0)
        );
        assert_eq!(total(&timeline.tokens_per_s), 500.0);
        // A request every 100 ms, each in flight for 281 ms.
        assert!((timeline.in_flight[timeline.bins.number / 2] - 2.81).abs() < 0.2);
        let parts = run.latency_bins(timeline.bins);
        assert_eq!(parts.iter().flatten().map(|part| part.n).sum::<usize>(), 100);
        assert!(
            parts
                .iter()
                .flatten()
                .all(|part| part.p50 == 0.2 && part.p99_from_intended == 0.21)
        );
    }
}
