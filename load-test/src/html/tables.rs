//! The page's tables.

use std::borrow::Cow;

use maud::{Markup, html};

use crate::report::{
    Report,
    distribution::{Distribution, FEWEST_FOR_P99, FEWEST_FOR_P999},
    format::{duration, number},
    metrics::REPORT_METRICS,
    text::{class_name, counted_by},
};

/// At most this many errors, problems and reasons are shown; `report.json` has all.
pub(super) const MOST_ROWS: usize = 100;
/// Longer texts are truncated.
const MOST_CHARACTERS: usize = 1_000;

/// A text from outside, truncated, with characters replaced that are not allowed in a page or change the direction of writing.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.len() <= MOST_CHARACTERS && !text.contains(is_unprintable) {
        return Cow::Borrowed(text);
    }
    let printable = |c| {
        if is_unprintable(c) {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut kept: String = text.chars().take(MOST_CHARACTERS).map(printable).collect();
    if text.chars().nth(MOST_CHARACTERS).is_some() {
        kept.push('…');
    }
    Cow::Owned(kept)
}

/// Control characters, marks that change the direction of writing, and characters that XML does not allow.
fn is_unprintable(c: char) -> bool {
    match c {
        '\t' | '\n' | '\r' => false,
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}' => true,
        _ => c.is_control(),
    }
}

/// A table of names and values.
pub(super) fn pairs(caption: &str, rows: &[(impl AsRef<str>, String)]) -> Markup {
    html! {
        div class="scroll" {
            table class="pairs" {
                caption { (caption) }
                tbody {
                    @for (name, value) in rows { tr { th scope="row" { (text(name.as_ref())) } td { (text(value)) } } }
                }
            }
        }
    }
}

pub(super) fn figures(report: &Report) -> Markup {
    html! {
        div class="scroll" {
            table {
                caption { "p99 is shown from " (FEWEST_FOR_P99) ", p99.9 from " (FEWEST_FOR_P999) " values on." }
                thead {
                    tr { @for name in ["", "n", "mean", "sd", "min", "p50", "p90", "p95", "p99", "p99.9", "max"] { th scope="col" { (name) } } }
                }
                tbody {
                    @for metric in &REPORT_METRICS { (row(metric.name, (metric.of)(report), metric.show)) }
                }
            }
        }
    }
}

fn row(name: &str, figures: &Distribution, show: fn(f64) -> String) -> Markup {
    let values = [
        figures.mean,
        figures.stddev,
        figures.min,
        figures.p50,
        figures.p90,
        figures.p95,
        figures.p99,
        figures.p999,
        figures.max,
    ];
    html! {
        tr {
            th scope="row" { (name) }
            td { (figures.n) }
            @for value in values { td { (value.map_or_else(|| "–".to_owned(), show)) } }
        }
    }
}

pub(super) fn classes(report: &Report) -> Markup {
    let totals = &report.requests;
    let share = |count: u64| {
        if totals.scheduled == 0 {
            return "–".to_owned();
        }
        format!("{} %", number(count as f64 / totals.scheduled as f64 * 100.0))
    };
    let balance = if totals.balance() {
        "Every scheduled request ended in exactly one class."
    } else {
        "The totals do not balance."
    };
    html! {
        div class="scroll" {
            table {
                caption { (balance) }
                thead { tr { th scope="col" { "class" } th scope="col" { "requests" } th scope="col" { "share" } } }
                tbody {
                    @for (class, count) in totals.by_class() {
                        tr { th scope="row" { (class_name(class)) } td { (count) } td { (share(count)) } }
                    }
                    tr class="sum" { th scope="row" { "scheduled" } td { (totals.scheduled) } td { (share(totals.scheduled)) } }
                }
            }
        }
        @if report.backoff.waits > 0 {
            p { (report.backoff.waits) " rests of streams after failures, " (duration(report.backoff.total_s)) " in all." }
        }
    }
}

