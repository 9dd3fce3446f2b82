use std::collections::HashMap;

use broker::PublishError;
use lapin::{Confirmation, message::BasicReturnMessage, types::ShortString};

/// What the broker answered to one message.
#[derive(Debug)]
pub(super) struct Answer {
    /// The message's own id.
    pub(super) id: String,
    pub(super) acked: bool,
    /// A message that the broker returned, and that the client gave to this one.
    pub(super) returned: Option<Returned>,
}

#[derive(Debug)]
pub(super) struct Returned {
    id: String,
    reason: String,
}

impl Answer {
    pub(super) fn new(id: String, confirmation: Confirmation) -> Self {
        let acked = confirmation.is_ack();
        Self {
            id,
            acked,
            returned: confirmation.take_message().map(Returned::from),
        }
    }
}

impl From<BasicReturnMessage> for Returned {
    fn from(message: BasicReturnMessage) -> Self {
        let id = message
            .properties
            .message_id()
            .as_ref()
            .map(ShortString::to_string);
        Self {
            id: id.unwrap_or_default(),
            reason: format!(
                "returned: {} (exchange {}, routing key {})",
                message.reply_text, message.delivery.exchange, message.delivery.routing_key
            ),
        }
    }
}

/// Decides what becomes of messages that the broker has answered.
///
/// A message that no queue takes is returned and then acknowledged. The client gives the returned message to whichever
/// of the window's messages is acknowledged next, which need not be the one that was returned. So a return that was
/// given to another message is kept until its own is answered, and both count as refused: the other one may be with
/// the broker, but is published again at worst.
///
/// The client gives a return away before it answers the message it belongs to. So this is right as long as answers
/// are decided in the order in which the client gave them, or in batches that hold all it has given so far.
#[derive(Debug, Default)]
pub(super) struct Confirms {
    strayed: HashMap<String, String>,
}

impl Confirms {
    pub(super) fn decide(&mut self, answers: &[Answer]) -> Vec<Result<(), PublishError>> {
        for answer in answers {
            if let Some(returned) = &answer.returned
                && returned.id != answer.id
            {
                self.strayed.insert(returned.id.clone(), returned.reason.clone());
            }
        }
        answers.iter().map(|answer| self.outcome(answer)).collect()
    }

    fn outcome(&mut self, answer: &Answer) -> Result<(), PublishError> {
        let strayed = self.strayed.remove(&answer.id);
        let returned = answer.returned.as_ref().map(|returned| returned.reason.clone());
        match strayed.or(returned) {
            Some(reason) => Err(PublishError::Refused { reason }),
            None if answer.acked => Ok(()),
            None => Err(PublishError::Refused {
                reason: "not acknowledged: the queue is full or unavailable".to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(id: &str, acked: bool, returned: Option<&str>) -> Answer {
        Answer {
            id: id.to_owned(),
            acked,
            returned: returned.map(|id| Returned {
                id: id.to_owned(),
                reason: format!("{id} returned"),
            }),
        }
    }

    fn refused(outcomes: &[Result<(), PublishError>]) -> Vec<bool> {
        outcomes
            .iter()
            .map(|outcome| matches!(outcome, Err(PublishError::Refused { .. })))
            .collect()
    }

    #[test]
    fn success_is_an_ack_and_nothing_returned() {
        let outcomes = Confirms::default().decide(&[
            answer("a", true, None),
            answer("b", false, None),
            answer("c", true, Some("c")),
        ]);
        assert_eq!(refused(&outcomes), [false, true, true]);
    }

    #[test]
    fn a_return_that_strayed_within_a_batch_refuses_its_owner_wherever_it_stands() {
        for (owner, thief) in [(0, 1), (1, 0)] {
            let mut answers = vec![answer("owner", true, None)];
            answers.insert(thief, answer("thief", true, Some("owner")));
            let mut confirms = Confirms::default();
            let outcomes = confirms.decide(&answers);
            assert!(outcomes[owner].is_err() && outcomes[thief].is_err());
            assert!(confirms.strayed.is_empty());
        }
    }

    #[test]
    fn a_return_that_strayed_waits_for_its_owner() {
        let mut confirms = Confirms::default();
        assert_eq!(
            refused(&confirms.decide(&[answer("thief", true, Some("owner"))])),
            [true]
        );
        assert_eq!(refused(&confirms.decide(&[answer("other", true, None)])), [false]);
        assert_eq!(refused(&confirms.decide(&[answer("owner", true, None)])), [true]);
        assert_eq!(refused(&confirms.decide(&[answer("owner", true, None)])), [false]);
    }

    #[test]
    fn swapped_returns_refuse_both() {
        let mut confirms = Confirms::default();
        let outcomes = confirms.decide(&[answer("a", true, Some("b")), answer("b", true, Some("a"))]);
        assert_eq!(refused(&outcomes), [true, true]);
        assert!(confirms.strayed.is_empty());
    }
}
