use std::collections::BTreeMap;

/// What a simulation makes happen, or sees happening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Event {
    Crash,
    OrderlyRestart,
    /// A database call failed without an effect.
    UnavailableBefore,
    /// A database call had its effect, and its caller was told that the database is unavailable.
    AmbiguousCommit,
    /// A call that takes several transactions failed after the first.
    PartialRecord,
    PermanentFault,
    DatabaseOutage,
    PublishLost,
    ConfirmLost,
    QueueFull,
    DuplicatePublish,
    Reordered,
    Redelivered,
    /// An acknowledgement or a rejection did not reach the broker.
    SettlementLost,
    /// It did, and the consumer was told that it had not.
    SettlementUnconfirmed,
    LinkDown,
    LinkBlocked,
    ConsumeLinkLost,
    Purged,
    ClaimLapsed,
    Requeued,
    CountedOnce,
    DuplicateNotCounted,
    RefusedAsOtherContent,
    DeadLetter,
    DeadLetterReplayed,
    Swept,
}

impl Event {
    /// What must have happened in any large number of seeds.
    pub(crate) const ALL: [Self; 27] = [
        Self::Crash,
        Self::OrderlyRestart,
        Self::UnavailableBefore,
        Self::AmbiguousCommit,
        Self::PartialRecord,
        Self::PermanentFault,
        Self::DatabaseOutage,
        Self::PublishLost,
        Self::ConfirmLost,
        Self::QueueFull,
        Self::DuplicatePublish,
        Self::Reordered,
        Self::Redelivered,
        Self::SettlementLost,
        Self::SettlementUnconfirmed,
        Self::LinkDown,
        Self::LinkBlocked,
        Self::ConsumeLinkLost,
        Self::Purged,
        Self::ClaimLapsed,
        Self::Requeued,
        Self::CountedOnce,
        Self::DuplicateNotCounted,
        Self::RefusedAsOtherContent,
        Self::DeadLetter,
        Self::DeadLetterReplayed,
        Self::Swept,
    ];
}

/// How often each happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct EventCounts(BTreeMap<Event, u64>);

impl EventCounts {
    pub(crate) fn add(&mut self, event: Event, times: u64) {
        if times > 0 {
            *self.0.entry(event).or_default() += times;
        }
    }

    pub(crate) fn of(&self, event: Event) -> u64 {
        self.0.get(&event).copied().unwrap_or(0)
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        for (event, times) in &other.0 {
            self.add(*event, *times);
        }
    }
}

impl std::fmt::Display for EventCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for event in Event::ALL {
            writeln!(f, "{:>10}  {event:?}", self.of(event))?;
        }
        Ok(())
    }
}
