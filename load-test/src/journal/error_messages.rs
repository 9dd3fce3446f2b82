//! Error messages of a run in bounded memory.

use std::collections::HashMap;

/// At most this many different messages are kept; a server may put a request's id into each.
const MOST_MESSAGES: usize = 1_000;
/// At most this many bytes are kept of each message.
const LONGEST_MESSAGE: usize = 600;

/// The error messages of requests. At most 1 000 different messages of at most 600 bytes are kept, and 16 bytes for each
/// request that failed.
#[derive(Debug, Default)]
pub struct ErrorMessages {
    messages: Vec<Box<str>>,
    numbers: HashMap<Box<str>, usize>,
    of_request: HashMap<u64, usize>,
    left_out: u64,
}

impl ErrorMessages {
    /// Adds the message of request `index`.
    pub fn add(&mut self, index: u64, message: &str) {
        let message = &message[..message.floor_char_boundary(LONGEST_MESSAGE)];
        let number = match self.numbers.get(message) {
            Some(number) => *number,
            None if self.messages.len() < MOST_MESSAGES => {
                let number = self.messages.len();
                self.messages.push(message.into());
                self.numbers.insert(message.into(), number);
                number
            }
            None => {
                self.left_out += 1;
                return;
            }
        };
        self.of_request.insert(index, number);
    }

    /// The message of request `index`, where it is known.
    #[must_use]
    pub fn of(&self, index: u64) -> Option<&str> {
        self.of_request.get(&index).map(|number| &*self.messages[*number])
    }

    /// Number of failed requests whose message is not kept; `requests.jsonl` has it.
    #[must_use]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_messages_are_kept_once() {
        let mut errors = ErrorMessages::default();
        for index in 0..10_000 {
            errors.add(index, "connection refused");
        }
        assert_eq!(errors.messages.len(), 1);
        assert_eq!(errors.of(9_999), Some("connection refused"));
        assert_eq!(errors.of(10_000), None);
    }

    #[test]
    fn memory_is_bounded_where_every_message_is_another() {
        let mut errors = ErrorMessages::default();
        for index in 0..1_500 {
            errors.add(index, &format!("{index}: {}", "ü".repeat(1_000)));
        }
        assert_eq!((errors.messages.len(), errors.left_out()), (1_000, 500));
        assert!(
            errors
                .messages
                .iter()
                .all(|message| (599..=600).contains(&message.len()))
        );
        assert_eq!(errors.of(1_200), None);
    }
}
