//! The texts of the progress display: pure functions of the progress.

use std::time::Duration;

use super::Target;
use crate::{
    histograms::seconds_at,
    record::Class,
    report::{
        distribution::FEWEST_FOR_P99,
        format::{duration, number},
        text::class_name,
    },
    run::ProgressSnapshot,
};

/// The progress of a run at one moment.
pub(super) struct ProgressState {
    pub(super) snapshot: ProgressSnapshot,
    /// Since the display was started.
    pub(super) elapsed: Duration,
    pub(super) target: Target,
    /// Requests that ended recently, per second.
    pub(super) requests_per_s: f64,
    /// Chunks with content that were received recently, per second. Tokens are counted after the run.
    pub(super) chunks_per_s: f64,
}

/// The whole progress in one line.
pub(super) fn line(state: &ProgressState) -> String {
    format!("{}: {}", remaining(state), figures(state))
}

/// The progress towards the run's end, such as `120/1000 requests, 12 s of at most 90 s, about 40 s left`.
pub(super) fn remaining(state: &ProgressState) -> String {
    let ended = state.snapshot.classes.total();
    let elapsed = clock(state.elapsed);
    let Target { requests, send_for } = state.target;
    let done = match requests {
        Some(requests) => format!(
            "{ended}/{requests} requests, {elapsed} of at most {}",
            clock(send_for)
        ),
        None => format!("{ended} requests, {elapsed} of {}", clock(send_for)),
    };
    match time_left(state) {
        Some(left) if left.is_zero() => format!("{done}, waiting for the last"),
        Some(left) => format!("{done}, about {} left", clock(left)),
        None => done,
    }
}

/// The time until the last request is sent, by the time limit or by the number of requests at the present rate. `None` where all
/// requests have ended.
fn time_left(state: &ProgressState) -> Option<Duration> {
    let by_time = state.target.send_for.saturating_sub(state.elapsed);
    let Some(requests) = state.target.requests else {
        return Some(by_time);
    };
    let left = requests.saturating_sub(state.snapshot.classes.total());
    if left == 0 {
        return None;
    }
    let by_requests = Duration::try_from_secs_f64(left as f64 / state.requests_per_s);
    Some(by_requests.map_or(by_time, |left| left.min(by_time)))
}

/// The present figures, such as `10 in flight, 2 timed out, 28.1 requests/s, 4200 chunks/s, TTFT p50 201 ms p99 240 ms`.
pub(super) fn figures(state: &ProgressState) -> String {
    let mut figures = vec![format!("{} in flight", state.snapshot.in_flight)];
    // Early in the line, because a narrow terminal cuts its end.
    figures.extend(failures(&state.snapshot));
    figures.push(format!("{} requests/s", number(state.requests_per_s)));
    figures.push(format!("{} chunks/s", number(state.chunks_per_s)));
    figures.extend(ttft(state));
    figures.join(", ")
}

/// The median, and the highest percentile that the number of values supports; `None` without values.
fn ttft(state: &ProgressState) -> Option<String> {
    let ttft = &state.snapshot.ttft;
    let (name, share) = if ttft.len() >= FEWEST_FOR_P99 {
        ("p99", 0.99)
    } else {
        ("p95", 0.95)
    };
    (!ttft.is_empty()).then(|| {
        format!(
            "TTFT p50 {} {name} {}",
            duration(seconds_at(ttft, 0.5)),
            duration(seconds_at(ttft, share))
        )
    })
}

fn failures(snapshot: &ProgressSnapshot) -> impl Iterator<Item = String> {
    let failed = Class::ALL.into_iter().filter(|class| *class != Class::Ok);
    failed
        .map(|class| (snapshot.classes.of(class), class_name(class)))
        .filter(|(count, _)| *count > 0)
        .map(|(count, name)| format!("{count} {name}"))
}

/// A time in whole seconds, such as `42 s`, `3 min 05 s` or `2 h 00 min`.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Progress;

    fn state(requests: Option<u64>, elapsed_s: u64) -> ProgressState {
        ProgressState {
            snapshot: Progress::new(1).snapshot(),
            elapsed: Duration::from_secs(elapsed_s),
            target: Target {
                requests,
                send_for: Duration::from_secs(90),
            },
            requests_per_s: 0.0,
            chunks_per_s: 0.0,
        }
    }

    #[test]
    fn everything_in_one_line() {
        let mut state = state(Some(1_000), 12);
        state.requests_per_s = 28.07;
        state.chunks_per_s = 4_200.4;
        let snapshot = &mut state.snapshot;
        snapshot.in_flight = 10;
        snapshot.ttft.record_n(200_000_000, 338).unwrap();
        for (class, n) in [(Class::Ok, 338), (Class::HttpError, 2), (Class::TimedOut, 1)] {
            snapshot.classes.count(class, n);
        }
        assert_eq!(
            line(&state),
            "341/1000 requests, 12 s of at most 1 min 30 s, about 23 s left: 10 in flight, 2 HTTP error, \
             1 timed out, 28.1 requests/s, 4200 chunks/s, TTFT p50 200 ms p95 200 ms"
        );
    }

    #[test]
    fn a_99th_percentile_needs_its_values() {
        let mut state = state(None, 1);
        state.snapshot.ttft.record_n(200_000_000, 989).unwrap();
        state.snapshot.ttft.record_n(900_000_000, 10).unwrap();
        assert!(figures(&state).contains("TTFT p50 200 ms p95 200 ms"));
        state.snapshot.ttft.record(900_000_000).unwrap();
        assert!(figures(&state).contains("TTFT p50 200 ms p99 900 ms"));
    }

    #[test]
    fn what_is_left_is_the_shorter_of_time_and_requests() {
        let left = |requests, elapsed, rate| {
            let mut state = state(requests, elapsed);
            state.requests_per_s = rate;
            time_left(&state)
        };
        assert_eq!(left(None, 30, 5.0), Some(Duration::from_secs(60)));
        assert_eq!(left(Some(100), 30, 5.0), Some(Duration::from_secs(20)));
        assert_eq!(left(Some(1_000), 30, 5.0), Some(Duration::from_secs(60)));
        assert_eq!(left(Some(1_000), 30, 0.0), Some(Duration::from_secs(60)));
        assert_eq!(left(Some(0), 30, 0.0), None);
        assert!(remaining(&state(None, 91)).ends_with("waiting for the last"));
    }

    #[test]
    fn times_are_whole_seconds() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (185, "3 min 05 s"),
            (7_205, "2 h 00 min"),
        ] {
            assert_eq!(clock(Duration::from_secs(seconds)), text);
        }
    }
}
