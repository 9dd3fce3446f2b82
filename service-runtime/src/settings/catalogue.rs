/// The documentation of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Variable {
    /// The environment variable.
    pub name: &'static str,
    /// Its default, in words where it is not a value.
    pub default: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

const fn variable(name: &'static str, default: &'static str, meaning: &'static str) -> Variable {
    Variable {
        name,
        default,
        meaning,
    }
}

/// Every variable that any program of llm-bench reads. A test holds `.env.sample` against it.
pub const CATALOGUE: &[Variable] = &[
    variable(
        "DATABASE_URL",
        "SQLite in the data directory",
        "postgres://user:password@host:port/database or sqlite:///path",
    ),
    variable(
        "POSTGRES_HOST",
        "none",
        "instead of DATABASE_URL, with the four below",
    ),
    variable("POSTGRES_PORT", "5432", ""),
    variable("POSTGRES_USER", "postgres", ""),
    variable("POSTGRES_PASSWORD", "none", ""),
    variable("POSTGRES_DB", "llm_bench", ""),
    variable(
        "DATABASE_MAX_CONNECTIONS",
        "10",
        "connections of each service's pool",
    ),
    variable(
        "MAX_RETRIES",
        "5",
        "attempts after the first of a PostgreSQL operation that failed for a passing reason; no effect on SQLite, \
         which waits for locks itself",
    ),
    variable(
        "RETRY_DELAY_MS",
        "200",
        "milliseconds before the first of them; doubles each time, with jitter; no effect on SQLite",
    ),
    variable(
        "MIGRATE_AT_START",
        "true",
        "apply missing migrations at start, under a lock",
    ),
    variable(
        "AMQP_URL",
        "in-process",
        "amqp://user:password@host:port/vhost or amqps://…",
    ),
    variable(
        "RABBITMQ_HOST",
        "none",
        "instead of AMQP_URL, with the three below",
    ),
    variable("RABBITMQ_PORT", "5672", ""),
    variable("RABBITMQ_USER", "guest", ""),
    variable("RABBITMQ_PASSWORD", "guest", ""),
    variable(
        "RABBITMQ_QUEUE",
        "benchmarking_service",
        "the queue of batches; <queue>.dead holds the dead letters",
    ),
    variable(
        "LLM_MODELS_STR",
        "four well-known LLMs",
        "comma-separated names, registered when there is no LLM yet",
    ),
    variable(
        "NUM_DATA_POINTS",
        "1000",
        "values per (LLM, metric) and tick, 1 to 100000",
    ),
    variable(
        "RANDOM_SEED",
        "drawn at the first start, stored and logged",
        "0 to 18446744073709551615",
    ),
    variable(
        "SIMULATION_INTERVAL",
        "3600",
        "seconds between ticks; fractions allowed",
    ),
    variable("SIMULATION_DISTRIBUTION", "realistic", "or uniform"),
    variable(
        "SIMULATION_HTTP_ADDR",
        "127.0.0.1:8001",
        "/healthz, /readyz and /metrics of the simulation service",
    ),
    variable("HTTP_ADDR", "127.0.0.1:8000", "the API of the benchmark service"),
    variable("API_KEY", "none", "a key with every scope, 16 characters or more"),
    variable(
        "API_KEY_PEPPER",
        "none",
        "keys the hashes of stored API keys, 32 characters or more; needed for `llm-bench keys`",
    ),
    variable(
        "ANONYMOUS_READ",
        "true for `llm-bench up` on loopback with the embedded database, else false",
        "answer reading requests without a key",
    ),
    variable(
        "RANKING_SOURCE",
        "simulated",
        "measured, imported or all: what rankings show where a request does not say",
    ),
    variable(
        "RATE_LIMIT_PER_SECOND",
        "1000 for what asks the database; no limit for `llm-bench up` on loopback with the embedded database",
        "requests a second of each key or address, of every kind; 0 turns the limit off",
    ),
    variable(
        "SHUTDOWN_GRACE_SECONDS",
        "0",
        "from SIGTERM, when /readyz begins to refuse, to the end of listening, 0 to 300; as long as a load balancer needs \
         to notice",
    ),
    variable(
        "RECONCILE_INTERVAL_SECONDS",
        "60",
        "between two passes of the reconciler, 1 to 86400: it sends again what the broker lost, and audits statistics",
    ),
    variable(
        "RECONCILE_GRACE_SECONDS",
        "300",
        "how old a stored batch may be that is not counted, 1 to 86400; 12 times that while messages wait in the queue",
    ),
    variable(
        "RETENTION_DAYS",
        "none: batches are kept for ever",
        "counted batches older than this are deleted, their hourly statistics stay; 1 to 36500",
    ),
    variable("LOG_FILE", "none", "append logs to this file"),
    variable("CONSOLE_LOGGING", "true", "log to standard error"),
    variable(
        "RUST_LOG",
        "info",
        "what is logged: tracing-subscriber's filter syntax",
    ),
    variable("LOG_FORMAT", "pretty on a terminal, else json", "pretty or json"),
    variable(
        "DATA_DIR",
        "the platform's data directory",
        "the embedded database and keys",
    ),
];