pub(super) fn errors(report: &Report) -> Markup {
    let more = report.errors.len().saturating_sub(MOST_ROWS);
    html! {
        @if !report.errors.is_empty() {
            div class="scroll" {
                table class="texts" {
                    caption { "What went wrong, the most frequent first." }
                    thead { tr { @for name in ["class", "status", "requests", "an example"] { th scope="col" { (name) } } } }
                    tbody {
                        @for error in report.errors.iter().take(MOST_ROWS) {
                            tr {
                                th scope="row" { (class_name(error.class)) }
                                td { (error.status.map_or_else(|| "–".to_owned(), |status| status.to_string())) }
                                td { (error.count) }
                                td { (text(error.sample.as_deref().unwrap_or("–"))) }
                            }
                        }
                    }
                }
            }
            @if more > 0 { p { "And " (more) " more: see report.json." } }
        }
    }
}

pub(super) fn problems(report: &Report) -> Markup {
    let more = report.problems.len().saturating_sub(MOST_ROWS);
    html! {
        ul class="problems" { @for problem in report.problems.iter().take(MOST_ROWS) { li { (text(problem)) } } }
        @if more > 0 { p { "And " (more) " more: see report.json." } }
    }
}

pub(super) fn tokens(report: &Report) -> Markup {
    let account = &report.token_accounting;
    let difference = &account.difference;
    let mut rows = vec![
        ("counted by", counted_by(account)),
        ("requests that the server counted", account.server.to_string()),
        (
            "requests that only the client counted",
            account.client.to_string(),
        ),
        ("requests that nobody counted", account.uncounted.to_string()),
        ("requests that both counted", difference.n.to_string()),
    ];
    if let (Some(mean), Some(max), Some(relative)) = (difference.mean, difference.max, difference.relative) {
        rows.push((
            "server − client",
            format!(
                "mean {mean:+.2} tokens, at most {max}; {:+.2} % of all",
                relative * 100.0
            ),
        ));
    }
    pairs("Output tokens of answered requests.", &rows)
}

pub(super) fn client(report: &Report) -> Markup {
    let error = &report.client_error;
    let seconds = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), duration);
    let cpu = report.client.busiest_thread_cpu_share;
    let run = [
        (
            "bound on what the client added to TTFT p99",
            seconds(error.ttft_p99_s),
        ),
        ("lateness of its loops, p99", seconds(error.loop_lag_p99_s)),
        (
            "uncertainty of first contents' stamps, p99",
            seconds(error.stamp_uncertainty_p99_s),
        ),
        ("late sends, p99 (open loop)", seconds(error.late_send_p99_s)),
        (
            "busiest worker thread",
            cpu.map_or_else(
                || "–".to_owned(),
                |share| format!("{} % of a core", number(share * 100.0)),
            ),
        ),
        ("worker threads", report.client.cores.to_string()),
    ];
    html! {
        (pairs("During the run.", &run))
        @match &report.calibration {
            None => p { "The client was not calibrated before this run: see " code { "--calibrate" } "." },
            Some(calibration) => {
                @let mut rows = vec![
                    ("requests", calibration.requests.to_string()),
                    ("TTFT error, p50", duration(calibration.ttft_error.p50_s)),
                    ("TTFT error, p99", duration(calibration.ttft_error.p99_s)),
                    ("TTFT error, max", duration(calibration.ttft_error.max_s)),
                    ("lateness of the server (not the client's error), p99", seconds(calibration.server_lateness_p99_s)),
                    ("lateness of the client's loops, p99", seconds(calibration.loop_lag_p99_s)),
                    ("uncertainty of first contents' stamps, p99", seconds(calibration.stamp_uncertainty_p99_s)),
                    ("late sends, p99", seconds(calibration.late_send_p99_s)),
                    ("tokens/s possible", number(calibration.tokens_per_s_possible)),
                    ("tokens/s achieved", number(calibration.tokens_per_s_achieved)),
                ];
                @let held = calibration.streams.map(|streams| {
                    ("streams held", format!("{} of {}", number(streams.in_flight + streams.waiting), streams.asked))
                });
                @let () = rows.extend(held);
                (pairs("Calibration: the same load against a server with known timings.", &rows))
            }
        }
    }
}
