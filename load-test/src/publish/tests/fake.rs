//! A pipeline that fails in scripted ways, and a run that is carried out against it.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use shared_types::{BatchId, ManualClock, MetricBatch};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::super::{
    BatchDestination, LivePublisher, MeasuredMetric, PublishError, PublishedTotals, RequestFilter, RunFile,
    RunOrigin, live_publisher,
};
use crate::{
    journal::{JournalSubscriber as _, REQUESTS_FILE, RequestLine},
    plan::{Load, Plan},
    record::{FinishedRequest, RequestRecord},
    report::fixtures::{at, plan},
};

/// What the pipeline does when batches are given to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum DestinationReaction {
    Takes,
    /// It did not get them, and says that it is away.
    IsAway,
    /// It took them, and the answer was lost.
    TakesAndIsAway,
    Refuses,
    /// It never answers.
    Hangs,
    /// The process that gives them is killed; they have arrived.
    TakesAndKills,
    /// The same; they have not.
    Kills,
}

/// Counts every batch once, as the real one does.
#[derive(Debug, Default)]
pub(super) struct Pipeline {
    pub(super) taken: Mutex<BTreeMap<BatchId, MetricBatch>>,
    pub(super) script: Mutex<VecDeque<DestinationReaction>>,
    /// What is done after the script.
    pub(super) afterwards: Option<DestinationReaction>,
    pub(super) left_out: Vec<MeasuredMetric>,
    pub(super) killed: Notify,
}

impl Pipeline {
    pub(super) fn scripted(script: impl IntoIterator<Item = DestinationReaction>) -> Self {
        Self {
            script: Mutex::new(script.into_iter().collect()),
            ..Self::default()
        }
    }

    pub(super) fn taken(&self) -> BTreeMap<BatchId, MetricBatch> {
        self.taken.lock().unwrap().clone()
    }

    /// All values of a metric, sorted.
    pub(super) fn values(&self, metric: MeasuredMetric) -> Vec<f64> {
        let taken = self.taken.lock().unwrap();
        let batches = taken
            .values()
            .filter(|batch| batch.metric().as_str() == metric.title());
        sorted(batches.flat_map(|batch| batch.values().to_vec()).collect())
    }

    /// Whether whoever publishes was killed before the end.
    pub(super) async fn killed_in(&self, publishing: impl Future<Output = ()>) -> bool {
        tokio::select! {
            biased;
            () = self.killed.notified() => true,
            () = publishing => false,
        }
    }

    fn take(&self, batches: &[MetricBatch]) {
        let mut taken = self.taken.lock().unwrap();
        taken.extend(batches.iter().map(|batch| (batch.id(), batch.clone())));
    }
}

pub(super) fn sorted(mut values: Vec<f64>) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    values
}

#[async_trait]
impl BatchDestination for Pipeline {
    async fn register_metrics(&self) -> Result<Vec<MeasuredMetric>, PublishError> {
        Ok(self.left_out.clone())
    }

    async fn submit(&self, batches: &[MetricBatch]) -> Result<(), PublishError> {
        assert!(!batches.is_empty(), "nothing is worth no call");
        let next = self.script.lock().unwrap().pop_front();
        let deed = next.or(self.afterwards).unwrap_or(DestinationReaction::Takes);
        if matches!(
            deed,
            DestinationReaction::Takes
                | DestinationReaction::TakesAndIsAway
                | DestinationReaction::TakesAndKills
        ) {
            self.take(batches);
        }
        let answer = |status| PublishError::Answer {
            url: "http://pipeline".to_owned(),
            status,
            detail: "on purpose".to_owned(),
        };
        match deed {
            DestinationReaction::Takes => Ok(()),
            DestinationReaction::IsAway | DestinationReaction::TakesAndIsAway => Err(answer(503)),
            DestinationReaction::Refuses => Err(answer(422)),
            DestinationReaction::Hangs => std::future::pending().await,
            DestinationReaction::TakesAndKills | DestinationReaction::Kills => {
                self.killed.notify_one();
                std::future::pending().await
            }
        }
    }
}

