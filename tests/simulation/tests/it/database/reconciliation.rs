use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use shared_types::BatchId;
use storage::{Audit, Hour, Pruned, Reconciliation, Requeued, Result};

use super::{
    Call, SimulatedDatabase, Tables,
    tables::{OutboxRow, RequeueRow},
    unsimulated,
};
use crate::event_counts::Event;

/// The longest pause between two requeues of a batch.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Tables {
    /// Stored, overdue and not counted; oldest first.
    fn uncounted(&self, grace: Duration, now: Duration) -> Vec<BatchId> {
        let mut uncounted: Vec<_> = self
            .batches
            .iter()
            .filter(|(id, row)| !self.ledger.contains(id) && row.recorded_at + grace <= now)
            .collect();
        uncounted.sort_by_key(|(id, row)| (row.recorded_at, **id));
        uncounted.into_iter().map(|(id, _)| *id).collect()
    }

    fn requeue_is_due(&self, id: &BatchId, grace: Duration, now: Duration) -> bool {
        !self.outbox.contains_key(id)
            && self.requeues.get(id).is_none_or(|RequeueRow { times, at }| {
                let pause = grace.saturating_mul(2_u32.saturating_pow(times - 1)).min(A_DAY);
                *at + pause <= now
            })
    }
}

#[async_trait]
impl Reconciliation for SimulatedDatabase {
    async fn requeue_uncounted(&self, grace: Duration, limit: u32) -> Result<Requeued> {
        let call = Call {
            operation: "requeue uncounted batches",
            writes: true,
            ids: &[],
        };
        self.call(call, |tables| {
            let now = self.world().elapsed();
            let uncounted = tables.uncounted(grace, now);
            let due: Vec<BatchId> = uncounted
                .iter()
                .filter(|id| tables.requeue_is_due(id, grace, now))
                .take(limit as usize)
                .copied()
                .collect();
            for id in &due {
                let row = tables
                    .requeues
                    .entry(*id)
                    .or_insert(RequeueRow { times: 0, at: now });
                *row = RequeueRow {
                    times: row.times + 1,
                    at: now,
                };
                let row = OutboxRow {
                    recorded_at: now,
                    claimed_at: None,
                };
                tables.outbox.insert(*id, row);
            }
            self.world().count_many(Event::Requeued, due.len() as u64);
            Ok(Requeued {
                uncounted: uncounted.len() as u64,
                requeued: due.len() as u64,
            })
        })
        .await
    }

    async fn audit(&self, _from: Option<Hour>, _batches: u64) -> Result<Audit> {
        unsimulated::port()
    }

    async fn prune(&self, _keep: Duration, _now: DateTime<Utc>, _limit: u32) -> Result<Pruned> {
        unsimulated::port()
    }
}
