use std::collections::HashMap;

use broker::PublishError;
use lapin::{Confirmation, message::BasicReturnMessage, types::ShortString};

/// The broker's answer to one publish.
#[derive(Debug)]
pub(super) struct BrokerConfirm {
    /// The id of the published message.
    pub(super) id: String,
    pub(super) acked: bool,
    /// A returned message that the AMQP client attributes to this publish. It may belong to another one.
    pub(super) returned: Option<ReturnedMessage>,
}

#[derive(Debug)]
pub(super) struct ReturnedMessage {
    id: String,
    reason: String,
}

impl BrokerConfirm {
    pub(super) fn new(id: String, confirmation: Confirmation) -> Self {
        let acked = confirmation.is_ack();
        Self {
            id,
            acked,
            returned: confirmation.take_message().map(ReturnedMessage::from),
        }
    }
}

impl From<BasicReturnMessage> for ReturnedMessage {
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

/// Turns the broker's answers into the outcomes of the publishes.
///
/// The broker returns a message that no queue takes, and then acknowledges it. The AMQP client attributes the return to the
/// unconfirmed publish that is acknowledged next, which may be another one. Therefore a return with another message's id is
/// kept until that message is answered, and both publishes count as refused. The one that was not returned is then published
/// again without need.
///
/// The client always hands out a return before the answer to the returned message. So the outcomes are right as long as
/// answers are resolved in the order in which the client gives them, or in batches of all answers given so far.
#[derive(Debug, Default)]
pub(super) struct ConfirmResolver {
    /// The reasons of returns that were attributed to another publish, by the id of the returned message.
    misattributed: HashMap<String, String>,
}

impl ConfirmResolver {
    pub(super) fn resolve(&mut self, answers: &[BrokerConfirm]) -> Vec<Result<(), PublishError>> {
        for answer in answers {
            if let Some(returned) = &answer.returned
                && returned.id != answer.id
            {
                self.misattributed
                    .insert(returned.id.clone(), returned.reason.clone());
            }
        }
        answers.iter().map(|answer| self.outcome(answer)).collect()
    }

    fn outcome(&mut self, answer: &BrokerConfirm) -> Result<(), PublishError> {
        let misattributed = self.misattributed.remove(&answer.id);
        let returned = answer.returned.as_ref().map(|returned| returned.reason.clone());
        match misattributed.or(returned) {
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

    fn answer(id: &str, acked: bool, returned: Option<&str>) -> BrokerConfirm {
        BrokerConfirm {
            id: id.to_owned(),
            acked,
            returned: returned.map(|id| ReturnedMessage {
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
        let outcomes = ConfirmResolver::default().resolve(&[
            answer("a", true, None),
            answer("b", false, None),
            answer("c", true, Some("c")),
        ]);
        assert_eq!(refused(&outcomes), [false, true, true]);
    }

    #[test]
    fn a_misattributed_return_refuses_its_owner_in_the_same_batch() {
        for (owner, other_publish) in [(0, 1), (1, 0)] {
            let mut answers = vec![answer("owner", true, None)];
            answers.insert(other_publish, answer("other_publish", true, Some("owner")));
            let mut resolver = ConfirmResolver::default();
            let outcomes = resolver.resolve(&answers);
            assert!(outcomes[owner].is_err() && outcomes[other_publish].is_err());
            assert!(resolver.misattributed.is_empty());
        }
    }

    #[test]
    fn a_misattributed_return_waits_for_its_owner() {
        let mut resolver = ConfirmResolver::default();
        assert_eq!(
            refused(&resolver.resolve(&[answer("other_publish", true, Some("owner"))])),
            [true]
        );
        assert_eq!(
            refused(&resolver.resolve(&[answer("other", true, None)])),
            [false]
        );
        assert_eq!(refused(&resolver.resolve(&[answer("owner", true, None)])), [true]);
        assert_eq!(
            refused(&resolver.resolve(&[answer("owner", true, None)])),
            [false]
        );
    }

    #[test]
    fn swapped_returns_refuse_both() {
        let mut resolver = ConfirmResolver::default();
        let outcomes = resolver.resolve(&[answer("a", true, Some("b")), answer("b", true, Some("a"))]);
        assert_eq!(refused(&outcomes), [true, true]);
        assert!(resolver.misattributed.is_empty());
    }
}
