//! Plots of a run's course.

use maud::{Markup, html};

use super::{
    axis::Axis,
    figure::{figure, key},
    plot::{BOTTOM, LabelledAxis, Plot, TOP, px},
    plotted::{Latency, LatencyBin, MOST_DOTS, PlottedRun, Timeline},
};
use crate::report::text::{duration, number};

/// How high the marks of failures are, in the drawing's units.
const FAILURE_MARK: f64 = 7.0;

/// The plots of a run's course: latency, requests in flight, requests ended, tokens.
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
        part_by_part(run, timeline, &plot)
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

fn part_by_part(run: &PlottedRun<'_>, timeline: &Timeline, plot: &Plot) -> (Markup, Markup) {
    let bins = timeline.bins;
    let parts = run.latency_bins(bins);
    let line = |value: fn(&LatencyBin) -> f64| {
        let points = parts.iter().enumerate();
        plot.line(points.map(|(n, part)| Some((bins.middle_s(n), value(part.as_ref()?)))))
    };
    let band = parts.iter().enumerate().filter_map(|(n, part)| {
        let part = part.as_ref()?;
        Some(([bins.start_s(n), bins.start_s(n + 1)], [part.p50, part.p99]))
    });
    let content = html! {
        path class="band" d=(plot.bars(band)) {}
        path class="line first" d=(line(|part| part.p50)) {}
        @if run.is_open_loop { path class="line second" d=(line(|part| part.p99_from_intended)) {} }
    };
    let fewest = parts.iter().flatten().map(|part| part.n).min().unwrap_or(0);
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
    let plot = rate_plot(timeline, &[&timeline.in_flight], "requests in flight");
    let content = html! {
        (regions(run, &plot))
        path class="line first" d=(course(timeline, &plot, &timeline.in_flight)) {}
    };
    let most = timeline.in_flight.iter().copied().fold(0.0, f64::max);
    let label = format!(
        "Requests in flight over the run: at most {} on the average of a part.",
        number(most)
    );
    let caption = html! { "Mean of each " (duration(timeline.bins.width_s)) "." };
    figure("Requests in flight", &plot.draw(&label, &content), &caption)
}

fn ended(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let plot = rate_plot(
        timeline,
        &[&timeline.ok_per_s, &timeline.failed_per_s],
        "requests per second",
    );
    let failed = run.failures().count();
    let content = html! {
        (regions(run, &plot))
        path class="line first" d=(course(timeline, &plot, &timeline.ok_per_s)) {}
        @if failed > 0 { path class="line bad" d=(course(timeline, &plot, &timeline.failed_per_s)) {} }
    };
    let label = format!(
        "Requests that ended per second over the run: {} answered in full, {failed} failed.",
        run.records.len() - failed
    );
    let caption = html! {
        (key("first", "answered in full"))
        @if failed > 0 { " " (key("bad", "failed")) }
        " Mean of each " (duration(timeline.bins.width_s)) "."
    };
    figure("Requests ended", &plot.draw(&label, &content), &caption)
}

fn tokens(run: &PlottedRun<'_>, timeline: &Timeline) -> Markup {
    let plot = rate_plot(timeline, &[&timeline.tokens_per_s], "output tokens per second");
    let content = html! {
        (regions(run, &plot))
        path class="line first" d=(course(timeline, &plot, &timeline.tokens_per_s)) {}
    };
    let most = timeline.tokens_per_s.iter().copied().fold(0.0, f64::max);
    let label = format!("Output tokens per second over the run: at most {}.", number(most));
    let caption = html! {
        "A request's tokens are spread evenly from its first to its last content. Mean of each "
        (duration(timeline.bins.width_s)) "."
    };
    figure("Output tokens", &plot.draw(&label, &content), &caption)
}

fn rate_plot(timeline: &Timeline, rates: &[&[f64]], title: &'static str) -> Plot {
    let most = rates.iter().copied().flatten().copied().fold(0.0, f64::max);
    Plot::new(
        time_axis(timeline),
        (Axis::from_zero(most).rounded(), title, number),
    )
}

fn course(timeline: &Timeline, plot: &Plot, rates: &[f64]) -> String {
    let points = rates.iter().enumerate();
    plot.line(points.map(|(n, rate)| Some((timeline.bins.middle_s(n), *rate))))
}

/// What the shades behind the plots mean.
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
