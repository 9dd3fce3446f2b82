//! A broker of its own virtual host, a server, and workers that use the real engine.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
    time::Duration,
};

use broker::BoxError;
use broker_rabbitmq::{RabbitMqSettings, RabbitMqShares};
use llm_client::{Api, Endpoint, Prompt};
use load_test::{
    journal::{self, Journal},
    plan::{Lengths, Load, Plan, Slo, Stop, Workload},
    record::RequestRecord,
    report::{Inputs, build::Header, model::WorkloadSection},
    run::{EncodedRequest, Progress, Recording, RunInputs, Texts, run_share},
    verdict::ErrorLimits,
    workers::{
        Contribution, CoordinateError, Coordination, CoordinatorEvent, Job, Made, Merged, Runner,
        WorkerEvent, WorkerName, coordinate, digest, serve,
    },
};
use mock_llm::{MockLlm, Settings};
use precise_time::MonotonicTime;
use shared_types::SystemClock;
use test_patience::{patience, soon, until};
use test_servers::shared_rabbitmq;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_util::sync::CancellationToken;

pub(crate) const TOKENS: u32 = 5;
const PROMPTS: usize = 7;

pub(crate) fn n(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

pub(crate) fn server() -> MockLlm {
    MockLlm::start(Settings {
        ttft: Duration::from_millis(50),
        itl: Duration::from_millis(5),
        output_tokens: TOKENS,
        ..Settings::default()
    })
    .unwrap()
}

pub(crate) async fn amqp_url() -> String {
    shared_rabbitmq().await.create_vhost().await.unwrap()
}

pub(crate) fn shares(url: &str) -> RabbitMqShares {
    let mut settings = RabbitMqSettings::new(url, "unused").unwrap();
    settings.connect_timeout = patience();
    settings.publish_timeout = patience();
    RabbitMqShares::new(settings)
}

/// The plan without an end: somebody has to stop it.
pub(crate) fn endless() -> Plan {
    let mut endless = plan();
    endless.stop.max_requests = None;
    endless.stop.send_for = Duration::from_secs(3600);
    endless
}

/// Waits until the server has been asked `more` times more than now.
pub(crate) async fn asked_more(server: &MockLlm, more: u64) {
    let before = server.stats().requests;
    until("requests", async || server.stats().requests >= before + more).await;
}

/// 40 requests, 4 of them to warm up, in 4 streams.
pub(crate) fn plan() -> Plan {
    let lengths = Lengths {
        mean: 10.0,
        stddev: 0.0,
    };
    Plan {
        model: "org/mock".to_owned(),
        api: Api::OpenAiChat,
        workload: Workload::Sonnets {
            input_tokens: lengths,
            output_tokens: lengths,
            shared_prefix_tokens: 0,
            distinct_prompts: NonZeroU32::MIN,
        },
        load: Load::Closed {
            concurrency: n(4),
            ramp_up: Duration::ZERO,
        },
        stop: Stop {
            send_for: patience(),
            max_requests: Some(40),
            drain: patience(),
        },
        warmup_requests: 4,
        slo: Slo::default(),
        seed: 1,
        stream: true,
        request_timeout: patience(),
        client_cores: NonZeroU32::MIN,
        sampling: serde_json::Map::new(),
        metadata: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn asked(plan: Plan, workers: u32) -> Coordination {
    Coordination {
        run_id: "run".to_owned(),
        plan,
        workers: n(workers),
        worker_timeout: patience(),
        tokenizer_id: None,
        calibrate: false,
        stream_usage: true,
    }
}

pub(crate) async fn coordinated(
    url: &str,
    asked: &Coordination,
    hear: impl FnMut(CoordinatorEvent<'_>) + Send,
) -> Result<Merged, CoordinateError> {
    let shares = shares(url);
    let run = coordinate(&shares, asked, &SystemClock, CancellationToken::new(), hear);
    soon("the end of the run", run).await
}

/// Carries out shares with the real engine; remembers what it recorded.
#[derive(Clone)]
pub(crate) struct TestRunner {
    pub(crate) base_url: String,
    pub(crate) prompt: &'static str,
    pub(crate) records: Arc<Mutex<Vec<RequestRecord>>>,
}

impl TestRunner {
    pub(crate) fn new(base_url: String) -> Self {
        Self {
            base_url,
            prompt: "Say something.",
            records: Arc::default(),
        }
    }

    fn endpoint(&self, plan: &Plan) -> Endpoint {
        Endpoint::new(plan.api, &self.base_url, None).unwrap()
    }
}

impl Runner for TestRunner {
    type Ready = Arc<[EncodedRequest]>;

    async fn prepare(&self, job: &Job, _stop: CancellationToken) -> Result<(Self::Ready, Made), BoxError> {
        let endpoint = self.endpoint(&job.plan);
        let request = |number: usize| {
            let text = format!("{} {number}", self.prompt);
            EncodedRequest::new(&endpoint, &job.plan, Prompt::Text(&text), 2, Some(TOKENS))
        };
        let requests: Arc<[_]> = (0..PROMPTS).map(request).collect();
        let made = Made {
            tokenizer: "words".to_owned(),
            prompts: digest(requests.iter().map(|request| &*request.body)),
            facts: serde_json::Map::new(),
        };
        Ok((requests, made))
    }

    async fn run(
        &self,
        job: &Job,
        requests: Self::Ready,
        stop: CancellationToken,
    ) -> Result<Contribution, BoxError> {
        let settings = journal::Settings {
            directory: None,
            record_chunks: false,
            started: MonotonicTime::now(),
        };
        let (journal, journalling) = Journal::start(settings, ())?;
        let inputs = RunInputs {
            plan: job.plan.clone(),
            endpoint: self.endpoint(&job.plan),
            requests,
            trace: [].into(),
            recording: Recording {
                texts: Texts::ToCount,
                chunk_stamps: false,
            },
            journal,
            progress: Arc::new(Progress::new(1)),
            cancel: stop,
            clock: Arc::new(SystemClock),
        };
        let share = job.share;
        let facts = spawn_blocking(move || run_share(inputs, share)).await??;
        let (recorded, ()) = spawn_blocking(move || journalling.finish()).await??;
        self.records.lock().unwrap().extend(&recorded.records);
        Ok(Contribution::new(&Inputs {
            header: Header {
                run_id: job.run_id.clone(),
                workload: WorkloadSection {
                    plan: job.plan.clone(),
                    tokenizer: "words".to_owned(),
                    facts: serde_json::Map::new(),
                },
                version: "0".to_owned(),
                host: "here".to_owned(),
                started_at: facts.started_at,
                calibration: None,
            },
            facts: &facts,
            recorded: &recorded,
            limits: generous(),
        }))
    }
}

/// A busy machine is no reason to fail here.
fn generous() -> ErrorLimits {
    ErrorLimits {
        floor_s: 100.0,
        ..ErrorLimits::default()
    }
}

pub(crate) fn worker_name(name: &str) -> WorkerName {
    WorkerName {
        name: name.to_owned(),
        host: "here".to_owned(),
        cores: 1,
        version: "0".to_owned(),
    }
}

/// A worker in this process. Its errors are told when it is stopped.
pub(crate) struct TestWorker {
    stop: CancellationToken,
    pub(crate) task: JoinHandle<Vec<String>>,
}

impl TestWorker {
    pub(crate) fn start(url: &str, name: &str, runner: TestRunner) -> Self {
        let (url, name, stop) = (url.to_owned(), worker_name(name), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut errors = Vec::new();
            let hear = |event: WorkerEvent<'_>| {
                if let WorkerEvent::Ended(Err(error)) = event {
                    errors.push(error.to_string());
                }
            };
            serve(&shares(&url), &runner, &name, stopped, hear).await;
            errors
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) -> Vec<String> {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}
