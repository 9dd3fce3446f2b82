//! The conformance tests of the broker port, against the in-process broker.

use broker_in_process::InProcessBroker;

broker_conformance::conformance_tests!(async { InProcessBroker::new(64) });
