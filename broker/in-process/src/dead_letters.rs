use async_trait::async_trait;
use broker::{DeadLetter, DeadLetterError, DeadLetterSelection, DeadLetters};

use crate::queue::Queue;

#[async_trait]
impl DeadLetters for Queue {
    async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
        Ok(self.dead_letters(limit))
    }

    async fn replay(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
        self.replay_dead_letters(selection)
            .map_err(|closed| DeadLetterError {
                operation: "replay",
                source: Box::new(closed),
            })
    }

    async fn discard(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
        Ok(self.discard_dead_letters(selection))
    }
}
