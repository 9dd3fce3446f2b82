//! Everything that is made before a run: the endpoint, the tokenizer, the prompts and the encoded requests.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use llm_client::{Endpoint, Prompt};
use load_test::{
    plan::Plan,
    run::EncodedRequest,
    share::Share,
    tokens::{self, Tokenizer, TokenizerError},
    workload::{self, PreparedRequest, PreparedWorkload, WorkloadError},
};
use tokio::task::spawn_blocking;

use super::{environment::Environment, options::LoadTest, terminal::note};
use crate::context::WrongInput;

/// Everything that a run needs, made before it.
pub(super) struct PreparedRun {
    pub(super) plan: Plan,
    pub(super) endpoint: Endpoint,
    pub(super) tokenizer: Arc<Tokenizer>,
    pub(super) prepared: PreparedWorkload,
    pub(super) requests: Arc<[EncodedRequest]>,
    /// Which part of the plan this process does.
    pub(super) share: Share,
}

impl PreparedRun {
    /// When a trace's requests are due; empty for other workloads.
    pub(super) fn offsets(&self) -> Arc<[Duration]> {
        self.prepared.offsets.clone().unwrap_or_default()
    }
}

/// Chooses the tokenizer, makes the prompts and encodes the requests, on other threads because it takes seconds.
pub(super) async fn prepare(
    options: &LoadTest,
    plan: Plan,
    environment: &Environment,
) -> anyhow::Result<PreparedRun> {
    let endpoint = environment.endpoint(plan.api, options.workload.no_stream_usage)?;
    note(&format!("load test of {} at {}", plan.model, endpoint.place()));
    let (tokenizer_id, hub) = (options.tokenizer_id.clone(), environment.hub());
    let share = options.sharing.share.unwrap_or(Share::WHOLE);
    let preparing = spawn_blocking(move || {
        let tokenizer =
            tokens::choose(tokenizer_id.as_deref(), &plan.model, &hub).map_err(tokenizer_error)?;
        let prepared = workload::prepare(&plan, &tokenizer).map_err(workload_error)?;
        let encode = |request: &PreparedRequest| {
            let (tokens, limit) = (request.prompt_tokens, request.max_tokens);
            let encoded = |prompt: Prompt<'_>| EncodedRequest::new(&endpoint, &plan, prompt, tokens, limit);
            request.prompt.with_prompt(encoded)
        };
        let requests = prepared.requests.iter().map(encode).collect();
        anyhow::Ok(PreparedRun {
            plan,
            endpoint,
            tokenizer: Arc::new(tokenizer),
            prepared,
            requests,
            share,
        })
    });
    let run = preparing.await.context("preparing the workload")??;
    let tokenizer = run.tokenizer.describe();
    if let Some(reason) = &tokenizer.note {
        note(&format!("tokens are counted with {}: {reason}", tokenizer.id));
    }
    Ok(run)
}

/// A tokenizer that is not what the user said is wrong input; one that cannot be downloaded now is a failure.
fn tokenizer_error(error: TokenizerError) -> anyhow::Error {
    match error {
        TokenizerError::Unknown { .. } | TokenizerError::Read { .. } | TokenizerError::Parse { .. } => {
            WrongInput(error.into()).into()
        }
        unavailable => unavailable.into(),
    }
}

/// Files and settings are the user's input.
fn workload_error(error: WorkloadError) -> anyhow::Error {
    match error {
        WorkloadError::Tokenizer(error) => error.into(),
        wrong => WrongInput(wrong.into()).into(),
    }
}
