use crate::servers::connected;

broker::conformance_tests!(connected());
