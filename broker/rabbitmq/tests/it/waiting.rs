use std::{future::Future, time::Duration};

use broker::{Broker, LinkState};
use broker_rabbitmq::RabbitMqBroker;

/// What recovery may take, and starting a server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Fails the test when the future takes too long.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_elapsed| panic!("{what}: nothing after {PATIENCE:?}"))
}

/// Waits until the link for publishing is as expected; gives its state.
pub(crate) async fn publish_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    state("the link for publishing", || broker.publisher().link(), expected).await
}

/// Waits until the link for consuming is as expected.
pub(crate) async fn consume_link(broker: &RabbitMqBroker, expected: fn(&LinkState) -> bool) -> LinkState {
    state("the link for consuming", || broker.consume_link(), expected).await
}

async fn state(what: &str, look: impl Fn() -> LinkState, expected: fn(&LinkState) -> bool) -> LinkState {
    soon(what, async {
        loop {
            let state = look();
            if expected(&state) {
                return state;
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
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
