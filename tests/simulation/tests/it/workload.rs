//! What is sent: batches by clients of the outbox, and messages by producers that publish on their own.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use shared_types::{
    BatchContent, BatchId, LlmName, MetricBatch, MetricTitle, Provenance, Source, Unit, Values, message,
};

use crate::random::Random;

/// The last one is not in the registry's seed.
const LLMS: [&str; 3] = ["GPT-4o", "Llama 3.1 405", "Newcomer"];
const METRICS: [(&str, &str); 2] = [("ttft", "s"), ("tps", "tokens/s")];
/// Values are whole multiples of 1/this, so that the oracle's integers are exact.
pub(crate) const GRID: f64 = 1024.0;
const MOST_STEPS: usize = 1 << 14;

/// Batches that are submitted in one call.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) due: Duration,
    pub(crate) batches: Vec<MetricBatch>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Workload {
    /// The chunks of each client of an outbox, in the order of time.
    pub(crate) clients: Vec<Vec<Chunk>>,
    /// Bodies that others put into the queue.
    pub(crate) foreign: Vec<(Duration, Bytes)>,
}

impl Workload {
    /// The same for every seed, and small: for exhaustive crashes.
    pub(crate) fn small() -> Self {
        let mut draw = Draw::new(Random::new(0));
        let first = draw.batch();
        let chunk = |seconds, batches| Chunk {
            due: Duration::from_secs(seconds),
            batches,
        };
        let clients = vec![vec![
            chunk(0, vec![first.clone(), draw.batch()]),
            chunk(1, vec![draw.batch()]),
        ]];
        let foreign = vec![
            (Duration::from_millis(500), draw.conflicting(&first)),
            (Duration::from_secs(1), draw.without_id()),
        ];
        Self { clients, foreign }
    }

    /// What this seed sends until `horizon`.
    pub(crate) fn drawn(random: &mut Random, clients: usize, horizon: Duration) -> Self {
        let mut draw = Draw::new(random.split());
        let clients = (0..clients).map(|_| draw.chunks(horizon)).collect();
        let foreign = (0..draw.random.below(6))
            .map(|_| (draw.random.duration(horizon), draw.foreign()))
            .collect();
        Self { clients, foreign }
    }

    /// The batches of the clients.
    pub(crate) fn ids(&self) -> Vec<BatchId> {
        let chunks = self.clients.iter().flatten();
        chunks
            .flat_map(|chunk| chunk.batches.iter().map(MetricBatch::id))
            .collect()
    }
}

struct Draw {
    random: Random,
    made: Vec<MetricBatch>,
}

impl Draw {
    fn new(random: Random) -> Self {
        Self {
            random,
            made: Vec::new(),
        }
    }

    fn chunks(&mut self, horizon: Duration) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = (0..self.random.between(1, 6))
            .map(|_| Chunk {
                due: self.random.duration(horizon),
                batches: (0..self.random.between(1, 4)).map(|_| self.submitted()).collect(),
            })
            .collect();
        chunks.sort_by_key(|chunk| chunk.due);
        chunks
    }

    /// Mostly new batches; now and then one again, or another one under an id that is taken.
    fn submitted(&mut self) -> MetricBatch {
        if self.made.is_empty() || self.random.chance(850) {
            return self.batch();
        }
        let earlier = self.random.pick(&self.made).clone();
        if self.random.chance(500) {
            earlier
        } else {
            MetricBatch::new(earlier.id(), self.content())
        }
    }

    fn batch(&mut self) -> MetricBatch {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let batch = MetricBatch::new(BatchId::new(start(), bytes), self.content());
        self.made.push(batch.clone());
        batch
    }

    fn content(&mut self) -> BatchContent {
        let (metric, unit) = *self.random.pick(&METRICS);
        let values = (0..self.random.between(3, 10)).map(|_| {
            let steps = self.random.below(2 * MOST_STEPS) as f64 - MOST_STEPS as f64;
            steps / GRID
        });
        let values = values.collect();
        BatchContent {
            llm: LlmName::new(self.random.pick::<&str>(&LLMS)).expect("a valid name"),
            metric: MetricTitle::new(metric).expect("a valid title"),
            unit: Some(Unit::new(unit).expect("a valid unit")),
            values: Values::new(values).expect("finite values"),
            timestamp: start() + TimeDelta::minutes(self.random.below(120) as i64),
            provenance: Provenance {
                source: *self.random.pick(&Source::ALL),
                ..Provenance::imported()
            },
        }
    }

    fn foreign(&mut self) -> Bytes {
        match self.random.below(8) {
            0 => self
                .random
                .pick(&["not JSON", "null", "[]", "{\"schema_version\": 99}"])
                .to_string()
                .into(),
            1 => self.without_id(),
            2 => message::encode(&self.unknown_metric()).into(),
            3 => message::encode(&self.other_unit()).into(),
            4 => self.half_refused(),
            5 if !self.made.is_empty() => {
                let taken = self.random.pick(&self.made).clone();
                self.conflicting(&taken)
            }
            // A copy of what a client sends too, perhaps before it does.
            6 if !self.made.is_empty() => message::encode(self.random.pick(&self.made)).into(),
            _ => message::encode(&self.batch()).into(),
        }
    }

    fn conflicting(&mut self, taken: &MetricBatch) -> Bytes {
        message::encode(&MetricBatch::new(taken.id(), self.content())).into()
    }

    /// In the oldest form, with nothing but what is needed.
    fn without_id(&mut self) -> Bytes {
        let content = self.content();
        let body = format!(
            r#"[{{"llm_name": "{}", "metric": "{}", "values": {:?}, "timestamp": "{}"}}]"#,
            content.llm,
            content.metric,
            content.values.as_slice(),
            content.timestamp.to_rfc3339()
        );
        body.into()
    }

    fn unknown_metric(&mut self) -> MetricBatch {
        let content = BatchContent {
            metric: MetricTitle::new("unheard-of").expect("a valid title"),
            ..self.content()
        };
        MetricBatch::with_derived_id(content)
    }

    fn other_unit(&mut self) -> MetricBatch {
        let content = BatchContent {
            unit: Some(Unit::new("furlongs").expect("a valid unit")),
            ..self.content()
        };
        MetricBatch::with_derived_id(content)
    }

    /// One good batch and one that is refused, in one message.
    fn half_refused(&mut self) -> Bytes {
        let bodies = [self.batch(), self.unknown_metric()].map(|batch| message::encode(&batch));
        [b"[".as_slice(), &bodies[0], b",", &bodies[1], b"]"]
            .concat()
            .into()
    }
}

/// When the batches were measured, so many minutes ago.
fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::hours(479_999)
}
