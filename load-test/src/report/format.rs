//! Numbers and times as people read them.

/// Seconds with three significant digits, in s, ms or µs.
pub(crate) fn duration(seconds: f64) -> String {
    let (scale, unit) = match seconds.abs() {
        size if size >= 0.9995 => (1.0, "s"),
        size if size >= 0.000_099_95 => (1e3, "ms"),
        0.0 => (1.0, "s"),
        _ => (1e6, "µs"),
    };
    format!("{} {unit}", number(seconds * scale))
}

/// Three significant digits, but digits before the point are kept; zeros at the end are removed.
pub(crate) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.decimals$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}
