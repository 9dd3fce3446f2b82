use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use benchmark_service::{Service as BenchmarkService, Settings as BenchmarkSettings};
use load_test::{
    journal,
    plan::Plan,
    publish::{
        BatchDestination, FinishedRequestQueue, HttpDestination, LivePublisher, OutboxDestination,
        PublishError, PublishedTotals, RUN_FILE, RequestFilter, RunFile, RunOrigin, live_publisher, resume,
    },
    record::RequestRecord,
};
use service_runtime::settings::registry_seed;
use shared_types::Invalid;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{
    options::LoadTest,
    terminal::{note, print_result},
};
use crate::{
    assembly::Assembly,
    context::{Context, UsageError},
};

/// How long a destination may be unavailable once the run is over.
const PATIENCE: Duration = Duration::from_secs(60);

/// The task that publishes while the run goes on.
type Following = JoinHandle<(LivePublisher, Result<(), PublishError>)>;

/// Publishes a run's values into the pipeline.
pub(super) struct Publisher {
    origin: RunOrigin,
    plan: Plan,
    destination: Arc<dyn BatchDestination>,
    /// The parts of the pipeline that run in this process; `None` where a service has them.
    assembly: Option<Assembly>,
    ended: CancellationToken,
    following: Option<Following>,
    clock: Arc<dyn shared_types::Clock>,
}

impl Publisher {
    /// Connects to where `--publish` says; `None` where it was not given.
    pub(super) async fn connect(
        options: &LoadTest,
        context: &Context,
        plan: &Plan,
        run_id: &str,
    ) -> anyhow::Result<Option<Self>> {
        let Some(target) = &options.results.publish else {
            return Ok(None);
        };
        if options.results_dir.is_empty() {
            note(
                "without --results-dir, what is measured and not published yet is lost if this process is killed",
            );
        }
        let mut origin = RunOrigin::new(plan, run_id).map_err(UsageError)?;
        let (destination, assembly) = destination(target.as_deref(), context).await?;
        origin.left_out = destination
            .register_metrics()
            .await
            .context("registering the metrics of a load test")?;
        Ok(Some(Self {
            origin,
            plan: plan.clone(),
            destination,
            assembly,
            ended: CancellationToken::new(),
            following: None,
            clock: Arc::clone(&context.clock),
        }))
    }

    /// Starts to publish the requests that the journal puts into the queue.
    pub(super) fn begin(
        &mut self,
        journal: &journal::JournalSettings,
    ) -> anyhow::Result<FinishedRequestQueue> {
        let filter = RequestFilter::new(&self.plan, journal.started);
        let (queue, mut publisher) = live_publisher(
            self.origin.clone(),
            filter,
            journal.directory.as_deref(),
            Arc::clone(&self.clock),
        )?;
        let (destination, ended) = (Arc::clone(&self.destination), self.ended.clone());
        let following = tokio::spawn(async move {
            let followed = publisher.follow(destination.as_ref(), &ended).await;
            (publisher, followed)
        });
        self.following = Some(following);
        Ok(queue)
    }

    /// Publishes the rest and disconnects. `records` are all of the run's; `None` where the run failed.
    pub(super) async fn finish(self, records: Option<&[RequestRecord]>) -> anyhow::Result<PublishedTotals> {
        self.ended.cancel();
        let published = match (self.following, records) {
            (Some(following), Some(records)) => {
                publish_rest(following, self.destination.as_ref(), records).await
            }
            _ => Ok(PublishedTotals::default()),
        };
        let disconnected = match self.assembly {
            Some(assembly) => disconnect(assembly).await,
            None => Ok(()),
        };
        published.and_then(|published| disconnected.map(|()| published))
    }
}

async fn publish_rest(
    following: Following,
    destination: &dyn BatchDestination,
    records: &[RequestRecord],
) -> anyhow::Result<PublishedTotals> {
    let (end, followed) = following.await?;
    followed?;
    Ok(end.finish(destination, records, PATIENCE).await?)
}

/// A service at a URL, or the database and the broker of DATABASE_URL and AMQP_URL. With an embedded broker this process counts the
/// batches, too.
async fn destination(
    url: Option<&str>,
    context: &Context,
) -> anyhow::Result<(Arc<dyn BatchDestination>, Option<Assembly>)> {
    if let Some(url) = url {
        let key = context.variables.secret("API_KEY", 1).map_err(UsageError)?;
        return match HttpDestination::new(url, key) {
            Ok(destination) => Ok((Arc::new(destination), None)),
            Err(PublishError::Invalid(invalid)) => Err(UsageError(invalid).into()),
            Err(error) => Err(error.into()),
        };
    }
    let storage = context.storage().await?;
    let seed = registry_seed(&context.variables).map_err(UsageError)?;
    storage.seed(&seed, context.clock.now()).await?;
    let assembly = Assembly::of(context, storage)?;
    let destination = OutboxDestination::new(
        assembly.outbox.clone(),
        Arc::clone(&assembly.storage),
        Arc::clone(&context.clock),
    );
    if context.embedded_broker() {
        let settings = BenchmarkSettings {
            http_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..BenchmarkSettings::read(&context.variables).map_err(UsageError)?
        };
        BenchmarkService::build(settings, assembly.for_benchmark(), &assembly.life)?.start();
    }
    Ok((Arc::new(destination), Some(assembly)))
}

/// Waits until everything that was stored is published, then disconnects.
async fn disconnect(assembly: Assembly) -> anyhow::Result<()> {
    let storage = Arc::clone(&assembly.storage);
    let sent = tokio::time::timeout(PATIENCE, crate::commands::simulate::until_sent(storage.as_ref())).await;
    assembly.end().await?;
    sent.context("stored, but not all published: is the broker up? A service publishes the rest")?
}

/// `llm-bench publish`: publishes the rest of a run that was killed.
pub(crate) async fn resume_publishing(
    options: &crate::cli::Publish,
    context: &Context,
) -> anyhow::Result<()> {
    if !options.results_dir.join(RUN_FILE).is_file() {
        let found = format!("{} without {RUN_FILE}", options.results_dir.display());
        let expected = "the results directory of a load test";
        return Err(UsageError(Invalid::new("RESULTS_DIR", found, expected)).into());
    }
    if let Some(share) = RunFile::read(&options.results_dir).ok().and_then(|run| run.share) {
        let found = format!("share {share} of a run in {}", options.results_dir.display());
        let expected = "a whole run: `llm-bench merge --publish` with the results of all shares makes one";
        return Err(UsageError(Invalid::new("RESULTS_DIR", found, expected)).into());
    }
    let published = publish_directory(&options.results_dir, options.url.as_deref(), context).await?;
    print_result(&format!(
        "published {} values in {} batches; what had arrived before counts once",
        published.values, published.batches
    ));
    Ok(())
}

/// Publishes what a results directory holds and is not published yet.
pub(super) async fn publish_directory(
    results_dir: &Path,
    url: Option<&str>,
    context: &Context,
) -> anyhow::Result<PublishedTotals> {
    let (destination, assembly) = destination(url, context).await?;
    let resumed = resume(results_dir, destination.as_ref(), context.clock.now(), PATIENCE).await;
    if let Some(assembly) = assembly {
        disconnect(assembly).await?;
    }
    Ok(resumed?)
}
