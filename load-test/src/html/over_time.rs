//! Plots of a run over time.

use maud::{Markup, html};

use super::{
    axis::Axis,
    figure::{figure, key},
    plot::{BOTTOM, LabelledAxis, Plot, TOP, px},
    plotted::{Latency, LatencyBin, MOST_DOTS, PlottedRun, Timeline},
};
use crate::report::format::{duration, number};

/// Height of the marks of failures, in the drawing's units.
const FAILURE_MARK: f64 = 7.0;

/// The plots of a run over time: latency, requests in flight, requests ended, tokens.
pub(super) fn plots(run: &PlottedRun<'_>) -> Markup {
    let timeline = run.timeline();
    html! {
        (latency(run, &timeline))
        (in_flight(run, &timeline))
        (ended(run, &timeline))
        (tokens(run, &timeline))
    }
}

fn time_axis(timeline: &Timeline) -> LabelledAxis {
    let axis = Axis::from_zero(timeline.bins.length_s());
    (axis, "seconds since the run's start", number)
}

fn latency(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let answered = run.latencies().count();
    let name = if run.is_streamed {
        "TTFT"
    } else {
        "End-to-end latency"
    };
    let title = format!("{name} over the run");
    let plot = Plot::new(time_axis(timeline), (latency_axis(run), name, duration));
    let (content, caption) = if answered <= MOST_DOTS {
        one_by_one(run, &plot)
    } else {
        summarised_by_bin(run, timeline, &plot)
    };
    let content = html! { (regions(run, &plot)) (content) (failure_marks(run, timeline, &plot)) };
    let label = format!("{title}: {answered} answered requests by the time they were sent.");
    let caption = html! {
        (caption) " By the time of sending."
        @if run.failures().next().is_some() { " " (key("bad", "requests that failed, by the time of their end")) }
    };
    figure(&title, &plot.draw(&label, &content), &caption)
}

fn latency_axis(run: &PlottedRun<'_>) -> Axis {
    let shown = |latency: Latency| {
        let intended = run.is_open_loop.then_some(latency.from_intended_s);
        [Some(latency.from_sent_s), intended].into_iter().flatten()
    };
    let values = || run.latencies().flat_map(shown);
    let (low, high) = (
        values().fold(f64::INFINITY, f64::min),
        values().fold(0.0, f64::max),
    );
    let axis = Axis::around(low, high);
    let axis = if axis.is_log() {
        axis
    } else {
        Axis::from_zero(high)
    };
    axis.rounded()
}

fn one_by_one(run: &PlottedRun<'_>, plot: &Plot) -> (Markup, Markup) {
    let sent = plot.dots(run.latencies().map(|latency| (latency.at_s, latency.from_sent_s)));
    let intended = run.is_open_loop.then(|| {
        plot.dots(
            run.latencies()
                .map(|latency| (latency.at_s, latency.from_intended_s)),
        )
    });
    let content = html! {
        @if let Some(intended) = &intended { path class="dots second" d=(intended) {} }
        path class="dots first" d=(sent) {}
    };
    let caption = html! {
        (key("first", "a request, from sent"))
        @if intended.is_some() { " " (key("second", "from its intended start")) }
    };
    (content, caption)
}

fn summarised_by_bin(run: &PlottedRun<'_>, timeline: &Timeline, plot: &Plot) -> (Markup, Markup) {
    let bins = timeline.bins;
    let summaries = run.latency_bins(bins);
    let line = |value: fn(&LatencyBin) -> f64| {
        let points = summaries.iter().enumerate();
        plot.line(points.map(|(n, bin)| Some((bins.middle_s(n), value(bin.as_ref()?)))))
    };
    let band = summaries.iter().enumerate().filter_map(|(n, bin)| {
        let bin = bin.as_ref()?;
        Some(([bins.start_s(n), bins.start_s(n + 1)], [bin.p50, bin.p99]))
    });
    let content = html! {
        path class="band" d=(plot.bars(band)) {}
        path class="line first" d=(line(|bin| bin.p50)) {}
        @if run.is_open_loop { path class="line second" d=(line(|bin| bin.p99_from_intended)) {} }
    };
    let fewest = summaries.iter().flatten().map(|bin| bin.n).min().unwrap_or(0);
    let caption = html! {
        (key("first", "median")) " " (key("band", "median to p99, from sent"))
        @if run.is_open_loop { " " (key("second", "p99 from the intended start")) }
        " In parts of " (duration(bins.width_s)) ", because there are more than " (MOST_DOTS) " requests."
        @if fewest < 100 { " In a part with fewer than 100 requests p99 is the largest value." }
    };
    (content, caption)
}

