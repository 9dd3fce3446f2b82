use broker::{Broker, BrokerInfo, LinkState};
use broker_rabbitmq::RabbitMqBroker;
use test_patience::{found, until};

/// Waits until the link that publishes has the expected state, and returns the state.
pub(crate) async fn publish_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    found("the link for publishing", async || {
        Some(broker.publisher().link()).filter(expected)
    })
    .await
}

/// Waits until the link that consumes has the expected state, and returns the state.
pub(crate) async fn consume_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    found("the link for consuming", async || {
        Some(broker.consume_link()).filter(expected)
    })
    .await
}

pub(crate) fn is_down(state: &LinkState) -> bool {
    // `connecting` is the state before the first attempt.
    matches!(state, LinkState::Down { reason } if reason != "connecting")
}

pub(crate) fn is_blocked(state: &LinkState) -> bool {
    matches!(state, LinkState::Blocked { .. })
}

/// The broker's version and queue depths, as soon as it answers.
pub(crate) async fn info(broker: &RabbitMqBroker) -> BrokerInfo {
    found("the broker's answer", async || broker.info().await.ok()).await
}

/// Waits until `number` messages are ready. A busy quorum queue may report 0 for a while.
pub(crate) async fn until_queued(broker: &RabbitMqBroker, number: u64) {
    until("the queue has its depth", async || {
        info(broker).await.queued == number
    })
    .await;
}
