//! Real servers: started, used, killed and cleaned up.

#![expect(
    clippy::unwrap_used,
    reason = "clippy knows the test functions as tests, but not what they call"
)]

mod cleanup;
mod external;
mod postgres;
mod processes;
mod rabbitmq;