fn failure_marks(run: &PlottedRun<'_>, timeline: &Timeline, plot: &Plot) -> Markup {
    let mut failed = vec![false; timeline.bins.number];
    for moment in run.failures() {
        failed[timeline.bins.bin(moment)] = true;
    }
    let marks: String = (0..)
        .zip(&failed)
        .filter(|(_, failed)| **failed)
        .map(|(n, _)| {
            let x = plot.x(timeline.bins.middle_s(n));
            format!("M{} {}V{}", px(x), px(BOTTOM), px(BOTTOM - FAILURE_MARK))
        })
        .collect();
    html! { path class="line bad" d=(marks) {} }
}

fn in_flight(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let label = format!(
        "Requests in flight over the run: at most {} on the average of a part.",
        number(highest(&timeline.in_flight))
    );
    let lines = [("first", timeline.in_flight.as_slice())];
    let caption = html! { "Mean of each " (duration(timeline.bins.width_s)) "." };
    let plot = lines_over_time(run, timeline, "requests in flight", &lines, &label);
    figure("Requests in flight", &plot, &caption)
}

fn ended(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let failed = run.failures().count();
    let label = format!(
        "Requests that ended per second over the run: {} answered in full, {failed} failed.",
        run.records.len() - failed
    );
    let mut lines = vec![("first", timeline.ok_per_s.as_slice())];
    if failed > 0 {
        lines.push(("bad", &timeline.failed_per_s));
    }
    let caption = html! {
        (key("first", "answered in full"))
        @if failed > 0 { " " (key("bad", "failed")) }
        " Mean of each " (duration(timeline.bins.width_s)) "."
    };
    let plot = lines_over_time(run, timeline, "requests per second", &lines, &label);
    figure("Requests ended", &plot, &caption)
}

fn tokens(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let most = number(highest(&timeline.tokens_per_s));
    let label = format!("Output tokens per second over the run: at most {most}.");
    let lines = [("first", timeline.tokens_per_s.as_slice())];
    let caption = html! {
        "A request's tokens are spread evenly from its first to its last content. Mean of each "
        (duration(timeline.bins.width_s)) "."
    };
    let plot = lines_over_time(run, timeline, "output tokens per second", &lines, &label);
    figure("Output tokens", &plot, &caption)
}

/// A plot of lines, each with its style's class and a value for each time bin.
fn lines_over_time(
    run: &PlottedRun<'_>,
    timeline: &Timeline,
    axis_title: &'static str,
    lines: &[(&str, &[f64])],
    label: &str,
) -> Markup {
    let most = lines
        .iter()
        .map(|(_, values)| highest(values))
        .fold(0.0, f64::max);
    let vertical = Axis::from_zero(most).rounded();
    let plot = Plot::new(time_axis(timeline), (vertical, axis_title, number));
    let content = html! {
        (regions(run, &plot))
        @for (class, values) in lines {
            path class=(format!("line {class}")) d=(course(timeline, &plot, values)) {}
        }
    };
    plot.draw(label, &content)
}

fn highest(values: &[f64]) -> f64 {
    values.iter().copied().fold(0.0, f64::max)
}

fn course(timeline: &Timeline, plot: &Plot, rates: &[f64]) -> String {
    let points = rates.iter().enumerate();
    plot.line(points.map(|(n, rate)| Some((timeline.bins.middle_s(n), *rate))))
}

/// The key of the shades behind the plots.
pub(super) fn shades(run: &PlottedRun<'_>) -> Markup {
    let before = match (run.ramp_s > 0.0, run.warmup_s > 0.0) {
        (true, true) => Some("ramp and warm-up"),
        (true, false) => Some("ramp"),
        (false, true) => Some("warm-up"),
        (false, false) => None,
    };
    let window = match run.window.too_short {
        None => "the steady window",
        Some(_) => "the window: the whole run",
    };
    html! { p { @if let Some(before) = before { (key("before", before)) " " } (key("window", window)) } }
}

fn regions(run: &PlottedRun<'_>, plot: &Plot) -> Markup {
    html! {
        g class="regions" {
            (region(plot, "window", run.window_s))
            (region(plot, "before", [0.0, run.ramp_s.max(run.warmup_s)]))
        }
    }
}

fn region(plot: &Plot, class: &str, [from_s, to_s]: [f64; 2]) -> Markup {
    let (from, to) = (plot.x(from_s), plot.x(to_s));
    html! {
        @if to > from {
            rect class=(class) x=(px(from)) y=(px(TOP)) width=(px(to - from)) height=(px(BOTTOM - TOP)) {}
        }
    }
}
