//! `report.html`: a run as one page that needs no network, no script and no other file.
//!
//! Plots are SVG of a bounded size: values are put into bins, and requests are plotted one by one only where there are few. The
//! templates escape every text, such as a model's name or a server's error.

mod axis;
mod bins;
mod distributions;
mod figure;
#[cfg(test)]
mod fixtures;
mod headline;
mod over_time;
mod parameters;
mod plot;
mod plotted;
mod tables;
#[cfg(test)]
mod tests;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use precise_time::MonotonicTime;

use crate::{
    record::RequestRecord,
    report::{Report, format::duration, text::too_short},
};

use plotted::PlottedRun;

/// The report as a page. `records` are the run's, in any order; `started` is the moment that the report's times are
/// relative to ([`RecordedRun::started`](crate::journal::RecordedRun)).
///
/// Takes a few passes over the records and makes at most some hundred kilobytes, however many there are. Figures are the
/// report's.
#[must_use]
pub fn render(report: &Report, records: &[RequestRecord], started: MonotonicTime) -> String {
    let run = PlottedRun::new(report, records, started);
    page(report, &run).into_string()
}

fn page(report: &Report, run: &PlottedRun<'_>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "Load test of " (tables::text(&report.model)) }
                style { (PreEscaped(include_str!("style.css"))) }
            }
            body {
                (headline::header(report))
                main {
                    (headline::verdict(report))
                    (headline::cards(report))
                    @if !report.problems.is_empty() { (section("Problems", &tables::problems(report))) }
                    (section("Figures", &html! { (window(report)) (tables::figures(report)) }))
                    (section("Over time", &html! { (over_time::shades(run)) (plots(&over_time::plots(run))) }))
                    (section("Distributions", &plots(&distributions::histograms(report, run))))
                    @if run.is_open_loop {
                        (section("From sent, from intended", &plots(&distributions::sent_against_intended(run))))
                    }
                    (section("How requests ended", &html! { (tables::classes(report)) (tables::errors(report)) }))
                    (section("Tokens", &tables::tokens(report)))
                    (section("The client's own error", &tables::client(report)))
                    (section("Parameters", &parameters::table(report)))
                }
            }
        }
    }
}

fn section(heading: &str, content: &Markup) -> Markup {
    html! { section { h2 { (heading) } (content) } }
}

fn plots(figures: &Markup) -> Markup {
    html! { div class="plots" { (figures) } }
}

/// Describes the window of the figures.
fn window(report: &Report) -> Markup {
    let window = &report.steady_window;
    let [start, end] = [window.start_s, window.end_s].map(duration);
    html! {
        p {
            @match window.too_short {
                None => { "The steady window, from " (start) " to " (end) " after the run's start: latencies of the requests sent in it, rates of those answered in it." }
                Some(reason) => { "The whole run, from " (start) " to " (end) " after its start: " (too_short(reason)) "." }
            }
            @if report.warmup_requests > 0 { " " (report.warmup_requests) " requests of the warm-up are in no figure." }
        }
    }
}
