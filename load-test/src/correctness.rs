//! LLMPerf's correctness test: does the model turn a spelled-out number into digits?

/// The largest number that is asked for; the smallest is 0.
pub const LARGEST: u32 = 10_000;

const SMALL: &str = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen \
                     seventeen eighteen nineteen";
const TENS_FROM_TWENTY: &str = "twenty thirty forty fifty sixty seventy eighty ninety";

/// The prompt, word for word as LLMPerf's.
///
/// # Panics
///
/// Where `number` is above 999 999.
pub fn question(number: u32) -> String {
    format!(
        "Convert the following sequence of words into a number: {}.\nPrint the number first.",
        words(number)
    )
}

/// Whether `answer` contains `expected`: after commas between digits are removed, one of its sequences of digits has to be equal
/// to `expected`.
///
/// As with LLMPerf, a space within a number separates: `4 321` is two numbers, and not 4321. `04321` is not 4321 either.
pub fn is_correct(answer: &str, expected: u32) -> bool {
    let expected = expected.to_string();
    let answer = without_commas(answer);
    answer
        .split(|c: char| !c.is_ascii_digit())
        .any(|run| run == expected)
}

fn without_commas(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let is_after_digit = kept.ends_with(|c: char| c.is_ascii_digit());
        let is_before_digit = rest.peek().is_some_and(char::is_ascii_digit);
        if c != ',' || !is_after_digit || !is_before_digit {
            kept.push(c);
        }
    }
    kept
}

/// `number` in English words as num2words spells it: `four thousand, three hundred and twenty-one`.
fn words(number: u32) -> String {
    match (number / 1000, number % 1000) {
        (0, rest) => below_thousand(rest),
        (thousands, 0) => format!("{} thousand", below_thousand(thousands)),
        (thousands, rest @ 1..100) => {
            format!(
                "{} thousand and {}",
                below_thousand(thousands),
                below_hundred(rest)
            )
        }
        (thousands, rest) => format!("{} thousand, {}", below_thousand(thousands), below_thousand(rest)),
    }
}

fn below_thousand(number: u32) -> String {
    match (number / 100, number % 100) {
        (0, rest) => below_hundred(rest),
        (hundreds, 0) => format!("{} hundred", small(hundreds)),
        (hundreds, rest) => format!("{} hundred and {}", small(hundreds), below_hundred(rest)),
    }
}

fn below_hundred(number: u32) -> String {
    match (number / 10, number % 10) {
        (0..2, _) => small(number).to_owned(),
        (tens, 0) => ten(tens).to_owned(),
        (tens, ones) => format!("{}-{}", ten(tens), small(ones)),
    }
}

fn small(number: u32) -> &'static str {
    SMALL.split(' ').nth(number as usize).unwrap_or_default()
}

fn ten(tens: u32) -> &'static str {
    TENS_FROM_TWENTY
        .split(' ')
        .nth(tens as usize - 2)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_spelled_as_num2words_does() {
        for (number, expected) in [
            (0, "zero"),
            (13, "thirteen"),
            (21, "twenty-one"),
            (100, "one hundred"),
            (110, "one hundred and ten"),
            (1000, "one thousand"),
            (1001, "one thousand and one"),
            (1100, "one thousand, one hundred"),
            (4321, "four thousand, three hundred and twenty-one"),
            (9999, "nine thousand, nine hundred and ninety-nine"),
            (10_000, "ten thousand"),
        ] {
            assert_eq!(words(number), expected);
        }
    }

    /// The hash is of what num2words 0.5.14 gives for 0 to 10 000, a line each.
    #[test]
    fn all_numbers_are_spelled_as_num2words_does() {
        let all: String = (0..=LARGEST).map(|number| words(number) + "\n").collect();
        let hash = blake3::hash(all.as_bytes()).to_hex();
        assert_eq!(
            hash.as_str(),
            "2f436edc2b4e70d506248eddf395d288d0d2bc258015a585eab0b1a35825f89d"
        );
    }

    #[test]
    fn the_question_is_llmperfs() {
        let expected =
            "Convert the following sequence of words into a number: forty-two.\nPrint the number first.";
        assert_eq!(question(42), expected);
    }

    #[test]
    fn an_answer_is_correct_where_it_has_the_number() {
        for answer in [
            "4321",
            "4,321",
            "4321.",
            "**4321**",
            "4321.0",
            "The number is 4,321, as you can see.",
            "It is 4321\nbecause four thousand is 4000",
            "4,3,2,1",
        ] {
            assert!(is_correct(answer, 4321), "{answer}");
        }
        assert!(is_correct("0", 0));
    }

    #[test]
    fn an_answer_is_wrong_where_it_has_other_numbers_or_none() {
        for answer in [
            "",
            "43210",
            "14321",
            "04321",
            "the number is 4 321",
            "4, 321",
            "4.321",
            "four thousand, three hundred and twenty-one",
            ",4321,0",
        ] {
            assert!(!is_correct(answer, 4321), "{answer}");
        }
        assert!(!is_correct("10", 0));
    }
}
