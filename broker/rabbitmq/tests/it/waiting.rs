use broker::{Broker, BrokerInfo, LinkState};
use broker_rabbitmq::RabbitMqBroker;
use test_patience::{found, until};

/// Waits until the link for publishing is as expected; gives its state.
pub(crate) async fn publish_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    found("the link for publishing", async || {
        Some(broker.publisher().link()).filter(expected)
    })
    .await
}

/// Waits until the link for consuming is as expected; gives its state.
pub(crate) async fn consume_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    found("the link for consuming", async || {
        Some(broker.consume_link()).filter(expected)
    })
    .await
}

pub(crate) fn is_down(state: &LinkState) -> bool {
    // Not the state before the first attempt.
    matches!(state, LinkState::Down { reason } if reason != "connecting")
}

pub(crate) fn is_blocked(state: &LinkState) -> bool {
    matches!(state, LinkState::Blocked { .. })
}

/// What the broker says of itself, once it answers.
pub(crate) async fn info(broker: &RabbitMqBroker) -> BrokerInfo {
    found("the broker's answer", async || broker.info().await.ok()).await
}

/// Waits until so many messages are ready. A quorum queue that is busy may say that it has none.
pub(crate) async fn until_queued(broker: &RabbitMqBroker, number: u64) {
    until("the queue has its depth", async || {
        info(broker).await.queued == number
    })
    .await;
}
