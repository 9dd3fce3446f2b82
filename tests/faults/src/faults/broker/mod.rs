//! 7 to 12 and 17 to 22: the broker dies, refuses, forgets, and delivers what nobody should have sent.

mod absence;
mod backlog;
mod duplicates;
mod poison;
mod publisher;
mod refusal;
mod topology;

use futures::FutureExt;

use crate::{fault::Fault, pipeline::Options};

/// Publishes that the broker did not confirm, for whatever reason.
const FAILURES: &str = "llm_bench_outbox_publish_failures_total";

pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        number: 7,
        name: "broker killed -9 and restarted",
        quick: true,
        inject: |bench| absence::killed(bench).boxed_local(),
    },
    Fault {
        number: 8,
        name: "broker away for longer than any retry budget",
        quick: true,
        inject: |bench| absence::away(bench).boxed_local(),
    },
    Fault {
        number: 9,
        name: "broker closes all connections",
        quick: true,
        inject: |bench| absence::connections_closed(bench).boxed_local(),
    },
    Fault {
        number: 10,
        name: "broker's memory alarm",
        quick: true,
        inject: |bench| refusal::alarm(bench, 10, refusal::MEMORY).boxed_local(),
    },
    Fault {
        number: 11,
        name: "broker's disk alarm",
        quick: true,
        inject: |bench| refusal::alarm(bench, 11, refusal::DISK).boxed_local(),
    },
    Fault {
        number: 12,
        name: "broker frozen for longer than two heartbeats",
        quick: true,
        inject: |bench| absence::frozen(bench).boxed_local(),
    },
    Fault {
        number: 17,
        name: "queue full, further messages refused",
        quick: true,
        inject: |bench| refusal::queue_full(bench).boxed_local(),
    },
    Fault {
        number: 18,
        name: "queue purged, then deleted, with messages in it",
        quick: true,
        inject: |bench| topology::messages_lost(bench).boxed_local(),
    },
    Fault {
        number: 19,
        name: "queue re-declared as another type",
        quick: true,
        inject: |bench| topology::conflict(bench).boxed_local(),
    },
    Fault {
        number: 20,
        name: "every message three times, shuffled",
        quick: true,
        inject: |bench| duplicates::storm(bench).boxed_local(),
    },
    Fault {
        number: 21,
        name: "poison among good messages",
        quick: true,
        inject: |bench| poison::among_good_ones(bench).boxed_local(),
    },
    Fault {
        number: 22,
        name: "consumer frozen before a large backlog",
        quick: true,
        inject: |bench| backlog::before_a_frozen_consumer(bench).boxed_local(),
    },
    Fault {
        number: 22,
        name: "consumer frozen before a backlog of the largest batches",
        quick: false,
        inject: |bench| backlog::of_the_largest_batches(bench).boxed_local(),
    },
];

/// Values that flow slowly: what waits for the end of a long fault is a thousand batches or so, so that the recovery is
/// what is measured, and not how fast a debug build works off a backlog on a busy machine.
fn slowly() -> Options {
    Options::default().with("SIMULATION_INTERVAL", 1)
}
