use std::sync::Arc;

use async_trait::async_trait;
use broker::{DeadLetter, DeadLetterError, DeadLetters, Selection};

use crate::queue::Queue;

/// The dead letters in memory.
#[derive(Debug)]
pub(crate) struct InProcessDeadLetters {
    queue: Arc<Queue>,
}

impl InProcessDeadLetters {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

#[async_trait]
impl DeadLetters for InProcessDeadLetters {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        Ok(self.queue.dead_letters(limit))
    }

    async fn replay(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError> {
        self.queue.replay(selection).map_err(|closed| DeadLetterError {
            operation: "replay",
            source: Box::new(closed),
        })
    }

    async fn discard(&self, selection: &Selection) -> Result<Vec<String>, DeadLetterError> {
        Ok(self.queue.discard(selection))
    }
}
