use broker::Delivery;
use shared_types::MetricBatch;
use storage::Applied;

/// A delivery and the batches in its body.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) delivery: Delivery,
    pub(super) batches: Vec<MetricBatch>,
}

/// Messages that are counted in one transaction: their batches side by side, and how many belong to each delivery.
#[derive(Debug)]
pub(super) struct MicroBatch {
    pub(super) batches: Vec<MetricBatch>,
    deliveries: Vec<(Delivery, usize)>,
}

impl MicroBatch {
    pub(super) fn of(messages: Vec<Message>) -> Self {
        let mut micro_batch = Self {
            batches: Vec::with_capacity(messages.len()),
            deliveries: Vec::with_capacity(messages.len()),
        };
        for Message { delivery, batches } in messages {
            micro_batch.deliveries.push((delivery, batches.len()));
            micro_batch.batches.extend(batches);
        }
        micro_batch
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// How many messages there are.
    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// The first and the second half of the messages, or the only message.
    pub(super) fn halves(mut self) -> Result<(Self, Self), Message> {
        if self.deliveries.len() == 1
            && let Some((delivery, _)) = self.deliveries.pop()
        {
            return Err(Message {
                delivery,
                batches: self.batches,
            });
        }
        let deliveries = self.deliveries.split_off(self.deliveries.len() / 2);
        let first: usize = self.deliveries.iter().map(|(_, batches)| batches).sum();
        let batches = self.batches.split_off(first);
        Ok((self, Self { batches, deliveries }))
    }

    /// Each delivery with the outcomes of its batches.
    ///
    /// # Panics
    /// `applied` has fewer outcomes than there are batches: a panic is better than acknowledging what was not counted.
    pub(super) fn outcomes(self, applied: &[Applied]) -> impl Iterator<Item = (Delivery, &[Applied])> {
        self.deliveries
            .into_iter()
            .scan(applied, |rest, (delivery, count)| {
                let (outcomes, after) = rest.split_at(count);
                *rest = after;
                Some((delivery, outcomes))
            })
    }
}
