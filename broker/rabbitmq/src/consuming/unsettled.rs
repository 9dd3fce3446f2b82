use std::collections::BTreeMap;

use lapin::types::DeliveryTag;

/// What is to become of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Acknowledge,
    Requeue,
}

/// What tells the broker so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// Acknowledges the tag, or it and everything before it.
    Ack { tag: DeliveryTag, multiple: bool },
    /// Puts the delivery back to the queue.
    Requeue { tag: DeliveryTag },
}

/// The deliveries of a channel that the broker waits for, by their tags, which the broker counts upwards: what has not
/// been received while a later one has (of another consumer of the channel) is known from the gap.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    last: DeliveryTag,
    /// Whether it is acknowledged by the consumer.
    tags: BTreeMap<DeliveryTag, bool>,
}

impl Unsettled {
    pub(super) fn delivered(&mut self, tag: DeliveryTag) {
        // Or an acknowledgement of all up to this one would include those that nobody has seen yet.
        self.tags.extend((self.last + 1..=tag).map(|tag| (tag, false)));
        self.last = self.last.max(tag);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The frames that settle these deliveries, in the order in which they are to be sent. Acknowledgements without a
    /// gap from the oldest delivery on become one frame; nothing is held back to get there.
    pub(super) fn settle(
        &mut self,
        verdicts: impl IntoIterator<Item = (DeliveryTag, Verdict)>,
    ) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (tag, verdict) in verdicts {
            match verdict {
                Verdict::Acknowledge => {
                    self.tags.insert(tag, true);
                }
                Verdict::Requeue => {
                    self.tags.remove(&tag);
                    frames.push(Frame::Requeue { tag });
                }
            }
        }
        let unacknowledged = self.tags.iter().find(|(_, acknowledged)| !**acknowledged);
        let rest = match unacknowledged.map(|(tag, _)| *tag) {
            Some(oldest) => self.tags.split_off(&oldest),
            None => BTreeMap::new(),
        };
        let without_gap = std::mem::replace(&mut self.tags, rest);
        if let Some((tag, _)) = without_gap.last_key_value() {
            let multiple = without_gap.len() > 1;
            frames.push(Frame::Ack { tag: *tag, multiple });
        }
        self.tags.retain(|tag, acknowledged| {
            if *acknowledged {
                frames.push(Frame::Ack {
                    tag: *tag,
                    multiple: false,
                });
            }
            !*acknowledged
        });
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Acknowledge, Requeue};

    fn of(tags: impl IntoIterator<Item = DeliveryTag>) -> Unsettled {
        let mut unsettled = Unsettled::default();
        tags.into_iter().for_each(|tag| unsettled.delivered(tag));
        unsettled
    }

    fn ack(tag: DeliveryTag, multiple: bool) -> Frame {
        Frame::Ack { tag, multiple }
    }

    #[test]
    fn a_run_from_the_oldest_on_is_one_frame() {
        let mut unsettled = of(1..=4);
        let frames = unsettled.settle([(2, Acknowledge), (1, Acknowledge), (3, Acknowledge)]);
        assert_eq!(frames, [ack(3, true)]);
        assert_eq!(unsettled.settle([(4, Acknowledge)]), [ack(4, false)]);
        assert!(unsettled.is_empty());
    }

    #[test]
    fn nothing_is_acknowledged_across_a_gap() {
        let mut unsettled = of(1..=5);
        let frames = unsettled.settle([(2, Acknowledge), (4, Acknowledge)]);
        assert_eq!(frames, [ack(2, false), ack(4, false)]);
        assert_eq!(
            unsettled.settle([(1, Acknowledge), (3, Acknowledge)]),
            [ack(3, true)]
        );
        assert_eq!(unsettled.settle([(5, Acknowledge)]), [ack(5, false)]);
    }

    #[test]
    fn nothing_is_acknowledged_that_was_not_received_yet() {
        let mut unsettled = of([1, 3]);
        let frames = unsettled.settle([(1, Acknowledge), (3, Acknowledge)]);
        assert_eq!(frames, [ack(1, false), ack(3, false)]);
        assert!(!unsettled.is_empty());
        unsettled.delivered(2);
        unsettled.delivered(4);
        assert_eq!(
            unsettled.settle([(2, Acknowledge), (4, Acknowledge)]),
            [ack(4, true)]
        );
        assert!(unsettled.is_empty());
    }

    #[test]
    fn what_goes_back_is_sent_before_an_acknowledgement_that_spans_it() {
        let mut unsettled = of(1..=3);
        let frames = unsettled.settle([(1, Acknowledge), (3, Acknowledge), (2, Requeue)]);
        assert_eq!(frames, [Frame::Requeue { tag: 2 }, ack(3, true)]);
        assert!(unsettled.is_empty());
    }
}
