/// A fault of a simulated port itself, that breaks a promise on which exactly-once rests. Nothing in the core can make
/// up for it, so the checks must find it: this is how they are tested themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Sabotage {
    /// All promises are kept.
    #[default]
    None,
    /// The ledger calls every batch new.
    LedgerForgets,
    /// The rows of the outbox disappear with the commit that makes them.
    OutboxForgets,
    /// The broker confirms some messages and drops them.
    BrokerLosesConfirmed,
    /// The broker drops the deliveries that a dead consumer has not settled.
    BrokerForgetsUnsettled,
    /// Nobody requeues what a purge has lost.
    NoReconciler,
}
