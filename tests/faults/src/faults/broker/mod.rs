//! Faults 7 to 12 and 17 to 22: the broker dies, blocks, loses messages, and delivers invalid ones.

mod absence;
mod backlog;
mod duplicates;
mod poison;
mod publisher;
mod refusal;
mod topology;

use futures::FutureExt;

use crate::{fault::Fault, pipeline::Options};

/// Counts the publishes that the broker did not confirm.
const FAILURES: &str = "llm_bench_outbox_publish_failures_total";

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 7,
        name: "broker killed -9 and restarted",
        quick: true,
        inject: |context| absence::killed(context).boxed_local(),
    },
    Fault {
        number: 8,
        name: "broker away for longer than any retry budget",
        quick: true,
        inject: |context| absence::away(context).boxed_local(),
    },
    Fault {
        number: 9,
        name: "broker closes all connections",
        quick: true,
        inject: |context| absence::connections_closed(context).boxed_local(),
    },
    Fault {
        number: 10,
        name: "broker's memory alarm",
        quick: true,
        inject: |context| refusal::alarm(context, 10, refusal::MEMORY).boxed_local(),
    },
    Fault {
        number: 11,
        name: "broker's disk alarm",
        quick: true,
        inject: |context| refusal::alarm(context, 11, refusal::DISK).boxed_local(),
    },
    Fault {
        number: 12,
        name: "broker frozen for longer than two heartbeats",
        quick: true,
        inject: |context| absence::frozen(context).boxed_local(),
    },
    Fault {
        number: 17,
        name: "queue full, further messages refused",
        quick: true,
        inject: |context| refusal::queue_full(context).boxed_local(),
    },
    Fault {
        number: 18,
        name: "queue purged, then deleted, with messages in it",
        quick: true,
        inject: |context| topology::messages_lost(context).boxed_local(),
    },
    Fault {
        number: 19,
        name: "queue re-declared as another type",
        quick: true,
        inject: |context| topology::conflict(context).boxed_local(),
    },
    Fault {
        number: 20,
        name: "every message three times, shuffled",
        quick: true,
        inject: |context| duplicates::storm(context).boxed_local(),
    },
    Fault {
        number: 21,
        name: "poison among good messages",
        quick: true,
        inject: |context| poison::among_good_ones(context).boxed_local(),
    },
    Fault {
        number: 22,
        name: "consumer frozen before a large backlog",
        quick: true,
        inject: |context| backlog::before_a_frozen_consumer(context).boxed_local(),
    },
    Fault {
        number: 22,
        name: "consumer frozen before a backlog of the largest batches",
        quick: false,
        inject: |context| backlog::of_the_largest_batches(context).boxed_local(),
    },
];

/// A slow producer. A long fault then leaves a backlog of about a thousand batches, so that the test measures the recovery, not
/// how fast a debug build works off a backlog on a busy machine.
fn slowly() -> Options {
    Options::default().with("SIMULATION_INTERVAL", 1)
}
