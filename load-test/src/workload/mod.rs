//! The prompts of a run. All are made before the run, so that nothing is tokenised while it measures.
//!
//! The same plan gives the same prompts on any number of cores. Each generated prompt has a random stream of its own, so prompt i
//! does not depend on the number of prompts.

mod dataset;
mod error;
mod exact_length;
mod parallel;
mod prompt_statistics;
mod random;
mod sonnets;
mod trace;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use llm_client::{Message, Prompt, Role};
use rand::RngExt;

pub use self::{
    error::{FilePosition, WorkloadError},
    prompt_statistics::{PromptStatistics, TokenRange},
};
use crate::{
    correctness,
    plan::{Load, Plan, Workload},
    tokens::Tokenizer,
};

/// All requests of a run.
#[derive(Debug, Clone)]
pub struct PreparedWorkload {
    /// The requests; request i uses entry i modulo their number. Never empty.
    pub requests: Arc<[PreparedRequest]>,
    /// When each request of a recorded workload was sent, since the first; ascending, one for each request.
    pub offsets: Option<Arc<[Duration]>>,
    /// Statistics of the prompts, for the report.
    pub prompt_statistics: PromptStatistics,
}

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedRequest {
    /// The prompt.
    pub prompt: PromptText,
    /// Tokens of the prompt's texts, without those that the server's chat template adds.
    pub prompt_tokens: u32,
    /// Most tokens of the answer; `None` where it is not limited.
    pub max_tokens: Option<u32>,
    /// The number that a correct answer contains (see [`correctness`]).
    pub expected: Option<u32>,
}

/// A prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptText {
    /// A single text.
    Text(String),
    /// A conversation.
    Messages(Vec<ChatMessage>),
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatMessage {
    /// The role of its author.
    pub role: Role,
    /// Its text.
    pub content: String,
}

impl PromptText {
    /// Calls `encode` with the prompt in the client's form.
    pub fn with_prompt<T>(&self, encode: impl FnOnce(Prompt<'_>) -> T) -> T {
        match self {
            Self::Text(text) => encode(Prompt::Text(text)),
            Self::Messages(messages) => {
                let messages = messages.iter().map(|message| Message {
                    role: message.role,
                    content: &message.content,
                });
                encode(Prompt::Messages(&messages.collect::<Vec<_>>()))
            }
        }
    }

    /// The texts, in order.
    fn texts(&self) -> impl Iterator<Item = &str> {
        let (text, messages) = match self {
            Self::Text(text) => (Some(text.as_str()), &[][..]),
            Self::Messages(messages) => (None, messages.as_slice()),
        };
        text.into_iter()
            .chain(messages.iter().map(|message| message.content.as_str()))
    }

    fn tokens(&self, tokenizer: &Tokenizer) -> Result<u32, WorkloadError> {
        let mut tokens = 0_u32;
        for text in self.texts() {
            tokens = tokens.saturating_add(tokenizer.count(text)?);
        }
        Ok(tokens)
    }
}

/// The result of generating or reading a workload.
#[derive(Default)]
struct GeneratedRequests {
    requests: Vec<PreparedRequest>,
    offsets: Option<Vec<Duration>>,
    notes: Vec<String>,
}

/// Makes all prompts of a run, or reads them from the file that the plan names. At most as many as the run may send.
///
/// # Errors
///
/// Where lengths or the file are not valid, or the tokenizer cannot encode a text.
pub fn prepare(plan: &Plan, tokenizer: &Tokenizer) -> Result<PreparedWorkload, WorkloadError> {
    let most = plan
        .stop
        .max_requests
        .map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let most = most.max(1);
    let made = match &plan.workload {
        Workload::Sonnets {
            input_tokens,
            output_tokens,
            shared_prefix_tokens,
            distinct_prompts,
        } => {
            let lengths = sonnets::PromptLengths {
                input: *input_tokens,
                output: *output_tokens,
                shared_prefix: *shared_prefix_tokens,
            };
            let count = most.min(distinct_prompts.get() as usize);
            sonnets::prompts(lengths, count, plan.seed, tokenizer)?
        }
        Workload::Dataset { path, output_tokens } => {
            dataset::prompts(path, *output_tokens, most, plan.seed, tokenizer)?
        }
        Workload::Trace { path } => trace::prompts(path, trace_end(plan), most, plan.seed, tokenizer)?,
        Workload::Correctness => questions(most.min(correctness::LARGEST as usize), plan.seed, tokenizer)?,
    };
    Ok(PreparedWorkload {
        prompt_statistics: prompt_statistics::of(&made.requests, made.notes, tokenizer)?,
        requests: made.requests.into(),
        offsets: made.offsets.map(Into::into),
    })
}

/// The time in the trace after which no request is sent.
fn trace_end(plan: &Plan) -> Duration {
    match plan.load {
        Load::Trace { speed, .. } => {
            Duration::try_from_secs_f64(plan.stop.send_for.as_secs_f64() * speed).unwrap_or(Duration::MAX)
        }
        Load::Closed { .. } | Load::Open { .. } => Duration::MAX,
    }
}

fn questions(count: usize, seed: u64, tokenizer: &Tokenizer) -> Result<GeneratedRequests, WorkloadError> {
    let question = |index| {
        let number =
            random::stream(seed, random::Purpose::Prompt, index).random_range(0..=correctness::LARGEST);
        let prompt = PromptText::Text(correctness::question(number));
        Ok::<_, WorkloadError>(PreparedRequest {
            prompt_tokens: prompt.tokens(tokenizer)?,
            prompt,
            max_tokens: None,
            expected: Some(number),
        })
    };
    let requests = parallel::in_order(count, |index| question(index as u64))?;
    Ok(GeneratedRequests {
        requests,
        ..GeneratedRequests::default()
    })
}
