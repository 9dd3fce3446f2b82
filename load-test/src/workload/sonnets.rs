//! LLMPerf's prompts: an instruction, and lines of Shakespeare's sonnets up to an exact length.

use super::{
    GeneratedRequests, PreparedRequest, PromptText, WorkloadError,
    exact_length::SonnetText,
    parallel,
    random::{Purpose, stream},
};
use crate::{plan::Lengths, tokens::Tokenizer};

/// Lengths of prompts and answers, tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct PromptLengths {
    /// Of prompts, including prefix and instruction.
    pub(super) input: Lengths,
    /// Of answers.
    pub(super) output: Lengths,
    /// Length of the prefix that all prompts share.
    pub(super) shared_prefix: u32,
}

/// Prompts 0 to `count - 1`: the shared prefix (where there is one), LLMPerf's instruction, lines of sonnets.
///
/// A prompt has as many tokens as were drawn, but at least those of prefix and instruction. LLMPerf draws again until they fit,
/// which increases the mean silently; here the notes say how many prompts were lengthened.
pub(super) fn prompts(
    lengths: PromptLengths,
    count: usize,
    seed: u64,
    tokenizer: &Tokenizer,
) -> Result<GeneratedRequests, WorkloadError> {
    lengths.input.check("input tokens")?;
    lengths.output.check("output tokens")?;
    let verse = SonnetText::new(tokenizer)?;
    let prefix = match lengths.shared_prefix {
        0 => String::new(),
        tokens => verse.fill("", &[], tokens, &mut stream(seed, Purpose::Prefix, 0))? + "\n\n",
    };
    let made = parallel::in_order(count, |index| {
        let mut rng = stream(seed, Purpose::Prompt, index as u64);
        let drawn = lengths.input.draw(&mut rng);
        let max_tokens = lengths.output.draw(&mut rng);
        let head = prefix.clone() + &instruction(max_tokens);
        let shortest = tokenizer.count(&head)?;
        let prompt_tokens = drawn.max(shortest);
        let prompt = verse.fill(&head, &[], prompt_tokens, &mut rng)?;
        let request = PreparedRequest {
            prompt: PromptText::Text(prompt),
            prompt_tokens,
            max_tokens: Some(max_tokens),
            expected: None,
        };
        Ok::<_, WorkloadError>((request, drawn < shortest))
    })?;
    let lifted = made.iter().filter(|(_, is_lifted)| *is_lifted).count();
    let note = format!(
        "{lifted} of {count} prompts were drawn shorter than their instruction (and shared prefix), and have its length"
    );
    Ok(GeneratedRequests {
        requests: made.into_iter().map(|(request, _)| request).collect(),
        notes: if lifted > 0 { vec![note] } else { Vec::new() },
        offsets: None,
    })
}

fn instruction(output_tokens: u32) -> String {
    format!(
        "Randomly stream lines from the following text with {output_tokens} output tokens. Don't generate eos tokens:\n\n"
    )
}
