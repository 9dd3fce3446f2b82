use std::{net::SocketAddr, time::Duration};

use service_runtime::settings::{Variables, registry_seed};
use shared_types::{Invalid, MAX_VALUES, RegistrySeed};

use crate::generator::Shape;

/// What the simulation is told.
#[derive(Debug, Clone)]
pub struct SimulationSettings {
    /// From the start of one tick to the start of the next.
    pub interval: Duration,
    /// Values per (LLM, metric) and tick.
    pub data_points: usize,
    /// The seed; where there is none, one is drawn at the first start and stored.
    pub seed: Option<u64>,
    /// How values are distributed.
    pub shape: Shape,
    /// What an empty registry is filled with.
    pub registry: RegistrySeed,
    /// Where health and metrics are served.
    pub http_addr: SocketAddr,
    /// Whether missing migrations are applied at start.
    pub migrate_at_start: bool,
}

impl SimulationSettings {
    /// Reads the simulation's variables.
    ///
    /// # Errors
    /// The first variable that is refused.
    pub fn read(variables: &Variables) -> Result<Self, Invalid> {
        Ok(Self {
            interval: interval(variables)?,
            data_points: variables
                .parsed("NUM_DATA_POINTS", "a whole number from 1 to 100000", |n| {
                    (1..=MAX_VALUES).contains(n)
                })?
                .unwrap_or(1000),
            seed: variables.parsed(
                "RANDOM_SEED",
                "a whole number from 0 to 18446744073709551615",
                |_| true,
            )?,
            shape: variables
                .parsed("SIMULATION_DISTRIBUTION", "realistic or uniform", |_| true)?
                .unwrap_or(Shape::Realistic),
            registry: registry_seed(variables)?,
            http_addr: variables
                .parsed(
                    "SIMULATION_HTTP_ADDR",
                    "an address and port such as 127.0.0.1:8001",
                    |_| true,
                )?
                .unwrap_or(SocketAddr::from(([127, 0, 0, 1], 8001))),
            migrate_at_start: variables.flag("MIGRATE_AT_START")?.unwrap_or(true),
        })
    }
}

fn interval(variables: &Variables) -> Result<Duration, Invalid> {
    const HOUR: Duration = Duration::from_secs(3600);
    const SHORTEST: f64 = 0.001;
    const LONGEST: f64 = 365.0 * 86_400.0;
    let expected = "seconds from 0.001 to 31536000; fractions allowed";
    let seconds = variables.parsed("SIMULATION_INTERVAL", expected, |s: &f64| {
        (SHORTEST..=LONGEST).contains(s)
    })?;
    Ok(seconds.map_or(HOUR, Duration::from_secs_f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, value: &str) -> Result<SimulationSettings, Invalid> {
        SimulationSettings::read(&Variables::from_map([(name.to_owned(), value.to_owned())])?)
    }

    #[test]
    fn defaults_are_those_of_the_documentation() {
        let settings = read("LOG_FILE", "").unwrap();
        assert_eq!(
            (settings.interval, settings.data_points, settings.seed),
            (Duration::from_secs(3600), 1000, None)
        );
        assert_eq!(settings.registry.llms.len(), 4);
    }

    #[test]
    fn refusals_name_the_variable() {
        for (name, value) in [
            ("SIMULATION_INTERVAL", "0"),
            ("SIMULATION_INTERVAL", "-5"),
            ("SIMULATION_INTERVAL", "NaN"),
            ("SIMULATION_INTERVAL", "soon"),
            ("NUM_DATA_POINTS", "0"),
            ("NUM_DATA_POINTS", "1e3"),
            ("RANDOM_SEED", "-1"),
            ("SIMULATION_DISTRIBUTION", "gaussian"),
            ("SIMULATION_HTTP_ADDR", "8001"),
            ("LLM_MODELS_STR", ", ,"),
        ] {
            let refused = read(name, value).unwrap_err().to_string();
            assert!(
                refused.starts_with(&format!("{name}: found {value}, expected ")),
                "{refused}"
            );
        }
        assert!(
            read("LLM_MODELS_STR", &"x".repeat(201))
                .unwrap_err()
                .to_string()
                .starts_with("LLM_MODELS_STR")
        );
    }

    #[test]
    fn intervals_may_be_fractions_and_names_are_trimmed_and_unique() {
        assert_eq!(
            read("SIMULATION_INTERVAL", "0.25").unwrap().interval,
            Duration::from_millis(250)
        );
        let settings = read("LLM_MODELS_STR", "A, Llama 3.1 405 ,A,").unwrap();
        let names: Vec<_> = settings
            .registry
            .llms
            .iter()
            .map(|llm| llm.name.as_str())
            .collect();
        assert_eq!(names, ["A", "Llama 3.1 405"]);
    }
}