/// Variables of other products that `llm-bench load-test` reads. They are documented like ours. A similar name is not refused,
/// because those products have further variables.
pub const OTHERS: &[Variable] = &[
    variable(
        "OPENAI_API_BASE",
        "https://api.openai.com/v1",
        "an OpenAI-compatible API to load-test; OPENAI_BASE_URL where it is not set",
    ),
    variable("OPENAI_API_KEY", "none", "its key"),
    variable(
        "ANTHROPIC_API_BASE",
        "https://api.anthropic.com",
        "an API like Anthropic's to load-test; ANTHROPIC_BASE_URL where it is not set",
    ),
    variable("ANTHROPIC_API_KEY", "none", "its key"),
    variable(
        "HF_TOKEN",
        "the login of the Hugging Face hub's own tools",
        "for tokenizers that are not public",
    ),
    variable(
        "MLFLOW_TRACKING_URI",
        "none",
        "the MLflow server that --ml-repo logs to",
    ),
    variable("MLFLOW_TRACKING_USERNAME", "none", "with a password"),
    variable("MLFLOW_TRACKING_PASSWORD", "none", ""),
    variable("MLFLOW_TRACKING_TOKEN", "none", "instead of user and password"),
];

/// Prefixes that only llm-bench uses. A variable with such a prefix that is not in the catalogue is refused.
const OWN_PREFIXES: &[&str] = &[
    "SIMULATION_",
    "NUM_DATA_",
    "LLM_MODELS_",
    "RANKING_",
    "RATE_LIMIT_",
    "API_KEY_",
    "ANONYMOUS_",
    "RECONCILE_",
    "RETENTION_",
    "SHUTDOWN_GRACE_",
];

/// Variables of other products whose names are similar to ours.
const FOREIGN: &[&str] = &["RABBITMQ_PASS", "POSTGRES_PASS", "RUST_LOG_STYLE"];

/// Whether the variable is one of llm-bench's own.
pub(super) fn is_ours(name: &str) -> bool {
    CATALOGUE.iter().any(|variable| variable.name == name)
}

/// Whether a program of llm-bench reads the variable.
pub(super) fn is_read(name: &str) -> bool {
    is_ours(name) || OTHERS.iter().any(|variable| variable.name == name)
}

/// The variable that `name` is probably a misspelling of; `None` where `name` is known or not similar to one of ours.
pub(super) fn probably_meant(name: &str) -> Option<&'static str> {
    const FARTHEST: usize = 2;
    const SHORTEST: usize = 8;
    if FOREIGN.contains(&name) || is_read(name) {
        return None;
    }
    let nearest = CATALOGUE
        .iter()
        .map(|variable| (strsim::damerau_levenshtein(variable.name, name), variable.name))
        .min()?;
    let near = name.len() >= SHORTEST && name.contains('_') && nearest.0 <= FARTHEST;
    let ours = OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    (near || ours).then_some(nearest.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_variables_are_recognised_and_foreign_ones_left_alone() {
        assert_eq!(
            probably_meant("SIMULATION_INTERVALL"),
            Some("SIMULATION_INTERVAL")
        );
        assert_eq!(probably_meant("RABBITMQ_QEUE"), Some("RABBITMQ_QUEUE"));
        assert_eq!(probably_meant("NUM_DATA_POINT"), Some("NUM_DATA_POINTS"));
        for foreign in [
            "PATH",
            "HOME",
            "RABBITMQ_NODENAME",
            "POSTGRES_INITDB_ARGS",
            "DATA",
            "RABBITMQ_DEFAULT_USER",
            "OPENAI_API_KEY",
            "OPENAI_API_KEYS",
            "OPENAI_BASE_URL",
            "OPENAI_API_TYPE",
            "ANTHROPIC_AUTH_TOKEN",
            "ANTHROPIC_BASE_URL",
            "HF_HOME",
            "HF_TOKENS",
            "HF_TOKEN_PATH",
            "MLFLOW_TRACKING_URL",
            "MLFLOW_RUN_ID",
        ] {
            assert_eq!(probably_meant(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn the_sample_file_lists_exactly_these_variables() {
        let sample = include_str!("../../../.env.sample");
        let mut listed: Vec<&str> = sample
            .lines()
            .filter_map(|line| line.trim_start_matches("# ").split_once('='))
            .map(|(name, _)| name)
            .filter(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
            .collect();
        let mut catalogued: Vec<&str> = CATALOGUE
            .iter()
            .chain(OTHERS)
            .map(|variable| variable.name)
            .collect();
        listed.sort_unstable();
        catalogued.sort_unstable();
        assert_eq!(listed, catalogued);
    }
}
