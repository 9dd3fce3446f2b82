//! The rankings as they are served: immutable, swapped as a whole, with bodies that are serialised once.

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
pub use selection::{Selection, SourceFilter, Statistic, Window};

use ranking::ranked;
use rows::{CSV_COLUMNS, Place, Titled, csv_cells, rfc3339};

/// The summaries of one key, by window; `None` where a window holds no values.
pub(crate) type Summaries = [Option<Summary>; Window::ALL.len()];

/// The summaries of every key, ordered by metric, then source, then LLM.
pub(crate) type SummariesByKey = BTreeMap<(MetricId, Source, LlmId), Arc<Summaries>>;

/// The forms in which rankings are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The API's own.
    Json,
    /// Comma-separated values.
    Csv,
    /// A plain array, as `GET /ranking/{metric}` answers.
    Plain,
    /// Numbered rows, as `GET /api/v1/benchmark/{metric}` answers.
    Numbered,
}

const SHAPES: usize = 4;

/// What a body covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Every metric.
    All,
    /// The metric at this place of the registry.
    Metric(usize),
}

/// Filled by the first request that needs it.
type BodyCell = OnceLock<Body>;

/// The rankings at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows with every snapshot, across restarts too.
    pub(crate) version: u64,
    /// Everything that was counted until then is known to be in it.
    pub(crate) as_of: DateTime<Utc>,
    /// Whether newer batches may be missing for longer than usual.
    pub(crate) stale: bool,
    content: Arc<Content>,
    /// By selection, then by target and shape.
    bodies: Box<[OnceLock<Box<[BodyCell]>>]>,
}

/// What the rankings are made of, whatever is known of their freshness.
#[derive(Debug)]
struct Content {
    llms: Vec<Llm>,
    metrics: Vec<RankedMetric>,
    place_of: HashMap<MetricTitle, usize>,
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
    /// Before anything is known.
    pub(crate) fn empty() -> Self {
        Self {
            stale: true,
            ..Self::assemble(0, DateTime::UNIX_EPOCH, Vec::new(), Vec::new())
        }
    }

    /// The snapshot after `previous`, fresh as of the time given. Keys whose LLM or metric is not in the registry
    /// (archived) are left out.
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
                    match before.filter(|old| old.same(source, &metric, &entries)) {
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
        let place_of = metrics
            .iter()
            .enumerate()
            .map(|(place, ranked)| (ranked.metric.title.clone(), place))
            .collect();
        let content = Content {
            llms,
            metrics,
            place_of,
        };
        Self::holding(Arc::new(content), version, as_of, false)
    }

    fn holding(content: Arc<Content>, version: u64, as_of: DateTime<Utc>, stale: bool) -> Self {
        Self {
            version,
            as_of,
            stale,
            content,
            bodies: std::iter::repeat_with(OnceLock::new)
                .take(Selection::COUNT)
                .collect(),
        }
    }

    /// The same rankings, saying otherwise how fresh they are. The version stays: no ranking has changed.
    pub(crate) fn stated(&self, as_of: DateTime<Utc>, stale: bool) -> Self {
        Self::holding(Arc::clone(&self.content), self.version, as_of, stale)
    }

    /// Whether this is the registry the snapshot was made with.
    pub(crate) fn has_registry(&self, llms: &[Llm], metrics: &[Metric]) -> bool {
        self.content.llms == llms
            && self
                .content
                .metrics
                .iter()
                .map(|ranked| &ranked.metric)
                .eq(metrics)
    }

    fn ranked(&self, title: &MetricTitle) -> Option<&RankedMetric> {
        self.place(title).map(|place| &self.content.metrics[place])
    }

    /// The target of a request for this metric, or for all metrics.
    ///
    /// # Errors
    /// The registry has no such metric.
    pub fn target(&self, metric: Option<&MetricTitle>) -> Result<Target, Invalid> {
        let Some(title) = metric else {
            return Ok(Target::All);
        };
        self.place(title).map(Target::Metric).ok_or_else(|| {
            unknown_metric(
                title,
                self.content.metrics.iter().map(|ranked| &ranked.metric.title),
            )
        })
    }

    /// The place of a metric in the registry; `None` where there is none of that title.
    fn place(&self, title: &MetricTitle) -> Option<usize> {
        self.content.place_of.get(title).copied()
    }

