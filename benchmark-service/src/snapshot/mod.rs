//! The rankings as they are served: an immutable snapshot that is replaced as a whole. Each body is serialised once.

mod body;
mod ranking;
mod rows;
mod selection;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use chrono::{DateTime, Utc};
use shared_types::{Invalid, Llm, LlmId, Metric, MetricId, MetricTitle, Source};

pub(crate) use body::{Body, names_tag};
pub(crate) use ranking::Summary;
pub use rows::Rounding;
pub(crate) use rows::{AllRankings, MetricRanking, NumberedRanking, PlainRow};
pub use selection::{RankingSelection, SourceFilter, Statistic, TimeWindow};

use ranking::ranked;
use rows::{CSV_COLUMNS, MetricRows, RankedLlm, csv_record, rfc3339};

/// The summaries of one key, by window; `None` if a window holds no values.
pub(crate) type Summaries = [Option<Summary>; TimeWindow::ALL.len()];

/// The summaries of every key, ordered by metric, then source, then LLM.
pub(crate) type SummariesByKey = BTreeMap<(MetricId, Source, LlmId), Arc<Summaries>>;

/// The formats in which rankings are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFormat {
    /// The API's own JSON.
    Json,
    /// Comma-separated values.
    Csv,
    /// A plain array, as `GET /ranking/{metric}` answers.
    Plain,
    /// Numbered rows, as `GET /api/v1/benchmark/{metric}` answers.
    Numbered,
}

const BODY_FORMATS: usize = 4;

/// The metrics that a body covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Every metric.
    All,
    /// The metric with this index in the registry.
    Metric(usize),
}

/// A body that the first request for it serialises.
type BodyCell = OnceLock<Body>;

/// The rankings at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every snapshot, also across restarts.
    pub(crate) version: u64,
    /// All batches that were counted until then are known to be in it.
    pub(crate) as_of: DateTime<Utc>,
    /// Whether newer batches may be missing for longer than usual.
    pub(crate) stale: bool,
    data: Arc<RankingData>,
    /// By selection, then by target and format.
    bodies: Box<[OnceLock<Box<[BodyCell]>>]>,
}

/// The data of the rankings, without their freshness.
#[derive(Debug)]
struct RankingData {
    llms: Vec<Llm>,
    metrics: Vec<RankedMetric>,
    index_of: HashMap<MetricTitle, usize>,
}

#[derive(Debug)]
struct RankedMetric {
    metric: Metric,
    /// Ordered by source, then name.
    entries: Vec<Entry>,
    /// The version in which the rows of each source last changed, in the order of `Source::ALL`.
    changed_in: [u64; Source::ALL.len()],
}

#[derive(Debug)]
struct Entry {
    llm: Llm,
    source: Source,
    summaries: Arc<Summaries>,
}

impl Snapshot {
    /// The snapshot before the first refresh.
    pub(crate) fn empty() -> Self {
        Self {
            stale: true,
            ..Self::assemble(0, DateTime::UNIX_EPOCH, Vec::new(), Vec::new())
        }
    }

    /// The snapshot that follows `previous`, fresh as of `as_of`. Leaves out keys whose LLM or metric is not in the
    /// registry (archived).
    pub(crate) fn next(
        previous: &Self,
        as_of: DateTime<Utc>,
        llms: Vec<Llm>,
        metrics: Vec<Metric>,
        summaries: &SummariesByKey,
    ) -> Self {
        let version = u64::try_from(as_of.timestamp_micros())
            .unwrap_or(0)
            .max(previous.version + 1);
        let metrics = metrics
            .into_iter()
            .map(|metric| {
                let entries = entries_of(&metric, &llms, summaries);
                let before = previous.ranked(&metric.title);
                let changed_in = Source::ALL.map(|source| {
                    match before.filter(|old| old.is_unchanged(source, &metric, &entries)) {
                        Some(old) => old.changed_in[source as usize],
                        None => version,
                    }
                });
                RankedMetric {
                    metric,
                    entries,
                    changed_in,
                }
            })
            .collect();
        Self::assemble(version, as_of, llms, metrics)
    }

    fn assemble(version: u64, as_of: DateTime<Utc>, llms: Vec<Llm>, metrics: Vec<RankedMetric>) -> Self {
        let index_of = metrics
            .iter()
            .enumerate()
            .map(|(index, ranked)| (ranked.metric.title.clone(), index))
            .collect();
        let data = RankingData {
            llms,
            metrics,
            index_of,
        };
        Self::from_data(Arc::new(data), version, as_of, false)
    }

