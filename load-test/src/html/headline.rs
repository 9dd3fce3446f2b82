//! The top of the page: the run, the verdict, and the most important figures.

use std::slice;

use maud::{Markup, html};

use super::tables::{MOST_ROWS, text};
use crate::report::{
    Report,
    distribution::{Distribution, FEWEST_FOR_P99},
    format::{duration, number},
    text::{measured, objectives},
};

pub(super) fn header(report: &Report) -> Markup {
    let shares = report.client.shares;
    html! {
        header {
            h1 { "Load test of " (text(&report.model)) }
            p {
                time datetime=(report.started_at.to_rfc3339()) { (report.started_at.format("%Y-%m-%d %H:%M:%S UTC")) }
                " · run " (text(&report.run_id)) " · llm-bench " (text(&report.client.version)) " on " (text(&report.client.host))
                @if shares > 1 { " · " (shares) " shares" }
            }
        }
    }
}

/// The verdict and its reasons.
pub(super) fn verdict(report: &Report) -> Markup {
    let (class, word) = if report.is_valid() {
        ("verdict valid", "VALID")
    } else {
        ("verdict invalid", "INVALID")
    };
    html! {
        section class=(class) aria-label="Verdict" {
            p { strong { (word) } " " (measured(report)) }
            @if !report.client_error.reasons.is_empty() {
                ul { @for reason in report.client_error.reasons.iter().take(MOST_ROWS) { li { (text(reason)) } } }
            }
            @if report.interrupted { p { "The run was cancelled before its end." } }
        }
    }
}

pub(super) fn cards(report: &Report) -> Markup {
    let window = format!("over {}", duration(report.steady_window_s));
    html! {
        div class="cards" {
            (latency("TTFT", "time to first token", &report.ttft_s))
            (latency("TPOT", "time per output token", &report.tpot_s))
            (latency("E2E", "end-to-end latency", &report.e2e_latency_s))
            (card("Output tokens/s", &rate(report.output_tokens_per_s), slice::from_ref(&window)))
            (card("Requests/s", &rate(report.requests_per_s), slice::from_ref(&window)))
            (goodput(report))
        }
    }
}

fn rate(rate: Option<f64>) -> String {
    rate.map_or_else(|| "–".to_owned(), number)
}

fn latency(name: &str, meaning: &str, figures: &Distribution) -> Markup {
    let value = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), duration);
    let interval = |interval: Option<(f64, f64)>| {
        interval.map_or_else(String::new, |(low, high)| {
            format!(" (95 % CI {} to {})", duration(low), duration(high))
        })
    };
    let p99 = match figures.p99 {
        Some(_) => format!("p99 {}{}", value(figures.p99), interval(figures.ci95_p99)),
        None => format!("p99 needs {FEWEST_FOR_P99} requests, there are {}", figures.n),
    };
    let p50 = format!("p50{}", interval(figures.ci95_p50));
    card(name, &value(figures.p50), &[p50, p99, meaning.to_owned()])
}

fn goodput(report: &Report) -> Markup {
    let Some(goodput) = report.goodput else {
        return card("Goodput", "–", &["no objective was set".to_owned()]);
    };
    let share = goodput.share.map(|share| format!("{} %", number(share * 100.0)));
    let of = format!("{} of {} met", goodput.good, report.requests.scheduled);
    card(
        "Goodput",
        &share.unwrap_or_else(|| "–".to_owned()),
        &[of, objectives(&goodput.slo)],
    )
}

fn card(name: &str, value: &str, below: &[String]) -> Markup {
    html! {
        section class="card" {
            h2 { (name) }
            p class="value" { (value) }
            @for line in below { p { (line) } }
        }
    }
}
