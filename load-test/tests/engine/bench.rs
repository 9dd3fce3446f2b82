use std::{
    num::NonZeroU32,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use llm_client::{Api, Endpoint, Prompt};
use load_test::{
    plan::{Lengths, Load, Plan, Slo, Stop, Workload},
    record::{Class, FinishedRequest, RequestRecord},
    run::{
        EncodedRequest, Progress, ProgressSnapshot, Recording, RunError, RunInputs, RunMeasurements, Texts,
        run_share,
    },
    share::Share,
};
use mock_llm::{MockLlm, Settings};
use shared_types::SystemClock;
use test_patience::{patience, until_blocking};
use tokio_util::sync::CancellationToken;

/// A run to be made, and its server.
pub(crate) struct Bench {
    pub(crate) plan: Plan,
    pub(crate) base_url: String,
    /// Of the requests, in their order.
    pub(crate) max_tokens: Vec<u32>,
    pub(crate) trace: Vec<Duration>,
    pub(crate) recording: Recording,
    pub(crate) cancel: CancellationToken,
    pub(crate) progress: Arc<Progress>,
    pub(crate) share: Share,
}

/// A run that is under way.
struct Running {
    share: Share,
    ended: mpsc::Receiver<Result<RunMeasurements, RunError>>,
    collector: thread::JoinHandle<Vec<FinishedRequest>>,
    progress: Arc<Progress>,
}

/// A run that was made.
pub(crate) struct Ran {
    pub(crate) measurements: RunMeasurements,
    /// In the order of the schedule.
    pub(crate) finished: Vec<FinishedRequest>,
}

pub(crate) fn at_once() -> Settings {
    Settings {
        ttft: Duration::ZERO,
        itl: Duration::ZERO,
        output_tokens: 4,
        ..Settings::default()
    }
}

pub(crate) fn closed(concurrency: u32) -> Load {
    Load::Closed {
        concurrency: positive(concurrency),
        ramp_up: Duration::ZERO,
    }
}

pub(crate) fn positive(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

pub(crate) fn plan(load: Load) -> Plan {
    let no_lengths = Lengths {
        mean: 1.0,
        stddev: 0.0,
    };
    Plan {
        model: "mock".into(),
        api: Api::OpenAiChat,
        workload: Workload::Sonnets {
            input_tokens: no_lengths,
            output_tokens: no_lengths,
            shared_prefix_tokens: 0,
            distinct_prompts: positive(1),
        },
        load,
        stop: Stop {
            send_for: patience(),
            max_requests: None,
            drain: patience(),
        },
        warmup_requests: 0,
        slo: Slo::default(),
        seed: 1,
        stream: true,
        request_timeout: patience(),
        client_cores: positive(2),
        sampling: serde_json::Map::new(),
        metadata: std::collections::BTreeMap::new(),
    }
}

impl Bench {
    pub(crate) fn new(server: &MockLlm, plan: Plan) -> Self {
        Self {
            progress: Arc::new(Progress::new(plan.client_cores.get() as usize)),
            plan,
            base_url: server.base_url(),
            max_tokens: vec![4],
            trace: Vec::new(),
            recording: Recording {
                texts: Texts::ToCount,
                chunk_timestamps: false,
            },
            cancel: CancellationToken::new(),
            share: Share::WHOLE,
        }
    }

    pub(crate) fn inputs(&self, journal: mpsc::SyncSender<Vec<FinishedRequest>>) -> RunInputs {
        let endpoint = Endpoint::new(self.plan.api, &self.base_url, None).unwrap();
        let request = |max_tokens: &u32| {
            let prompt = Prompt::Text("Say something.");
            EncodedRequest::new(&endpoint, &self.plan, prompt, 2, Some(*max_tokens))
        };
        RunInputs {
            requests: self.max_tokens.iter().map(request).collect(),
            plan: self.plan.clone(),
            endpoint,
            trace: self.trace.as_slice().into(),
            recording: self.recording,
            journal,
            progress: self.progress.clone(),
            cancel: self.cancel.clone(),
            clock: Arc::new(SystemClock),
        }
    }

    /// Runs, and checks what holds for every run: each scheduled request ended once, in one class, and all say the same.
    pub(crate) fn run(&self) -> Ran {
        self.try_run().unwrap()
    }

    pub(crate) fn try_run(&self) -> Result<Ran, RunError> {
        let Stop { send_for, drain, .. } = self.plan.stop;
        self.begin().end(send_for + drain + patience())
    }

    /// Runs until `holds` says so, and is cancelled then.
    pub(crate) fn run_until(&self, what: &str, holds: impl Fn(&ProgressSnapshot) -> bool) -> Ran {
        let running = self.begin();
        until_blocking(what, || holds(&self.progress.snapshot()));
        self.cancel.cancel();
        running.end(patience()).unwrap()
    }

    fn begin(&self) -> Running {
        // Small, so that the threads find it full at times.
        let (journal, batches) = mpsc::sync_channel(1);
        let inputs = self.inputs(journal);
        let (done, ended) = mpsc::channel();
        let share = self.share;
        thread::spawn(move || {
            // Nobody listens any more where the test has failed.
            let _ = done.send(run_share(inputs, share));
        });
        Running {
            share,
            ended,
            collector: thread::spawn(move || batches.into_iter().flatten().collect()),
            progress: Arc::clone(&self.progress),
        }
    }
}

impl Running {
    fn end(self, limit: Duration) -> Result<Ran, RunError> {
        let measurements = self.ended.recv_timeout(limit).expect("the run hangs")?;
        let mut finished = self.collector.join().unwrap();
        finished.sort_by_key(|finished| finished.record.index);
        let ran = Ran {
            measurements,
            finished,
        };
        ran.check(&self.progress, self.share);
        Ok(ran)
    }
}

/// What `attempt` makes of so much time, or of twice as much, and so on: a thread that the machine lets start late may find none of it left.
pub(crate) fn given_time<T>(mut time: Duration, mut attempt: impl FnMut(Duration) -> Option<T>) -> T {
    loop {
        if let Some(made) = attempt(time) {
            return made;
        }
        assert!(time < patience(), "not even in {time:?}");
        time *= 2;
    }
}

impl Ran {
    fn check(&self, progress: &Progress, share: Share) {
        let scheduled = self.measurements.scheduled;
        let indices: Vec<u64> = self.records().map(|record| record.index).collect();
        let expected: Vec<_> = (0..scheduled).map(|own| share.position(own)).collect();
        assert_eq!(indices, expected, "each exactly once");
        assert_eq!(self.measurements.classes.total(), scheduled);
        for class in Class::ALL {
            let records = self.records().filter(|record| record.class == class).count();
            assert_eq!(self.measurements.classes.of(class), records as u64, "{class:?}");
        }
        let shown = progress.snapshot();
        assert_eq!((shown.scheduled, shown.in_flight), (scheduled, 0));
        assert_eq!(shown.classes, self.measurements.classes);
        for finished in &self.finished {
            assert_eq!(
                finished.error.is_none(),
                finished.record.class == Class::Ok,
                "{finished:?}"
            );
        }
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &RequestRecord> {
        self.finished.iter().map(|finished| &finished.record)
    }

    pub(crate) fn count(&self, class: Class) -> u64 {
        self.measurements.classes.of(class)
    }
}