    fn from_data(data: Arc<RankingData>, version: u64, as_of: DateTime<Utc>, stale: bool) -> Self {
        Self {
            version,
            as_of,
            stale,
            data,
            bodies: std::iter::repeat_with(OnceLock::new)
                .take(RankingSelection::COUNT)
                .collect(),
        }
    }

    /// The same rankings with another freshness. The version stays the same, because no ranking has changed.
    pub(crate) fn with_freshness(&self, as_of: DateTime<Utc>, stale: bool) -> Self {
        Self::from_data(Arc::clone(&self.data), self.version, as_of, stale)
    }

    /// Whether the snapshot was made with this registry.
    pub(crate) fn has_registry(&self, llms: &[Llm], metrics: &[Metric]) -> bool {
        self.data.llms == llms && self.data.metrics.iter().map(|ranked| &ranked.metric).eq(metrics)
    }

    fn ranked(&self, title: &MetricTitle) -> Option<&RankedMetric> {
        self.metric_index(title).map(|index| &self.data.metrics[index])
    }

    /// The target of a request for this metric, or for all metrics.
    ///
    /// # Errors
    /// The registry has no such metric.
    pub fn target(&self, metric: Option<&MetricTitle>) -> Result<Target, Invalid> {
        let Some(title) = metric else {
            return Ok(Target::All);
        };
        self.metric_index(title)
            .map(Target::Metric)
            .ok_or_else(|| unknown_metric(title, self.data.metrics.iter().map(|ranked| &ranked.metric.title)))
    }

    /// The index of a metric in the registry; `None` where there is none of that title.
    fn metric_index(&self, title: &MetricTitle) -> Option<usize> {
        self.data.index_of.get(title).copied()
    }

    /// All metrics together, then each of them.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> {
        std::iter::once(Target::All).chain((0..self.data.metrics.len()).map(Target::Metric))
    }

    /// The (metric, source) pairs whose rankings changed after `version`.
    pub(crate) fn changed_since(&self, version: u64) -> impl Iterator<Item = (&str, Source)> {
        self.data.metrics.iter().flat_map(move |ranked| {
            Source::ALL
                .into_iter()
                .filter(move |&source| ranked.changed_in[source as usize] > version)
                .map(|source| (ranked.metric.title.as_str(), source))
        })
    }

    /// The body, serialised at most once for all requests.
    pub(crate) fn body(&self, selection: RankingSelection, target: Target, format: BodyFormat) -> &Body {
        let targets = self.bodies[selection.index()].get_or_init(|| {
            let count = (self.data.metrics.len() + 1) * BODY_FORMATS;
            std::iter::repeat_with(OnceLock::new).take(count).collect()
        });
        let index = match target {
            Target::All => 0,
            Target::Metric(index) => index + 1,
        };
        targets[index * BODY_FORMATS + format as usize]
            .get_or_init(|| Body::new(self.render(selection, target, format, None)))
    }

    /// Serialises a body.
    pub fn render(
        &self,
        selection: RankingSelection,
        target: Target,
        format: BodyFormat,
        rounding: Rounding,
    ) -> Vec<u8> {
        match (format, target) {
            (BodyFormat::Json, Target::All) => json(&AllRankings {
                status: "success",
                as_of: self.as_of,
                stale: self.stale,
                source: selection.source,
                window: selection.window,
                statistic: selection.statistic,
                data: self
                    .data
                    .metrics
                    .iter()
                    .map(|ranked| MetricRows {
                        title: ranked.metric.title.as_str(),
                        rows: ranked.rows(selection, rounding),
                    })
                    .collect(),
            }),
            (BodyFormat::Json, Target::Metric(index)) => {
                let ranked = &self.data.metrics[index];
                let rows = ranked.rows(selection, rounding);
                let freshness = (self.as_of, self.stale);
                json(&MetricRanking::new(&ranked.metric, selection, freshness, rows))
            }
            (BodyFormat::Csv, target) => self.csv(selection, target, rounding),
            (BodyFormat::Plain, target) => {
                let rows: Vec<_> = self
                    .ranked_llms(selection, target)
                    .map(|(_, llm)| llm.plain_row(rounding))
                    .collect();
                json(&rows)
            }
            (BodyFormat::Numbered, target) => json(&NumberedRanking {
                success: true,
                data: (1..)
                    .zip(self.ranked_llms(selection, target))
                    .map(|(id, (metric, llm))| llm.numbered_row(id, metric.title.as_str(), rounding))
                    .collect(),
                message: None,
            }),
        }
    }

    fn ranked_llms(
        &self,
        selection: RankingSelection,
        target: Target,
    ) -> impl Iterator<Item = (&Metric, RankedLlm<'_>)> {
        let metrics = match target {
            Target::All => self.data.metrics.as_slice(),
            Target::Metric(index) => std::slice::from_ref(&self.data.metrics[index]),
        };
        metrics.iter().flat_map(move |ranked| {
            ranked
                .ranked_llms(selection)
                .map(move |llm| (&ranked.metric, llm))
        })
    }

    fn csv(&self, selection: RankingSelection, target: Target, rounding: Rounding) -> Vec<u8> {
        let as_of = rfc3339(self.as_of);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written: csv::Result<()> = std::iter::once(Ok(CSV_COLUMNS.map(str::to_owned)))
            .chain(
                self.ranked_llms(selection, target)
                    .map(|(metric, llm)| Ok(csv_record(metric, &llm.row(rounding), &as_of))),
            )
            .try_for_each(|cells: csv::Result<[String; 16]>| writer.write_record(cells?));
        #[expect(
            clippy::expect_used,
            reason = "a Vec takes every write, and all lines have the same length"
        )]
        let bytes = written
            .map_err(|error| error.to_string())
            .and_then(|()| writer.into_inner().map_err(|error| error.to_string()))
            .expect("writing CSV into memory");
        bytes
    }
}

