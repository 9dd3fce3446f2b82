//! Understands the question of LLMPerf's correctness test.

const QUESTION: &str = "Convert the following sequence of words into a number:";
const QUESTION_END: &str = "Print the number first.";

/// The words for 0 to 19.
const SMALL: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen";
/// The words for 20, 30, … 90.
const TENS: &str = "twenty thirty forty fifty sixty seventy eighty ninety";

/// The number that `prompt` asks for, where it contains the question.
pub(crate) fn asked_for(prompt: &str) -> Option<u64> {
    let (_, words) = prompt.split_once(QUESTION)?;
    let words = words.split_once(QUESTION_END).map_or(words, |(before, _)| before);
    number(words)
}

/// The number below a billion that `words` express, such as `nine thousand, four hundred and ninety-nine`.
fn number(words: &str) -> Option<u64> {
    let (mut done, mut group, mut is_empty) = (0_u64, 0_u64, true);
    let words = words.split(|c: char| !c.is_ascii_alphabetic());
    for word in words.filter(|word| !word.is_empty()) {
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "and" => continue,
            "hundred" => group = group.checked_mul(100)?,
            "thousand" => done = done.checked_add(std::mem::take(&mut group).checked_mul(1_000)?)?,
            "million" => done = done.checked_add(std::mem::take(&mut group).checked_mul(1_000_000)?)?,
            small => group = group.checked_add(value(small)?)?,
        }
        is_empty = false;
    }
    if is_empty { None } else { done.checked_add(group) }
}

fn value(word: &str) -> Option<u64> {
    let index = |words: &str| words.split(' ').position(|each| each == word);
    let value = index(SMALL).or_else(|| index(TENS).map(|at| (at + 2) * 10));
    value.and_then(|value| value.try_into().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The words for `number` as LLMPerf's test writes them, with hyphens and `and`.
    fn spelled(number: usize) -> String {
        let small = |n: usize| SMALL.split(' ').nth(n).unwrap();
        let tens = |n: usize| TENS.split(' ').nth(n / 10 - 2).unwrap();
        let below_hundred = |n: usize| match n {
            0..20 => small(n).to_owned(),
            _ if n.is_multiple_of(10) => tens(n).to_owned(),
            _ => format!("{}-{}", tens(n), small(n % 10)),
        };
        let below_thousand = |n: usize| match (n / 100, n % 100) {
            (0, rest) => below_hundred(rest),
            (hundreds, 0) => format!("{} hundred", small(hundreds)),
            (hundreds, rest) => format!("{} hundred and {}", small(hundreds), below_hundred(rest)),
        };
        match (number / 1000, number % 1000) {
            (0, rest) => below_thousand(rest),
            (thousands, 0) => format!("{} thousand", below_thousand(thousands)),
            (thousands, rest) => {
                let joint = if rest < 100 { " and" } else { "," };
                format!(
                    "{} thousand{joint} {}",
                    below_thousand(thousands),
                    below_thousand(rest)
                )
            }
        }
    }

    #[test]
    fn every_number_of_the_test_is_understood() {
        for expected in 0..=10_000 {
            let words = spelled(expected);
            let prompt = format!("{QUESTION} {words}.\n{QUESTION_END}");
            assert_eq!(asked_for(&prompt), Some(expected as u64), "{words}");
        }
    }

    #[test]
    fn other_prompts_ask_for_no_number() {
        for prompt in [
            "",
            "one two",
            QUESTION,
            &format!("{QUESTION} blue.\n{QUESTION_END}"),
        ] {
            assert_eq!(asked_for(prompt), None, "{prompt}");
        }
    }
}
