use shared_types::Source;

use crate::choice::choice;

choice!(
    /// Whose values are ranked. Values of different sources are never merged nor ranked against each other: `all`
    /// gives the rankings of every source one after the other, each row labelled with its source.
    pub SourceFilter, "source", "simulated, measured, imported or all", default Simulated,
    /// Values of the simulation.
    Simulated = "simulated",
    /// Values of load tests.
    Measured = "measured",
    /// Values of other producers.
    Imported = "imported",
    /// The values of every source, ranked separately.
    All = "all"
);

impl SourceFilter {
    /// Whether values of `source` are asked for.
    #[must_use]
    pub fn includes(self, source: Source) -> bool {
        match self {
            Self::Simulated => source == Source::Simulated,
            Self::Measured => source == Source::Measured,
            Self::Imported => source == Source::Imported,
            Self::All => true,
        }
    }

    /// The single source that is asked for; `None` for all sources.
    #[must_use]
    pub fn only(self) -> Option<Source> {
        Source::ALL
            .into_iter()
            .find(|source| source.as_str() == self.as_str())
    }
}

choice!(
    /// How far back values count. A window of N hours holds the N full hours before the current one and the current
    /// hour so far, so it spans at least N hours and less than one more. Batches dated in later hours than the
    /// current one count in `all` only, until their hour comes.
    #[schema(as = Window)]
    pub TimeWindow, "window", "1h, 24h, 7d, 30d or all", default All,
    /// One hour.
    Hour = "1h",
    /// 24 hours.
    Day = "24h",
    /// 7 days of 24 hours.
    Week = "7d",
    /// 30 days of 24 hours.
    Month = "30d",
    /// All time.
    All = "all"
);

impl TimeWindow {
    /// The number of full hours before the current hour; `None` for all time.
    pub(crate) fn full_hours(self) -> Option<i64> {
        match self {
            Self::Hour => Some(1),
            Self::Day => Some(24),
            Self::Week => Some(7 * 24),
            Self::Month => Some(30 * 24),
            Self::All => None,
        }
    }
}

choice!(
    /// What is ranked by.
    pub Statistic, "statistic", "mean, p50, p90, p95 or p99", default Mean,
    /// The arithmetic mean.
    Mean = "mean",
    /// The median.
    P50 = "p50",
    /// The 90th percentile.
    P90 = "p90",
    /// The 95th percentile.
    P95 = "p95",
    /// The 99th percentile.
    P99 = "p99"
);

/// The choices that select a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RankingSelection {
    /// The source of the values.
    pub source: SourceFilter,
    /// How far back values count.
    pub window: TimeWindow,
    /// What is ranked by.
    pub statistic: Statistic,
}

impl RankingSelection {
    /// The number of different selections.
    pub(crate) const COUNT: usize = SourceFilter::ALL.len() * TimeWindow::ALL.len() * Statistic::ALL.len();

    /// The index of the selection among all of them.
    pub(crate) fn index(self) -> usize {
        (self.source as usize * TimeWindow::ALL.len() + self.window as usize) * Statistic::ALL.len()
            + self.statistic as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_selection_has_its_own_index() {
        let mut indices = BTreeSet::new();
        for &source in SourceFilter::ALL {
            for &window in TimeWindow::ALL {
                for &statistic in Statistic::ALL {
                    indices.insert(
                        RankingSelection {
                            source,
                            window,
                            statistic,
                        }
                        .index(),
                    );
                }
            }
        }
        assert_eq!(indices, (0..RankingSelection::COUNT).collect());
    }

    #[test]
    fn names_read_back_and_others_are_refused() {
        for &window in TimeWindow::ALL {
            assert_eq!(window.as_str().parse(), Ok(window));
        }
        assert_eq!(
            "2h".parse::<TimeWindow>().unwrap_err().to_string(),
            "window: found 2h, expected 1h, 24h, 7d, 30d or all"
        );
        assert_eq!(SourceFilter::Measured.only(), Some(Source::Measured));
        assert_eq!(SourceFilter::All.only(), None);
    }
}
