//! Batches, and what must become of them. Also for the backends' own tests.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use shared_types::{
    BatchContent, BatchId, LlmName, Metadata, MetricBatch, MetricTitle, Provenance, RegistrySeed, RunId,
    Source, Unit, Values,
};
use statistics::RunningStatistics;
use storage::{BoxError, Hour, Period, Result, Revision, StatisticsKey, StatisticsRow, Storage};
use storage_sql::statistics_rows::{PartialStatistics, RowKey};

/// The LLMs and metrics of the standard seed that the batches are of.
pub(crate) const LLMS: [&str; 3] = ["GPT-4o", "Llama 3.1 405", "Claude 3.5 Sonnet"];
pub(crate) const METRICS: [(&str, &str); 2] = [("ttft", "s"), ("tps", "tokens/s")];

/// Before every sample.
pub(crate) const LONG_AGO: Hour = Hour(0);

pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(480_000) + TimeDelta::microseconds(123_456)
}

/// Creates the tables and fills the registry.
pub(crate) async fn prepared(storage: &dyn Storage) -> std::result::Result<(), BoxError> {
    storage.migrate().await?;
    storage.seed(&RegistrySeed::standard()?, noon()).await?;
    Ok(())
}

/// What a batch says, to be changed by the cases.
pub(crate) fn content(number: u64) -> std::result::Result<BatchContent, BoxError> {
    let mut random = Random(number);
    let [llm, metric] = [LLMS.len(), METRICS.len()].map(|n| random.below(n));
    let (metric, unit) = METRICS[metric];
    let hours = i64::try_from(random.below(3))?;
    Ok(BatchContent {
        llm: LlmName::new(LLMS[llm])?,
        metric: MetricTitle::new(metric)?,
        unit: Some(Unit::new(unit)?),
        values: Values::new((0..1 + random.below(40)).map(|_| random.value()).collect())?,
        timestamp: noon() + TimeDelta::hours(hours) + TimeDelta::microseconds(i64::try_from(number)?),
        provenance: Provenance {
            source: Source::Simulated,
            run_id: Some(RunId::new("conformance")?),
            seed: Some(u64::MAX - number),
            sequence: Some(number),
            metadata: metadata(number)?,
        },
    })
}

/// Every other batch says something, with text that a database might trip over.
fn metadata(number: u64) -> std::result::Result<Metadata, BoxError> {
    let mut fields = serde_json::Map::new();
    if number.is_multiple_of(2) {
        fields.insert("workload".to_owned(), "sonnets, \"550\" \u{1F980} \\u0000".into());
        fields.insert(
            "load".to_owned(),
            serde_json::json!({ "rate": 0.1, "cores": number }),
        );
    }
    Ok(Metadata::new(fields)?)
}

pub(crate) fn id(number: u64) -> BatchId {
    let mut random = [0; 10];
    random[..8].copy_from_slice(&number.to_be_bytes());
    BatchId::new(noon(), random)
}

pub(crate) fn batch(number: u64) -> std::result::Result<MetricBatch, BoxError> {
    Ok(MetricBatch::new(id(number), content(number)?))
}

/// A batch like [`batch`], changed.
pub(crate) fn changed(
    number: u64,
    change: impl FnOnce(&mut BatchContent),
) -> std::result::Result<MetricBatch, BoxError> {
    let mut content = content(number)?;
    change(&mut content);
    Ok(MetricBatch::new(id(number), content))
}

/// The batches of these numbers: always the same.
///
/// # Errors
/// Never in practice; the samples pass the same checks as any input.
pub fn batches(numbers: std::ops::Range<u64>) -> std::result::Result<Vec<MetricBatch>, BoxError> {
    numbers.map(batch).collect()
}

/// The statistics that batches must give, each folded once.
pub(crate) async fn expected(
    storage: &dyn Storage,
    batches: &[MetricBatch],
) -> std::result::Result<BTreeMap<RowKey, RunningStatistics>, BoxError> {
    let (llms, metrics) = (storage.llms().await?, storage.metrics().await?);
    let mut partials = PartialStatistics::default();
    for batch in batches {
        let llm = llms
            .iter()
            .find(|llm| llm.name == *batch.llm())
            .ok_or("the LLM is registered")?;
        let metric = metrics
            .iter()
            .find(|metric| metric.title == *batch.metric())
            .ok_or("the metric is registered")?;
        let key = StatisticsKey {
            llm: llm.id,
            metric: metric.id,
            source: batch.provenance().source,
        };
        partials
            .add(key, batch.timestamp(), batch.values())
            .map_err(|error| error.during("fold"))?;
    }
    Ok(partials.into_rows().map_err(|error| error.during("fold"))?)
}

pub(crate) fn decoded(
    rows: &[StatisticsRow],
) -> std::result::Result<BTreeMap<RowKey, RunningStatistics>, BoxError> {
    rows.iter()
        .map(|row| {
            let key = RowKey {
                key: row.key,
                period: row.period,
            };
            Ok((key, RunningStatistics::from_bytes(&row.state)?))
        })
        .collect()
}

/// All statistics there are.
pub(crate) async fn all_statistics(
    storage: &dyn Storage,
) -> std::result::Result<BTreeMap<RowKey, RunningStatistics>, BoxError> {
    decoded(&storage.statistics_since(None, LONG_AGO).await?.rows)
}

/// A reader that keeps up by asking for changes only.
#[derive(Default)]
pub(crate) struct Reader {
    pub(crate) revision: Option<Revision>,
    pub(crate) rows: BTreeMap<RowKey, RunningStatistics>,
}

impl Reader {
    /// Reads what is new; tells how many rows came.
    pub(crate) async fn refresh(&mut self, storage: &dyn Storage) -> std::result::Result<usize, BoxError> {
        let change = storage.statistics_since(self.revision, LONG_AGO).await?;
        let rows = decoded(&change.rows)?;
        let count = rows.len();
        if change.complete {
            self.rows = rows;
        } else {
            self.rows.extend(rows);
        }
        self.revision = Some(change.revision);
        Ok(count)
    }

    /// Values counted over all time.
    pub(crate) fn count(&self) -> u64 {
        self.rows
            .iter()
            .filter(|(row, _)| row.period == Period::AllTime)
            .map(|(_, statistics)| statistics.count())
            .sum()
    }
}

pub(crate) fn ids(batches: &[MetricBatch]) -> Vec<BatchId> {
    batches.iter().map(MetricBatch::id).collect()
}

pub(crate) async fn unpublished(storage: &dyn Storage) -> Result<u64> {
    Ok(storage.outbox_depth().await?.unpublished)
}

/// `SplitMix64` (Steele, Lea, Flood 2014): enough for test data, and the same everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "less than a usize")]
        let below = (self.next() % bound as u64) as usize;
        below
    }

    /// A double of many magnitudes and either sign.
    fn value(&mut self) -> f64 {
        let mantissa = (self.next() >> 11) as f64 - f64::from(1 << 26) * f64::from(1 << 26);
        mantissa * 2f64.powi(i32::try_from(self.below(80)).unwrap_or(0) - 90)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
