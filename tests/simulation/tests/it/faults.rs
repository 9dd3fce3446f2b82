use std::{collections::BTreeMap, time::Duration};

use shared_types::BatchId;

use crate::random::Random;

/// How often a single call goes wrong, in per mille of the calls, and what is wrong for longer.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    pub(crate) database: DatabaseFaults,
    pub(crate) broker: BrokerFaults,
    /// What a call takes at the most, each way.
    pub(crate) latency: Duration,
    /// Some calls take up to this.
    pub(crate) slowest: Duration,
    pub(crate) slow: u32,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct DatabaseFaults {
    pub(crate) unavailable_before: u32,
    pub(crate) ambiguous_commit: u32,
    pub(crate) partial_record: u32,
    pub(crate) permanent: u32,
    /// Every call fails until then (virtual time since the start).
    pub(crate) away_until: Duration,
    /// Every write is refused permanently until then: a lost permission.
    pub(crate) read_only_until: Duration,
    /// Batches that no transaction with them passes until then.
    pub(crate) refused_until: BTreeMap<BatchId, Duration>,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct BrokerFaults {
    pub(crate) publish_lost: u32,
    pub(crate) confirm_lost: u32,
    pub(crate) duplicated: u32,
    pub(crate) reordered: u32,
    pub(crate) settlement_lost: u32,
    pub(crate) settlement_unconfirmed: u32,
    /// Messages that wait, beyond which the queue refuses; 0 is no limit.
    pub(crate) capacity: usize,
    pub(crate) down_until: Duration,
    /// Nothing is delivered until then; publishing goes on, and the queue grows.
    pub(crate) consumers_away_until: Duration,
    pub(crate) blocked_until: Duration,
}

impl Faults {
    /// Each kind of fault in about half of the seeds, rare in some and frequent in others.
    pub(crate) fn drawn(random: &mut Random) -> Self {
        let mut rate = |most: usize| {
            if random.chance(500) {
                u32::try_from(random.between(1, most)).expect("at most 1000")
            } else {
                0
            }
        };
        let mut faults = Self {
            database: DatabaseFaults {
                unavailable_before: rate(150),
                ambiguous_commit: rate(250),
                partial_record: rate(200),
                permanent: rate(60),
                ..DatabaseFaults::default()
            },
            broker: BrokerFaults {
                publish_lost: rate(200),
                confirm_lost: rate(300),
                duplicated: rate(200),
                reordered: rate(500),
                settlement_lost: rate(200),
                settlement_unconfirmed: rate(100),
                ..BrokerFaults::default()
            },
            slow: rate(100),
            latency: Duration::ZERO,
            slowest: Duration::from_secs(8),
        };
        faults.latency = Duration::from_millis(*random.pick(&[0, 5, 40]));
        if random.chance(300) {
            faults.broker.capacity = random.between(1, 6);
        }
        faults
    }
}
