//! The tests that every backend of the `broker` port must pass.
//!
//! Each case takes a broker of its own with empty queues, and panics where the backend breaks a promise of the port. A backend's
//! tests instantiate all cases by [`conformance_tests!`].
//!
//! The limit of unconfirmed publishes is not tested here, because a confirmation means something else in each backend.

mod closing;
mod consuming;
mod dead_letters;
mod messages;
mod publishing;

pub use closing::{close_ends_subscriptions_and_publishing, settling_after_close_fails};
pub use consuming::{
    dropped_delivery_comes_again, given_up_next_loses_nothing, held_delivery_outlives_its_subscription,
    prefetch_bounds_the_bytes_of_what_is_unsettled, prefetch_bounds_what_is_unsettled,
    retried_message_comes_again, subscriptions_compete,
};
pub use dead_letters::{
    discarded_letters_are_gone, letters_that_share_an_id_are_told_apart,
    listing_leaves_the_letters_where_they_are, rejected_message_becomes_a_dead_letter,
    replayed_letters_are_delivered_again,
};
pub use publishing::{
    acknowledged_message_is_gone, bodies_arrive_bit_for_bit, given_up_publishes_wedge_nothing,
    thousand_concurrent_publishes_arrive_once,
};

/// Defines a test for every case. Takes an expression of a future that returns an empty broker for the test.
///
/// ```ignore
/// broker_conformance::conformance_tests!(async { MyBroker::start() });
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($broker:expr) => {
        $crate::conformance_tests! { $broker;
            acknowledged_message_is_gone
            bodies_arrive_bit_for_bit
            close_ends_subscriptions_and_publishing
            discarded_letters_are_gone
            dropped_delivery_comes_again
            given_up_next_loses_nothing
            given_up_publishes_wedge_nothing
            held_delivery_outlives_its_subscription
            letters_that_share_an_id_are_told_apart
            listing_leaves_the_letters_where_they_are
            prefetch_bounds_the_bytes_of_what_is_unsettled
            prefetch_bounds_what_is_unsettled
            rejected_message_becomes_a_dead_letter
            replayed_letters_are_delivered_again
            retried_message_comes_again
            settling_after_close_fails
            subscriptions_compete
            thousand_concurrent_publishes_arrive_once
        }
    };
    ($broker:expr; $($case:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let broker = $broker.await;
                $crate::$case(&broker).await;
                ::broker::Broker::close(&broker).await;
            }
        )*
    };
}
