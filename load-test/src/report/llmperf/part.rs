//! The summary of several load generators.

use serde::{Deserialize, Serialize};

use super::{
    Parameters, Response, ResultFile, figures::Figures, json_file, lengths_of, span_s, summary, summary_name,
};
use crate::{
    plan::Plan,
    record::RequestRecord,
    report::samples::{Samples, Unit},
};

/// What one load generator contributes to LLMPerf's summary.
///
/// Merging is associative and commutative. Quantiles then come from histograms with three significant digits and are not interpolated;
/// everything else is exact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmPerfPart {
    figures: Figures<Samples>,
    /// Of all requests.
    prompt_tokens: Samples,
}

impl LlmPerfPart {
    /// Of these requests (the warm-up's left out by who calls).
    #[must_use]
    pub fn new<'a>(records: impl IntoIterator<Item = &'a RequestRecord>) -> Self {
        let records: Vec<RequestRecord> = records.into_iter().copied().collect();
        let responses: Vec<_> = records.iter().map(|record| Response::new(record, None)).collect();
        let prompt_tokens = records.iter().map(|record| f64::from(record.prompt_tokens));
        Self {
            figures: Figures::in_histograms(&responses, span_s(&records)),
            prompt_tokens: Samples::of(Unit::Tokens, prompt_tokens),
        }
    }

    /// Adds another part.
    pub fn merge(&mut self, other: &Self) {
        self.figures.merge(&other.figures);
        self.prompt_tokens.merge(&other.prompt_tokens);
    }

    /// `{model}_{mean_in}_{mean_out}_summary.json` of a plan that was carried out in parts; `timestamp_s` as in [`Parameters`].
    #[must_use]
    pub fn summary(&self, plan: &Plan, timestamp_s: i64) -> ResultFile {
        let prompts = || lengths_of(self.prompt_tokens.moments());
        let answers = || lengths_of(self.figures.number_output_tokens.moments());
        let parameters = Parameters::with(plan, prompts, answers, timestamp_s);
        let name = summary_name(&parameters);
        let summary = summary(&name, &parameters, &self.figures);
        json_file(name, &summary)
    }
}
