//! Plots of distributions.

use maud::{Markup, html};

use super::{
    axis::Axis,
    bins::{Histogram, quantile},
    figure::{figure, key},
    plot::{BOTTOM, Plot, TOP, label_rows, px},
    plotted::PlottedRun,
};
use crate::{
    record::RequestRecord,
    report::{
        Report,
        distribution::Distribution,
        format::{duration, number},
        request_metrics::{end_to_end, time_per_output_token, time_to_first_token, tokens_per_second},
    },
};

const BINS: usize = 60;
/// Points of a cumulative distribution.
const POINTS: usize = 240;
const MARK_NAME_WIDTH: f64 = 40.0;
const ROW: f64 = 11.0;

type Figure = fn(&RequestRecord) -> Option<f64>;

/// Histograms of the metrics with one value for each request.
pub(super) fn histograms(report: &Report, run: &PlottedRun<'_>) -> Markup {
    let seconds: [(&'static str, &Distribution, Figure); 3] = [
        ("TTFT", &report.ttft_s, ttft),
        ("TPOT", &report.tpot_s, time_per_output_token),
        ("End-to-end latency", &report.e2e_latency_s, e2e),
    ];
    html! {
        @for (name, figures, figure) in seconds {
            (histogram(name, figures, &run.in_window(figure), duration))
        }
        (histogram("Tokens/s of each request", &report.tps, &run.in_window(tokens_per_second), number))
    }
}

/// Cumulative distributions from sent and from the intended start; empty for a closed loop, where both are equal.
pub(super) fn sent_against_intended(run: &PlottedRun<'_>) -> Markup {
    if !run.is_open_loop {
        return html! {};
    }
    let intended_ttft: Figure = |record| Some(time_to_first_token(record, record.intended)?.as_secs_f64());
    let intended_e2e: Figure = |record| Some(end_to_end(record, record.intended)?.as_secs_f64());
    html! {
        @if run.is_streamed { (cumulative("TTFT", &run.in_window(ttft), &run.in_window(intended_ttft))) }
        (cumulative("End-to-end latency", &run.in_window(e2e), &run.in_window(intended_e2e)))
    }
}

fn ttft(record: &RequestRecord) -> Option<f64> {
    Some(time_to_first_token(record, record.sent?)?.as_secs_f64())
}

fn e2e(record: &RequestRecord) -> Option<f64> {
    Some(end_to_end(record, record.sent?)?.as_secs_f64())
}

fn histogram(name: &'static str, figures: &Distribution, sorted: &[f64], text: fn(f64) -> String) -> Markup {
    // A metric that the report leaves out (TTFT without a stream) is not plotted either.
    let sorted = if figures.n == 0 { &[] } else { sorted };
    let Some(histogram) = Histogram::of(sorted, BINS) else {
        return figure(name, &html! { p class="nothing" { "No value." } }, &html! {});
    };
    let most = histogram.counts.iter().copied().max().unwrap_or(0);
    let plot = Plot::new(
        (histogram.axis, name, text),
        (Axis::from_zero(most as f64).rounded(), "requests", number),
    )
    .with_labels_above();
    let bars = histogram.bars().filter(|(_, count)| *count > 0);
    let bars = plot.bars(bars.map(|(ends, count)| (ends, [0.0, count as f64])));
    let content = html! {
        path class="bars" d=(bars) {}
        (percentile_marks(&plot, &histogram.axis, figures))
    };
    let said = percentiles(figures)
        .iter()
        .map(|(name, value)| format!("{name} {}", text(*value)))
        .collect::<Vec<_>>()
        .join(" · ");
    let label = format!("{name}, histogram of {} requests: {said}.", sorted.len());
    let caption = html! {
        (said) "."
        @if histogram.axis.is_log() { " Logarithmic axis." }
        @if histogram.outside > 0 { " The outermost bars hold " (histogram.outside) " values from beyond the axis." }
        @if sorted.len() as u64 != figures.n { " " (sorted.len()) " of " (figures.n) " requests are plotted." }
    };
    figure(name, &plot.draw(&label, &content), &caption)
}

/// The percentiles that the report has.
fn percentiles(figures: &Distribution) -> Vec<(&'static str, f64)> {
    [
        ("p50", figures.p50),
        ("p90", figures.p90),
        ("p95", figures.p95),
        ("p99", figures.p99),
        ("p99.9", figures.p999),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn percentile_marks(plot: &Plot, axis: &Axis, figures: &Distribution) -> Markup {
    let mut marks = percentiles(figures);
    marks.retain(|(_, value)| axis.share(*value) <= 1.0);
    let places: Vec<f64> = marks.iter().map(|(_, value)| plot.x(*value)).collect();
    let rows = label_rows(&places, MARK_NAME_WIDTH);
    html! {
        g class="marks" {
            @for (((name, _), x), row) in marks.iter().zip(&places).zip(rows) {
                @let y = TOP - 3.0 - ROW * f64::from(row);
                path d=(format!("M{} {}V{}", px(*x), px(BOTTOM), px(y))) {}
                text x=(px(x + 3.0)) y=(px(y + 1.0)) { (name) }
            }
        }
    }
}

fn cumulative(name: &'static str, sent: &[f64], intended: &[f64]) -> Markup {
    let title = format!("{name}: from sent and from the intended start");
    let ends = [sent.first(), intended.first(), sent.last(), intended.last()];
    let low = ends.into_iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let high = ends.into_iter().flatten().copied().fold(0.0, f64::max);
    if sent.is_empty() {
        return figure(&title, &html! { p class="nothing" { "No value." } }, &html! {});
    }
    let axis = Axis::around(low, high).rounded();
    let percent: fn(f64) -> String = |share| format!("{} %", number(share * 100.0));
    let plot = Plot::new(
        (axis, name, duration),
        (
            Axis::from_zero(1.0),
            "share of requests that took no longer",
            percent,
        ),
    );
    let content = html! {
        path class="line second" d=(plot.line(steps(intended).map(Some))) {}
        path class="line first" d=(plot.line(steps(sent).map(Some))) {}
    };
    let at = |share| {
        let [sent, intended] =
            [sent, intended].map(|sorted| quantile(sorted, share).map_or_else(String::new, duration));
        format!("{sent} from sent, {intended} from the intended start")
    };
    let label = format!("{title}, cumulative. Median: {}.", at(0.5));
    let caption = html! {
        (key("first", "from sent: service time")) " " (key("second", "from the intended start: what a user waits for"))
        " Median " (at(0.5)) "."
        @if axis.is_log() { " Logarithmic axis." }
    };
    figure(&title, &plot.draw(&label, &content), &caption)
}

/// Points of the cumulative distribution, from the smallest to the largest value; their number is bounded.
fn steps(sorted: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    let points = sorted.len().min(POINTS);
    (1..=points).filter_map(move |n| {
        let share = n as f64 / points as f64;
        Some((quantile(sorted, share)?, share))
    })
}
