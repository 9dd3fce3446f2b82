use std::fmt;

/// What a service does with the database, and so what its role may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Duty {
    /// Records batches and publishes them: the simulation service.
    Producer,
    /// Counts batches, serves the API, administers the registry, and takes batches in by the API: the benchmark
    /// service.
    Consumer,
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        })
    }
}