impl RankedMetric {
    /// Whether the rows of `source` are the same as in `entries`.
    fn is_unchanged(&self, source: Source, metric: &Metric, entries: &[Entry]) -> bool {
        let of = |entries: &'_ [Entry]| -> Vec<_> {
            entries
                .iter()
                .filter(|entry| entry.source == source)
                .map(|entry| (entry.llm.id, Arc::as_ptr(&entry.summaries)))
                .collect()
        };
        self.metric.better == metric.better && of(&self.entries) == of(entries)
    }

    fn ranked_llms(&self, selection: RankingSelection) -> impl Iterator<Item = RankedLlm<'_>> {
        Source::ALL
            .into_iter()
            .filter(move |&source| selection.source.includes(source))
            .flat_map(move |source| self.ranked_llms_of(source, selection))
    }

    fn ranked_llms_of(&self, source: Source, selection: RankingSelection) -> Vec<RankedLlm<'_>> {
        let (names, summaries): (Vec<_>, Vec<_>) = self
            .entries
            .iter()
            .filter(|entry| entry.source == source)
            .filter_map(|entry| {
                let summary = entry.summaries[selection.window as usize].as_ref()?;
                Some((entry.llm.name.as_str(), summary))
            })
            .unzip();
        let estimates: Vec<_> = summaries
            .iter()
            .map(|summary| summary.estimate(selection.statistic))
            .collect();
        ranked(&estimates, self.metric.better)
            .into_iter()
            .map(|(index, rank)| RankedLlm {
                llm: names[index],
                source: source.as_str(),
                rank,
                summary: summaries[index],
            })
            .collect()
    }

    fn rows(&self, selection: RankingSelection, rounding: Rounding) -> Vec<rows::RankingRow<'_>> {
        self.ranked_llms(selection).map(|llm| llm.row(rounding)).collect()
    }
}

/// The refusal of a metric that is not among the known ones.
pub(crate) fn unknown_metric<'a>(
    found: &MetricTitle,
    known: impl Iterator<Item = &'a MetricTitle>,
) -> Invalid {
    let known: Vec<_> = known.map(MetricTitle::as_str).collect();
    Invalid::new("metric", found, format!("one of {}", known.join(", ")))
}

fn entries_of(metric: &Metric, llms: &[Llm], summaries: &SummariesByKey) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Source::ALL
        .into_iter()
        .flat_map(|source| llms.iter().map(move |llm| (source, llm)))
        .filter_map(|(source, llm)| {
            let summaries = summaries.get(&(metric.id, source, llm.id))?;
            Some(Entry {
                llm: llm.clone(),
                source,
                summaries: Arc::clone(summaries),
            })
        })
        .collect();
    entries.sort_by(|a, b| (a.source, &a.llm.name).cmp(&(b.source, &b.llm.name)));
    entries
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    #[expect(
        clippy::expect_used,
        reason = "a Vec takes every write, and no field can refuse to serialise"
    )]
    serde_json::to_vec(value).expect("serialising into memory")
}
