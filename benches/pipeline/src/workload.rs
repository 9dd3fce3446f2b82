use std::collections::HashMap;

use service_runtime::settings::Variables;
use simulation_service::SimulationSettings;

/// The number of LLMs.
pub(crate) const LLMS: usize = 16;
/// The number of metrics of the standard registry.
pub(crate) const METRICS: usize = 4;
/// Batches in one tick of the simulation.
pub(crate) const BATCHES_PER_TICK: usize = LLMS * METRICS;
/// Values in one batch.
pub(crate) const VALUES: usize = 1000;

/// The simulation's settings: many LLMs, a fixed seed.
pub(crate) fn settings() -> anyhow::Result<SimulationSettings> {
    Ok(SimulationSettings::read(&Variables::from_map(variables())?)?)
}

/// The settings as environment variables.
pub(crate) fn variables() -> HashMap<String, String> {
    let llms: Vec<String> = (1..=LLMS).map(|n| format!("Model {n}")).collect();
    [
        ("LLM_MODELS_STR", llms.join(",")),
        ("RANDOM_SEED", "42".to_owned()),
        ("NUM_DATA_POINTS", VALUES.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}
