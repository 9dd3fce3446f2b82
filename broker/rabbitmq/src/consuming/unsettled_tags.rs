use std::collections::BTreeMap;

use lapin::types::DeliveryTag;

/// How a delivery is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disposition {
    Acknowledge,
    Requeue,
}

/// The AMQP method that settles deliveries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// Acknowledges the tag; with `multiple`, all earlier ones too.
    Ack { tag: DeliveryTag, multiple: bool },
    /// Negatively acknowledges the tag, with requeue.
    Requeue { tag: DeliveryTag },
}

/// The tags of the unsettled deliveries of a channel.
///
/// The broker numbers the deliveries of a channel upwards. A gap is a delivery to another consumer of the channel that has not
/// been received yet.
#[derive(Debug, Default)]
pub(super) struct UnsettledTags {
    last: DeliveryTag,
    /// For each tag, whether the consumer has acknowledged it.
    tags: BTreeMap<DeliveryTag, bool>,
}

impl UnsettledTags {
    pub(super) fn delivered(&mut self, tag: DeliveryTag) {
        // Includes the tags in the gap: otherwise a `multiple` acknowledgement would cover deliveries not received yet.
        self.tags.extend((self.last + 1..=tag).map(|tag| (tag, false)));
        self.last = self.last.max(tag);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// The frames that settle these deliveries, in the order in which they must be sent. Acknowledgements of consecutive tags,
    /// from the oldest unsettled one on, become one frame. No acknowledgement is delayed for that.
    pub(super) fn settle(
        &mut self,
        dispositions: impl IntoIterator<Item = (DeliveryTag, Disposition)>,
    ) -> Vec<Frame> {
        let mut frames = Vec::new();
        for (tag, disposition) in dispositions {
            match disposition {
                Disposition::Acknowledge => {
                    self.tags.insert(tag, true);
                }
                Disposition::Requeue => {
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
        let consecutive = std::mem::replace(&mut self.tags, rest);
        if let Some((tag, _)) = consecutive.last_key_value() {
            let multiple = consecutive.len() > 1;
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
    use Disposition::{Acknowledge, Requeue};

    fn of(tags: impl IntoIterator<Item = DeliveryTag>) -> UnsettledTags {
        let mut unsettled = UnsettledTags::default();
        tags.into_iter().for_each(|tag| unsettled.delivered(tag));
        unsettled
    }

    fn ack(tag: DeliveryTag, multiple: bool) -> Frame {
        Frame::Ack { tag, multiple }
    }

    #[test]
    fn consecutive_tags_from_the_oldest_on_are_one_frame() {
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
    fn a_requeue_is_sent_before_an_acknowledgement_that_spans_it() {
        let mut unsettled = of(1..=3);
        let frames = unsettled.settle([(1, Acknowledge), (3, Acknowledge), (2, Requeue)]);
        assert_eq!(frames, [Frame::Requeue { tag: 2 }, ack(3, true)]);
        assert!(unsettled.is_empty());
    }
}
