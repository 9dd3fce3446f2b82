//! Monitors the pipeline while faults are injected: the API must never show more than is stored, and no service may use more
//! memory than its cap.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::task::JoinHandle;

use crate::{
    database::{Database, Key},
    process::Process,
};

const INTERVAL: Duration = Duration::from_millis(200);
/// The time limit of one request. Short, because a frozen or disconnected server does not answer, and the faults would wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// In bytes, for a debug build. The goal for a release build is a quarter.
const MEMORY_CAP: u64 = 256 * 1024 * 1024;

/// A row of a ranking.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RankingRow {
    pub(crate) n: u64,
    pub(crate) mean: f64,
    pub(crate) stddev: Option<f64>,
}

/// The API of the benchmark service.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) url: String,
    pub(crate) key: &'static str,
    client: reqwest::Client,
}

impl Api {
    pub(crate) fn new(url: String, key: &'static str) -> anyhow::Result<Self> {
        // A new connection for each request: connections to a killed service are never reused.
        let client = reqwest::Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { url, key, client })
    }

    /// Status and body. Fails where there is no answer.
    pub(crate) async fn get(&self, path: &str) -> anyhow::Result<(u16, Value)> {
        let request = self.client.get(format!("{}{path}", self.url));
        let answer = request.header("X-API-KEY", self.key).send().await?;
        Ok((
            answer.status().as_u16(),
            answer.json().await.unwrap_or(Value::Null),
        ))
    }

    /// Status and body of a page of any service that needs no key.
    pub(crate) async fn page(&self, url: &str) -> anyhow::Result<(u16, String)> {
        let answer = self.client.get(url).send().await?;
        Ok((answer.status().as_u16(), answer.text().await?))
    }

    /// Every row of every ranking, of all sources and all time.
    pub(crate) async fn rankings(&self) -> anyhow::Result<BTreeMap<Key, RankingRow>> {
        self.rankings_within("all").await
    }

    /// Every row of every ranking of a time window, such as `7d`.
    pub(crate) async fn rankings_within(&self, window: &str) -> anyhow::Result<BTreeMap<Key, RankingRow>> {
        let path = format!("/api/v1/benchmarks/rankings?source=all&window={window}");
        let (status, answer) = self.get(&path).await?;
        ensure!(status == 200, "rankings answered {status}");
        let metrics = answer["data"].as_array().context("rankings without data")?;
        let mut rows = BTreeMap::new();
        for (metric, ranking) in metrics.iter().filter_map(Value::as_object).flatten() {
            for row in ranking.as_array().context("a ranking that is no array")? {
                let text = |field: &str| row[field].as_str().map(str::to_owned);
                let key = Key {
                    metric: metric.clone(),
                    llm: text("llm").context("a row without llm")?,
                    source: text("source").context("a row without source")?,
                };
                let figures = RankingRow {
                    n: row["n"].as_u64().context("a row without n")?,
                    mean: row["mean"].as_f64().context("a row without mean")?,
                    stddev: row["stddev"].as_f64(),
                };
                rows.insert(key, figures);
            }
        }
        Ok(rows)
    }
}

/// What the monitor has observed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observations {
    /// How often the API was compared with the database.
    pub(crate) comparisons: u64,
    /// The most resident memory of any of the services, in bytes.
    pub(crate) peak_memory: u64,
    /// Violations of invariants.
    pub(crate) violations: Vec<String>,
    /// The largest number of values that were stored of each key at once. Fewer at the end means that stored values were lost.
    pub(crate) most_stored: BTreeMap<Key, u64>,
}

/// A task that monitors the pipeline until it is ended.
#[derive(Debug)]
pub(crate) struct Monitor {
    seen: Arc<Mutex<Observations>>,
    pids: Arc<Mutex<BTreeSet<Pid>>>,
    task: JoinHandle<()>,
}

impl Monitor {
    pub(crate) fn begin(api: Api, database: Database) -> Self {
        let (seen, pids) = (
            Arc::<Mutex<Observations>>::default(),
            Arc::<Mutex<BTreeSet<Pid>>>::default(),
        );
        let task = tokio::spawn(monitor(api, database, Arc::clone(&seen), Arc::clone(&pids)));
        Self { seen, pids, task }
    }

    /// Adds the process of a service. Ended processes are skipped.
    pub(crate) fn process(&self, pid: Pid) {
        self.pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pid);
    }

    /// What was observed so far.
    pub(crate) fn seen(&self) -> Observations {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the monitor and returns what it has observed.
    pub(crate) fn end(self) -> Observations {
        self.task.abort();
        self.seen()
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn monitor(
    api: Api,
    database: Database,
    seen: Arc<Mutex<Observations>>,
    pids: Arc<Mutex<BTreeSet<Pid>>>,
) {
    loop {
        let memory = pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .filter_map(|pid| Process::peak_memory(*pid))
            .max();
        // The API first: what it shows was stored before. Either may be unreachable during a fault.
        let shown = api.rankings().await.ok();
        let stored = tokio::time::timeout(REQUEST_TIMEOUT, database.stored_values()).await;
        record(&seen, memory, shown, stored.ok().and_then(Result::ok));
        tokio::time::sleep(INTERVAL).await;
    }
}

fn record(
    seen: &Mutex<Observations>,
    memory: Option<u64>,
    shown: Option<BTreeMap<Key, RankingRow>>,
    stored: Option<BTreeMap<Key, u64>>,
) {
    let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(memory) = memory {
        if memory > MEMORY_CAP && seen.peak_memory <= MEMORY_CAP {
            seen.violations
                .push(format!("I5: {memory} bytes resident, the cap is {MEMORY_CAP}"));
        }
        seen.peak_memory = seen.peak_memory.max(memory);
    }
    let Some(stored) = stored else { return };
    if let Some(shown) = shown {
        seen.comparisons += 1;
        seen.violations.extend(excess(&shown, &stored));
    }
    for (key, values) in stored {
        let most = seen.most_stored.entry(key).or_default();
        *most = values.max(*most);
    }
}

fn excess(shown: &BTreeMap<Key, RankingRow>, stored: &BTreeMap<Key, u64>) -> Vec<String> {
    shown
        .iter()
        .filter_map(|(key, row)| {
            let stored = stored.get(key).copied().unwrap_or(0);
            (row.n > stored).then(|| format!("I6: {key:?} shows {} values, {stored} are stored", row.n))
        })
        .collect()
}
