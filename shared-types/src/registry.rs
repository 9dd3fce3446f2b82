use crate::{Bounds, Creator, Direction, Invalid, LlmName, MetricTitle, NewLlm, NewMetric, Unit};

/// What the registry is filled with once, when its tables are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct RegistrySeed {
    /// LLMs to register when there is none.
    pub llms: Vec<NewLlm>,
    /// Metrics to register when there is none.
    pub metrics: Vec<NewMetric>,
}

impl RegistrySeed {
    /// The four LLMs and four metrics that llm-bench starts with.
    ///
    /// # Errors
    /// Never in practice; the constants pass the same checks as any input.
    pub fn standard() -> Result<Self, Invalid> {
        let llms = [
            ("GPT-4o", "OpenAI"),
            ("Llama 3.1 405", "Meta"),
            ("Claude 3.5 Sonnet", "Anthropic"),
            ("Gemini 1.5Flash", "Google"),
        ];
        let metrics = [
            ("ttft", "s", 0.05, 2.0, Direction::Lower),
            ("tps", "tokens/s", 10.0, 150.0, Direction::Higher),
            ("e2e_latency", "s", 0.2, 10.0, Direction::Lower),
            ("rps", "requests/s", 1.0, 100.0, Direction::Higher),
        ];
        Ok(Self {
            llms: llms
                .into_iter()
                .map(|(name, creator)| {
                    Ok(NewLlm {
                        name: LlmName::new(name)?,
                        creator: Creator::new(creator)?,
                    })
                })
                .collect::<Result<_, Invalid>>()?,
            metrics: metrics
                .into_iter()
                .map(|(title, unit, lower, upper, better)| {
                    Ok(NewMetric {
                        title: MetricTitle::new(title)?,
                        unit: Unit::new(unit)?,
                        bounds: Bounds::new(lower, upper)?,
                        better,
                    })
                })
                .collect::<Result<_, Invalid>>()?,
        })
    }

    /// The same metrics with other LLMs. Those of the standard four keep their creator; others get `unknown`.
    #[must_use]
    pub fn with_llms(mut self, names: Vec<LlmName>) -> Self {
        let standard = std::mem::take(&mut self.llms);
        self.llms = names
            .into_iter()
            .map(|name| match standard.iter().find(|llm| llm.name == name) {
                Some(known) => known.clone(),
                None => NewLlm {
                    name,
                    creator: Creator::unknown(),
                },
            })
            .collect();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_seed_is_four_by_four() {
        let seed = RegistrySeed::standard().unwrap();
        assert_eq!((seed.llms.len(), seed.metrics.len()), (4, 4));
        let other = seed.with_llms(vec![
            LlmName::new("GPT-4o").unwrap(),
            LlmName::new("Mine").unwrap(),
        ]);
        let creators: Vec<_> = other.llms.iter().map(|llm| llm.creator.as_str()).collect();
        assert_eq!(creators, ["OpenAI", "unknown"]);
    }
}
