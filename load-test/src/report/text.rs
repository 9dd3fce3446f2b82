//! The summary of a run for the terminal.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};

use super::{
    distribution::Distribution,
    format::{duration, number},
    metrics::REPORT_METRICS,
    model::{ErrorSummary, Report, ShareSection, TokenAccounting},
    tokens::CountedBy,
    window::TooShort,
};
use crate::{calibration::Calibration, plan::Slo, record::Class, verdict::Verdict};

/// The summary of a run: figures, totals, failures, and the verdict as its last line.
#[must_use]
pub fn summary(report: &Report) -> String {
    let mut lines = vec![figures(report).to_string()];
    lines.push(rates(report));
    lines.push(requests(report));
    lines.extend(goodput(report));
    lines.extend(report.errors.iter().map(error));
    if report.backoff.waits > 0 {
        lines.push(format!(
            "waits     {} after failures, {} in all",
            report.backoff.waits,
            duration(report.backoff.total_s)
        ));
    }
    lines.push(tokens(&report.token_accounting));
    lines.extend(report.shares.iter().map(share));
    lines.extend(
        report
            .problems
            .iter()
            .map(|problem| format!("problem   {problem}")),
    );
    if report.interrupted {
        lines.push("The run was cancelled before its end.".to_owned());
    }
    lines.push(verdict(report));
    lines.join("\n")
}

/// The calibration as text.
#[must_use]
pub fn calibration(calibration: &Calibration) -> String {
    let error = &calibration.ttft_error;
    let mut lines = vec![format!(
        "client error of the TTFT: p50 {}, p99 {}, max {}, over {} requests against a server with known timings",
        duration(error.p50_s),
        duration(error.p99_s),
        duration(error.max_s),
        calibration.requests
    )];
    let figures = [
        ("loop lag p99", calibration.loop_lag_p99_s),
        (
            "uncertainty of first contents' stamps p99",
            calibration.stamp_uncertainty_p99_s,
        ),
        ("late sends p99", calibration.late_send_p99_s),
        (
            "the server itself was late by p99",
            calibration.server_lateness_p99_s,
        ),
    ];
    let known = figures
        .iter()
        .filter_map(|(name, figure)| Some((name, (*figure)?)));
    lines.extend(known.map(|(name, figure)| format!("{name}: {}", duration(figure))));
    if let Some(streams) = &calibration.streams {
        lines.push(format!(
            "streams: {} asked, {:.1} in flight on average",
            streams.asked, streams.in_flight
        ));
    }
    lines.join("\n")
}

/// Such as `TTFT p99 412 ms ± 0.6 ms (client error), VALID` or `..., INVALID: reason`.
#[must_use]
pub fn verdict(report: &Report) -> String {
    if report.requests.ok == 0 {
        return "No request was answered: nothing was measured".to_owned();
    }
    let verdict = if report.is_valid() {
        "VALID".to_owned()
    } else {
        format!("INVALID: {}", report.client_error.reasons.join(" "))
    };
    format!("{}, {verdict}", measured(report))
}

/// The verdict's figure with the client's error, such as `TTFT p99 412 ms ± 0.6 ms (client error)`.
pub(crate) fn measured(report: &Report) -> String {
    let (name, figures) = if report.ttft_s.n > 0 {
        ("TTFT", &report.ttft_s)
    } else {
        ("e2e latency", &report.e2e_latency_s)
    };
    let measured = match highest_percentile(figures) {
        Some((percentile, value)) => format!("{name} {percentile} {}", duration(value)),
        None => "Nothing was measured".to_owned(),
    };
    let error = match report.client_error.ttft_p99_s {
        Some(error) => format!("± {} (client error)", duration(error)),
        None => "(client error unknown)".to_owned(),
    };
    format!("{measured} {error}")
}

fn highest_percentile(figures: &Distribution) -> Option<(&'static str, f64)> {
    let shown = figures.p99.map(|p99| ("p99", p99));
    shown.or_else(|| figures.p95.map(|p95| ("p95", p95)))
}

