use crate::servers::connected;

broker_conformance::conformance_tests!(connected());