/// A run whose requests are given.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) directory: tempfile::TempDir,
    pub(super) plan: Plan,
    /// What ends together, and after how long.
    pub(super) chunks: Vec<(Duration, Vec<RequestRecord>)>,
    /// Tokens that are counted when the run is over, by index.
    pub(super) counted: BTreeMap<u64, u32>,
}

impl Run {
    pub(super) fn new(warmup_requests: u64, ramp_up: Duration, records: Vec<RequestRecord>) -> Self {
        let mut plan = plan();
        plan.warmup_requests = warmup_requests;
        if let Load::Closed { ramp_up: ramp, .. } = &mut plan.load {
            *ramp = ramp_up;
        }
        Self {
            directory: tempfile::tempdir().unwrap(),
            plan,
            chunks: vec![(Duration::ZERO, records)],
            counted: BTreeMap::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// All records as they are when everything is counted, in the order of the schedule.
    pub(super) fn records(&self) -> Vec<RequestRecord> {
        let ended = self.chunks.iter().flat_map(|(_, records)| records);
        let mut records: Vec<_> = ended.map(|record| self.with_count(record)).collect();
        records.sort_by_key(|record| record.index);
        records
    }

    fn with_count(&self, record: &RequestRecord) -> RequestRecord {
        RequestRecord {
            client_output_tokens: self.counted.get(&record.index).copied(),
            ..*record
        }
    }

    pub(super) fn write_run_file(&self) {
        let file = RunFile {
            run_id: "run-1".to_owned(),
            started_at: "2026-11-22T12:00:00Z".parse().unwrap(),
            plan: self.plan.clone(),
            share: None,
            batches_dated: None,
        };
        file.write(self.path()).unwrap();
    }

    /// Carries the run out as the command does; `None` where it was killed.
    pub(super) async fn carry_out(
        &self,
        destination: &Pipeline,
    ) -> Option<Result<PublishedTotals, PublishError>> {
        self.write_run_file();
        tokio::select! {
            biased;
            () = destination.killed.notified() => None,
            published = self.live(destination, Some(self.path().to_owned())) => Some(published),
        }
    }

    /// The same, without anybody who kills it.
    pub(super) async fn live(
        &self,
        destination: &Pipeline,
        results_dir: Option<PathBuf>,
    ) -> Result<PublishedTotals, PublishError> {
        let clock = Arc::new(ManualClock::at("2026-11-22T12:00:00.123456789Z".parse().unwrap()));
        let origin = RunOrigin {
            left_out: destination.left_out.clone(),
            ..RunOrigin::new(&self.plan, "run-1").unwrap()
        };
        let filter = RequestFilter::new(&self.plan, at(0));
        let (mut queue, mut publisher): (_, LivePublisher) =
            live_publisher(origin, filter, results_dir.as_deref(), clock.clone()).unwrap();
        let ended = CancellationToken::new();
        let requests = async {
            for (after, records) in &self.chunks {
                sleep(*after).await;
                clock.advance(chrono::TimeDelta::from_std(*after).unwrap());
                if results_dir.is_some() {
                    append(&self.path().join(REQUESTS_FILE), records);
                }
                queue.finished(&records.iter().map(finished).collect::<Vec<_>>());
            }
            ended.cancel();
        };
        let (followed, ()) = tokio::join!(publisher.follow(destination, &ended), requests);
        followed?;
        if results_dir.is_some() {
            let path = self.path().join(REQUESTS_FILE);
            fs::remove_file(&path).unwrap_or_default();
            for (_, records) in &self.chunks {
                let counted: Vec<_> = records.iter().map(|record| self.with_count(record)).collect();
                append(&path, &counted);
            }
        }
        publisher
            .finish(destination, &self.records(), Duration::from_secs(60))
            .await
    }
}

fn finished(record: &RequestRecord) -> FinishedRequest {
    FinishedRequest {
        record: *record,
        error: None,
        text: None,
        chunk_timestamps: None,
    }
}

/// What a killed process may leave at the end of a file.
pub(super) fn tear(path: &Path, torn: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    file.write_all(torn.as_bytes()).unwrap();
}

fn append(path: &Path, records: &[RequestRecord]) {
    for record in records {
        let line = RequestLine::new(record, None, at(0));
        tear(path, &(serde_json::to_string(&line).unwrap() + "\n"));
    }
}
