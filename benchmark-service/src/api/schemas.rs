//! Types that describe inputs in the OpenAPI document. The inputs are read by types of `shared-types`, which do not depend
//! on OpenAPI.

#![expect(dead_code, reason = "only described, never constructed")]

use chrono::{DateTime, Utc};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// 1 to 200 characters after trimming, without control characters.
#[derive(Deserialize, ToSchema)]
#[schema(
    min_length = 1,
    max_length = 200,
    pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
)]
pub(super) struct Text(String);

/// Where values come from.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum SourceName {
    Simulated,
    Measured,
    Imported,
}

/// Which way a metric is ranked.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Better {
    Lower,
    Higher,
}

/// A row's number in the registry.
#[derive(Deserialize, ToSchema)]
#[schema(minimum = 1)]
pub(super) struct RowId(i64);

/// The path of one LLM or one metric of the registry.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct RowPath {
    /// the row's number
    #[param(inline, value_type = RowId)]
    pub(super) id: String,
}

/// The path of one metric's ranking.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub(super) struct MetricPath {
    /// the metric's title, in any case
    #[param(inline, value_type = Text)]
    pub(super) metric: String,
}

/// Names a request in every retry of it.
#[derive(Deserialize, ToSchema)]
#[schema(min_length = 1, max_length = 200, pattern = "^[!-~]+$")]
pub(super) struct IdempotencyKey(String);

/// The values of one LLM and one metric. Fields that are not named here are ignored.
#[derive(Deserialize, ToSchema)]
#[schema(as = BatchMessage)]
pub(super) struct BatchMessage {
    /// The version of this form.
    #[schema(minimum = 1, maximum = 1)]
    schema_version: Option<u32>,
    /// Its identity; derived from the content where it is not given.
    #[schema(
        value_type = Option<String>, format = Uuid,
        pattern = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
    )]
    id: Option<Uuid>,
    /// An LLM that is not known yet is registered.
    llm_name: Text,
    /// The title of a registered metric, in any case.
    metric: Text,
    /// The metric's unit, to be checked where it is given.
    unit: Option<Text>,
    /// In the metric's unit.
    #[schema(min_items = 1)]
    values: Vec<f64>,
    /// When they were measured, between 1970 and 9999.
    timestamp: DateTime<Utc>,
    /// `imported` where it is not given.
    source: Option<SourceName>,
    /// The run they belong to.
    run_id: Option<Text>,
    /// The simulation's seed.
    #[schema(maximum = 18446744073709551615u64)]
    seed: Option<u64>,
    /// Their place in the run.
    #[schema(maximum = 18446744073709551615u64)]
    sequence: Option<u64>,
    /// How they came to be, such as a load test's workload: at most 4096 bytes of JSON, 8 levels, no NUL characters.
    #[schema(value_type = Option<Object>)]
    metadata: Option<shared_types::Metadata>,
    /// BLAKE3 of the content, hexadecimal, to be checked where it is given.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    checksum: Option<String>,
}

/// Several batches.
#[derive(Deserialize, ToSchema)]
#[schema(min_items = 1, max_items = 10000)]
pub(super) struct BatchArray(Vec<BatchMessage>);

/// The body of `POST /api/v1/batches`.
#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
#[schema(as = Batches)]
pub(super) enum Batches {
    One(Box<BatchMessage>),
    Several(BatchArray),
}
