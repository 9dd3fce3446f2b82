//! The ports' suite, on the broker in memory.

use broker_in_process::InProcessBroker;

broker_conformance::conformance_tests!(async { InProcessBroker::new(64) });