fn figures(report: &Report) -> Table {
    let mut table = Table::new();
    table
        .load_style(UTF8_BORDERS_ONLY)
        .set_header(["", "n", "mean", "p50", "p90", "p95", "p99"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for metric in &REPORT_METRICS {
        if let Some(name) = metric.summary_name {
            table.add_row(row(name, (metric.of)(report), &metric.show));
        }
    }
    table
}

fn row(name: &str, figures: &Distribution, show: &dyn Fn(f64) -> String) -> [String; 7] {
    let cell = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), show);
    [
        name.to_owned(),
        figures.n.to_string(),
        cell(figures.mean),
        cell(figures.p50),
        cell(figures.p90),
        cell(figures.p95),
        cell(figures.p99),
    ]
}

fn share(section: &ShareSection) -> String {
    let verdict = match section.client_error.verdict {
        Verdict::Valid => "VALID",
        Verdict::Invalid => "INVALID",
    };
    let clock = section.clock_error_s.map_or_else(
        || "clock not known to be right".to_owned(),
        |error| format!("clock ± {}", duration(error)),
    );
    format!(
        "share     {} on {} ({} cores): {} scheduled, {} ok, {clock}, {verdict}",
        section.share, section.host, section.cores, section.requests.scheduled, section.requests.ok
    )
}

fn rates(report: &Report) -> String {
    let rate = |rate: Option<f64>| rate.map_or_else(|| "–".to_owned(), number);
    let window = match report.steady_window.too_short {
        None => "the steady window".to_owned(),
        Some(reason) => format!("the whole run ({})", too_short(reason)),
    };
    format!(
        "rates     {} requests/s, {} output tokens/s over {} of {}",
        rate(report.requests_per_s),
        rate(report.output_tokens_per_s),
        duration(report.steady_window_s),
        window
    )
}

/// Why the figures are those of the whole run.
pub(crate) fn too_short(reason: TooShort) -> &'static str {
    match reason {
        TooShort::NothingSent => "no steady part: nothing that was sent after the ramp was answered",
        TooShort::NothingCompleted => "no steady part: nothing was answered while requests were sent",
        TooShort::ShorterThanMedianRequest => "its steady part is shorter than the median request",
    }
}

fn requests(report: &Report) -> String {
    let ended: Vec<_> = report
        .requests
        .by_class()
        .into_iter()
        .filter(|(_, count)| *count > 0)
        .map(|(class, count)| format!("{count} {}", class_name(class)))
        .collect();
    let warmup = match report.warmup_requests {
        0 => String::new(),
        requests => format!(" (and {requests} to warm up)"),
    };
    format!(
        "requests  {} scheduled{warmup}: {}",
        report.requests.scheduled,
        if ended.is_empty() {
            "none ended".to_owned()
        } else {
            ended.join(", ")
        }
    )
}

/// The name of a class in texts.
pub(crate) fn class_name(class: Class) -> &'static str {
    match class {
        Class::Ok => "ok",
        Class::HttpError => "HTTP error",
        Class::StreamError => "stream error",
        Class::Truncated => "truncated",
        Class::TimedOut => "timed out",
        Class::Dropped => "dropped",
        Class::Cancelled => "cancelled",
    }
}

fn goodput(report: &Report) -> Option<String> {
    let goodput = report.goodput?;
    let share = goodput
        .share
        .map_or_else(|| "–".to_owned(), |share| format!("{} %", number(share * 100.0)));
    Some(format!(
        "goodput   {share}: {} of {} met {}",
        goodput.good,
        report.requests.scheduled,
        objectives(&goodput.slo)
    ))
}

/// The objectives that are set, as text.
pub(crate) fn objectives(slo: &Slo) -> String {
    let all: Vec<_> = [
        ("TTFT", slo.ttft_s),
        ("TPOT", slo.tpot_s),
        ("e2e latency", slo.e2e_latency_s),
    ]
    .into_iter()
    .filter_map(|(name, limit)| Some(format!("{name} ≤ {}", duration(limit?))))
    .collect();
    all.join(", ")
}