    /// All metrics together, then each of them.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Target> {
        std::iter::once(Target::All).chain((0..self.content.metrics.len()).map(Target::Metric))
    }

    /// The (metric, source) pairs whose rankings changed after `version`.
    pub(crate) fn changed_since(&self, version: u64) -> impl Iterator<Item = (&str, Source)> {
        self.content.metrics.iter().flat_map(move |ranked| {
            Source::ALL
                .into_iter()
                .filter(move |&source| ranked.changed_in[source as usize] > version)
                .map(|source| (ranked.metric.title.as_str(), source))
        })
    }

    /// The body, serialised at most once for all requests.
    pub(crate) fn body(&self, selection: Selection, target: Target, shape: Shape) -> &Body {
        let targets = self.bodies[selection.index()].get_or_init(|| {
            let count = (self.content.metrics.len() + 1) * SHAPES;
            std::iter::repeat_with(OnceLock::new).take(count).collect()
        });
        let place = match target {
            Target::All => 0,
            Target::Metric(place) => place + 1,
        };
        targets[place * SHAPES + shape as usize]
            .get_or_init(|| Body::new(self.render(selection, target, shape, None)))
    }

    /// Serialises a body.
    pub fn render(&self, selection: Selection, target: Target, shape: Shape, rounding: Rounding) -> Vec<u8> {
        match (shape, target) {
            (Shape::Json, Target::All) => json(&AllRankings {
                status: "success",
                as_of: self.as_of,
                stale: self.stale,
                source: selection.source,
                window: selection.window,
                statistic: selection.statistic,
                data: self
                    .content
                    .metrics
                    .iter()
                    .map(|ranked| Titled {
                        title: ranked.metric.title.as_str(),
                        rows: ranked.rows(selection, rounding),
                    })
                    .collect(),
            }),
            (Shape::Json, Target::Metric(place)) => {
                let ranked = &self.content.metrics[place];
                let rows = ranked.rows(selection, rounding);
                let freshness = (self.as_of, self.stale);
                json(&MetricRanking::new(&ranked.metric, selection, freshness, rows))
            }
            (Shape::Csv, target) => self.csv(selection, target, rounding),
            (Shape::Plain, target) => {
                let rows: Vec<_> = self
                    .places(selection, target)
                    .map(|(_, place)| place.plain_row(rounding))
                    .collect();
                json(&rows)
            }
            (Shape::Numbered, target) => json(&NumberedRanking {
                success: true,
                data: (1..)
                    .zip(self.places(selection, target))
                    .map(|(id, (metric, place))| place.numbered_row(id, metric.title.as_str(), rounding))
                    .collect(),
                message: None,
            }),
        }
    }

    fn places(&self, selection: Selection, target: Target) -> impl Iterator<Item = (&Metric, Place<'_>)> {
        let metrics = match target {
            Target::All => self.content.metrics.as_slice(),
            Target::Metric(place) => std::slice::from_ref(&self.content.metrics[place]),
        };
        metrics
            .iter()
            .flat_map(move |ranked| ranked.places(selection).map(move |place| (&ranked.metric, place)))
    }

    fn csv(&self, selection: Selection, target: Target, rounding: Rounding) -> Vec<u8> {
        let as_of = rfc3339(self.as_of);
        let mut writer = csv::Writer::from_writer(Vec::new());
        let written: csv::Result<()> = std::iter::once(Ok(CSV_COLUMNS.map(str::to_owned)))
            .chain(
                self.places(selection, target)
                    .map(|(metric, place)| Ok(csv_cells(metric, &place.row(rounding), &as_of))),
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
    /// Whether the rows of `source` are still what they were.
    fn same(&self, source: Source, metric: &Metric, entries: &[Entry]) -> bool {
        let of = |entries: &'_ [Entry]| -> Vec<_> {
            entries
                .iter()
                .filter(|entry| entry.source == source)
                .map(|entry| (entry.llm.id, Arc::as_ptr(&entry.summaries)))
                .collect()
        };
        self.metric.better == metric.better && of(&self.entries) == of(entries)
    }

    fn places(&self, selection: Selection) -> impl Iterator<Item = Place<'_>> {
        Source::ALL
            .into_iter()
            .filter(move |&source| selection.source.includes(source))
            .flat_map(move |source| self.places_of(source, selection))
    }

    fn places_of(&self, source: Source, selection: Selection) -> Vec<Place<'_>> {
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
            .map(|(index, rank)| Place {
                llm: names[index],
                source: source.as_str(),
                rank,
                summary: summaries[index],
            })
            .collect()
    }

    fn rows(&self, selection: Selection, rounding: Rounding) -> Vec<rows::RankingRow<'_>> {
        self.places(selection).map(|place| place.row(rounding)).collect()
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
