use chrono::{DateTime, SubsecRound, Utc};

use crate::{BatchId, Checksum, LlmName, MetricTitle, Provenance, Unit, Values, checksum::ContentHasher};

/// What a batch says, without its identity.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchContent {
    /// The LLM that was measured.
    pub llm: LlmName,
    /// What was measured.
    pub metric: MetricTitle,
    /// The unit the producer says the values are in. Checked against the metric's where it is given, not part of
    /// the checksum: the registry holds the unit.
    pub unit: Option<Unit>,
    /// The values, in the metric's unit.
    pub values: Values,
    /// When they were measured. Kept in whole microseconds, as PostgreSQL stores it.
    pub timestamp: DateTime<Utc>,
    /// Where they come from.
    pub provenance: Provenance,
}

/// The values of one (LLM, metric) from one tick or run: the event that everything else is made of.
///
/// Immutable once made; the checksum is computed once, then.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricBatch {
    id: BatchId,
    content: BatchContent,
    checksum: Checksum,
}

impl MetricBatch {
    /// A batch with an id of its producer's choice.
    #[must_use]
    pub fn new(id: BatchId, content: BatchContent) -> Self {
        let (content, checksum) = canonical(content);
        Self {
            id,
            content,
            checksum,
        }
    }

    /// A batch whose id follows from its content.
    #[must_use]
    pub fn with_derived_id(content: BatchContent) -> Self {
        let (content, checksum) = canonical(content);
        Self {
            id: BatchId::from_content(&checksum),
            content,
            checksum,
        }
    }

    /// Its identity.
    #[must_use]
    pub fn id(&self) -> BatchId {
        self.id
    }

    /// What was measured.
    #[must_use]
    pub fn content(&self) -> &BatchContent {
        &self.content
    }

    /// The LLM that was measured.
    #[must_use]
    pub fn llm(&self) -> &LlmName {
        &self.content.llm
    }

    /// What was measured.
    #[must_use]
    pub fn metric(&self) -> &MetricTitle {
        &self.content.metric
    }

    /// The values: never empty, all finite.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        self.content.values.as_slice()
    }

    /// When they were measured.
    #[must_use]
    pub fn timestamp(&self) -> DateTime<Utc> {
        self.content.timestamp
    }

    /// Where they come from.
    #[must_use]
    pub fn provenance(&self) -> &Provenance {
        &self.content.provenance
    }

    /// Over the content, not the id.
    #[must_use]
    pub fn checksum(&self) -> Checksum {
        self.checksum
    }
}

fn canonical(mut content: BatchContent) -> (BatchContent, Checksum) {
    content.timestamp = content.timestamp.trunc_subsecs(6);
    let Provenance {
        source,
        run_id,
        seed,
        sequence,
        metadata: _,
    } = &content.provenance;
    let checksum = ContentHasher::new()
        .text(content.llm.as_str())
        .text(content.metric.as_str())
        .text(source.as_str())
        .text(run_id.as_ref().map_or("", |run| run.as_str()))
        .optional(*seed)
        .optional(*sequence)
        .integer(content.timestamp.timestamp_micros().cast_unsigned())
        .values(content.values.as_slice())
        .finish();
    (content, checksum)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content() -> BatchContent {
        BatchContent {
            llm: LlmName::new("GPT-4o").unwrap(),
            metric: MetricTitle::new("ttft").unwrap(),
            unit: None,
            values: Values::new(vec![1.5, 0.25]).unwrap(),
            timestamp: "2024-09-27T11:29:13.291565789Z".parse().unwrap(),
            provenance: Provenance::imported(),
        }
    }

    #[test]
    fn every_part_of_the_content_changes_the_derived_id() {
        let original = MetricBatch::with_derived_id(content());
        assert_eq!(original, MetricBatch::with_derived_id(content()));

        let changes: [fn(&mut BatchContent); 7] = [
            |c| c.llm = LlmName::new("GPT-4").unwrap(),
            |c| c.metric = MetricTitle::new("tps").unwrap(),
            |c| c.values = Values::new(vec![0.25, 1.5]).unwrap(),
            |c| c.timestamp += chrono::TimeDelta::microseconds(1),
            |c| c.provenance.source = crate::Source::Measured,
            |c| c.provenance.seed = Some(0),
            |c| c.provenance.sequence = Some(0),
        ];
        for change in changes {
            let mut changed = content();
            change(&mut changed);
            assert_ne!(MetricBatch::with_derived_id(changed).id(), original.id());
        }
    }

    #[test]
    fn timestamps_are_kept_as_the_database_keeps_them() {
        assert_eq!(
            MetricBatch::with_derived_id(content())
                .timestamp()
                .timestamp_subsec_nanos(),
            291_565_000
        );
    }
}