fn error(error: &ErrorSummary) -> String {
    let status = error
        .status
        .map_or_else(String::new, |status| format!(" {status}"));
    let sample = error
        .sample
        .as_deref()
        .map_or_else(String::new, |sample| format!(": {sample}"));
    format!(
        "error     {} × {}{status}{sample}",
        error.count,
        class_name(error.class)
    )
}

fn tokens(account: &TokenAccounting) -> String {
    let difference = account.difference;
    let checked = match (difference.mean, difference.max, difference.relative) {
        (Some(mean), Some(max), Some(relative)) => format!(
            "; server − client: mean {mean:+.2}, at most {max} ({:+.2} %) over {} requests",
            relative * 100.0,
            difference.n
        ),
        _ => String::new(),
    };
    let uncounted = match account.uncounted {
        0 => String::new(),
        requests => format!("; not counted: {requests} requests"),
    };
    format!("tokens    counted by {}{checked}{uncounted}", counted_by(account))
}

/// Who counted the output tokens, as text.
pub(crate) fn counted_by(account: &TokenAccounting) -> String {
    match account.counted_by {
        Some(CountedBy::Server) => "the server".to_owned(),
        Some(CountedBy::Client) => "the client: the server did not say".to_owned(),
        Some(CountedBy::Both) => format!(
            "the server for {}, the client for {}",
            account.server, account.client
        ),
        None => "nobody".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calibration::{Calibration, ErrorQuantiles},
        report::{
            ReportInputs, build,
            fixtures::{header, measurements, record, recorded, refused},
        },
        run::RunMeasurements,
        verdict::ErrorLimits,
    };

    fn report(n: u64, change: impl FnOnce(&mut RunMeasurements)) -> Report {
        let mut records: Vec<_> = (0..n).map(record).collect();
        for record in records.iter_mut().take(10) {
            record.client_output_tokens = Some(4);
        }
        records.push(refused(n, 429));
        let mut measurements = measurements(&records);
        change(&mut measurements);
        let mut header = header();
        header.workload.plan.slo.ttft_s = Some(0.25);
        header.calibration = Some(Calibration {
            requests: 300,
            ttft_error: ErrorQuantiles {
                p50_s: 0.0001,
                p99_s: 0.0004,
                max_s: 0.001,
            },
            server_lateness_p99_s: None,
            loop_lag_p99_s: None,
            stamp_uncertainty_p99_s: None,
            late_send_p99_s: None,
            streams: None,
            tokens_per_s_possible: 1.0,
            tokens_per_s_achieved: 1.0,
        });
        build(ReportInputs {
            header,
            measurements: &measurements,
            recorded: &recorded(records),
            limits: ErrorLimits::default(),
        })
    }

    #[test]
    fn the_summary_of_a_run() {
        insta::assert_snapshot!(summary(&report(1_200, |_| ())));
    }

    #[test]
    fn the_summary_of_a_run_that_does_not_count() {
        let report = report(5, |measurements| {
            measurements.cpu_shares = vec![0.99];
            measurements.scheduled += 1;
            measurements.interrupted = true;
            measurements.backoff_waits.count = 2;
            measurements.backoff_waits.total = std::time::Duration::from_millis(1500);
        });
        insta::assert_snapshot!(summary(&report));
    }

    #[test]
    fn the_verdict_names_a_percentile_that_the_sample_supports() {
        assert_eq!(
            verdict(&report(1_200, |_| ())),
            "TTFT p99 200 ms ± 0.6 ms (client error), VALID"
        );
        assert_eq!(
            verdict(&report(20, |_| ())),
            "TTFT p95 200 ms ± 0.6 ms (client error), VALID"
        );
    }

    #[test]
    fn three_digits_and_the_unit_that_suits() {
        for (seconds, expected) in [
            (0.0, "0 s"),
            (0.412_3, "412 ms"),
            (0.000_6, "0.6 ms"),
            (0.000_085, "85 µs"),
            (0.000_000_4, "0.4 µs"),
            (0.999_6, "1 s"),
            (12.345, "12.3 s"),
            (-0.02, "-20 ms"),
            (5_400.0, "5400 s"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
    }
}
