//! Whether the shares of a run put their load on the server at the same time.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{report::format::duration, share_file::ShareFile};

/// The part of the longest window that all windows have to have in common.
const LEAST_OVERLAP: f64 = 0.9;

/// Why the figures of these shares are not those of one load: sentences with what was found and what is expected.
pub(super) fn reasons(files: &[&ShareFile]) -> Vec<String> {
    if files.len() < 2 {
        return Vec::new();
    }
    let overlap = Overlap::of(files, |_| 0.0);
    if overlap.share() < LEAST_OVERLAP {
        return vec![format!(
            "The windows of the shares, of which the longest is {}, have {} in common ({:.1} %); expected at least {:.0} %: let all shares \
             begin at one --start-at.",
            duration(overlap.longest_s),
            duration(overlap.common_s.max(0.0)),
            overlap.percent(),
            LEAST_OVERLAP * 100.0
        )];
    }
    let unknown: Vec<_> = files
        .iter()
        .filter_map(|file| {
            let why = file.clock.max_error_s().err()?;
            Some(format!(
                "How wrong the clock of share {} on {} was is unknown ({why}), and so is whether the windows of the shares overlap; \
                 expected a clock that is synchronised, such as by NTP.",
                file.share, file.host
            ))
        })
        .collect();
    if !unknown.is_empty() {
        return unknown;
    }
    let error_s = |file: &ShareFile| file.clock.max_error_s().unwrap_or(0.0);
    let certain = Overlap::of(files, error_s);
    let largest_s = files.iter().map(|file| error_s(file)).fold(0.0, f64::max);
    if certain.share() < LEAST_OVERLAP {
        return vec![format!(
            "The clocks of the shares may have been wrong by up to {}, so that their windows have as little as {:.1} % in common; expected \
             at least {:.0} %: synchronise the clocks better, or let the run take longer.",
            duration(largest_s),
            certain.percent(),
            LEAST_OVERLAP * 100.0
        )];
    }
    Vec::new()
}

/// What windows have in common.
struct Overlap {
    /// From the last start to the first end, s; negative where a window ends before another begins.
    common_s: f64,
    /// The length of the longest window, s.
    longest_s: f64,
}

impl Overlap {
    /// What is certain to be in common where the clock of each share may be wrong by `error_s`.
    fn of(files: &[&ShareFile], error_s: impl Fn(&ShareFile) -> f64) -> Self {
        let origin = files[0].window_start;
        let since_origin = |moment: DateTime<Utc>| seconds(moment - origin);
        let starts = files
            .iter()
            .map(|file| since_origin(file.window_start) + error_s(file));
        let ends = files
            .iter()
            .map(|file| since_origin(file.window_end) - error_s(file));
        let lengths = files
            .iter()
            .map(|file| seconds(file.window_end - file.window_start));
        Self {
            common_s: ends.fold(f64::INFINITY, f64::min) - starts.fold(f64::NEG_INFINITY, f64::max),
            longest_s: lengths.fold(0.0, f64::max),
        }
    }

    /// Of the longest window, 0 to 1.
    fn share(&self) -> f64 {
        if self.longest_s > 0.0 {
            (self.common_s / self.longest_s).max(0.0)
        } else {
            0.0
        }
    }

    fn percent(&self) -> f64 {
        self.share() * 100.0
    }
}

fn seconds(delta: TimeDelta) -> f64 {
    delta.as_seconds_f64()
}
