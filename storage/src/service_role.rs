use std::fmt;

/// What a service does with the database. It decides what the database role of the service may do there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceRole {
    /// Records batches and publishes them: the simulation service.
    Producer,
    /// Counts batches, serves the API, administers the registry, and takes batches in by the API: the benchmark
    /// service.
    Consumer,
}

impl fmt::Display for ServiceRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Producer => "producer",
            Self::Consumer => "consumer",
        })
    }
}
