use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use anyhow::{Context as _, bail, ensure};
use broker::{DeadLetter, DeadLetterSelection, DeadLetters as DeadLetterQueue};
use shared_types::Clock;
use storage::{DeadLetterAction, DeadLetterEntry, DeadLetterLog, DeadLetterNote, Storage};

use crate::{
    cli::{DeadLetterOperation, DeadLetters, Selected},
    context::{ANSWER_TIMEOUT, Context},
    operator::operator,
    say::say,
    table::table,
};

/// The most dead letters that are read: more than anybody looks through, and few enough to fit in memory.
const EVERY: usize = 100_000;
/// How many dead letters, and how many bytes of them, are written to the log and acted upon at a time.
const MOST_AT_ONCE: usize = 1000;
const MOST_BYTES_AT_ONCE: usize = 16 * 1024 * 1024;
/// How much of a letter's body the log keeps.
const KEPT_BODY: usize = 64 * 1024;

pub(crate) async fn run(action: DeadLetters, context: Context) -> anyhow::Result<()> {
    if let DeadLetters::Log { limit } = action {
        let storage = context.existing_storage().await?;
        show_log(&storage.dead_letter_log(limit).await?);
        storage.close().await;
        return Ok(());
    }
    if context.embedded_broker() {
        bail!(
            "the embedded broker keeps dead letters in the memory of `llm-bench up` only (its log names each one); \
             set AMQP_URL to look after RabbitMQ's"
        );
    }
    let (broker, _) = context.connected_broker(ANSWER_TIMEOUT).await?;
    let done = act(action, broker.dead_letters().as_ref(), &context).await;
    broker.close().await;
    done
}

async fn act(action: DeadLetters, letters: &dyn DeadLetterQueue, context: &Context) -> anyhow::Result<()> {
    match action {
        DeadLetters::List { limit } => show_list(&letters.list(limit).await?),
        DeadLetters::Show { id } => {
            let all = letters.list(EVERY).await?;
            let letter = all.iter().find(|letter| letter.id == id);
            show_one(letter.with_context(|| format!("there is no dead letter {id}"))?);
        }
        DeadLetters::Replay(operation) => {
            perform(DeadLetterAction::Replay, operation, letters, context).await?;
        }
        DeadLetters::Discard(operation) => {
            perform(DeadLetterAction::Discard, operation, letters, context).await?;
        }
        DeadLetters::Log { .. } => {}
    }
    Ok(())
}

async fn perform(
    action: DeadLetterAction,
    operation: DeadLetterOperation,
    letters: &dyn DeadLetterQueue,
    context: &Context,
) -> anyhow::Result<()> {
    let storage = if operation.no_log {
        None
    } else {
        Some(log_of(context).await?)
    };
    let selection = selection(operation.selected);
    let operation = LoggedOperation {
        action,
        letters,
        log: storage.as_deref().map(|storage| storage as &dyn DeadLetterLog),
        clock: context.clock.as_ref(),
    };
    let done = operation.run(&selection).await;
    if let Some(storage) = &storage {
        storage.close().await;
    }
    let verb = match action {
        DeadLetterAction::Replay => "replayed",
        DeadLetterAction::Discard => "discarded",
    };
    report(verb, &done?, &selection)
}

/// Connects to the database that keeps the log.
async fn log_of(context: &Context) -> anyhow::Result<Arc<dyn Storage>> {
    const ADVICE: &str = "the database, which keeps a log of what is done with dead letters, does not answer; mend \
                          that, or go without an entry with --no-log";
    let answered = tokio::time::timeout(ANSWER_TIMEOUT, async {
        let storage = context.existing_storage().await?;
        storage.ping().await?;
        anyhow::Ok(storage)
    });
    answered.await.context(ADVICE)?.context(ADVICE)
}

/// Replays or discards dead letters, and writes what it does to the log.
struct LoggedOperation<'a> {
    action: DeadLetterAction,
    letters: &'a dyn DeadLetterQueue,
    log: Option<&'a dyn DeadLetterLog>,
    clock: &'a dyn Clock,
}

impl LoggedOperation<'_> {
    /// Acts upon the selected letters that exist now; returns their ids. A letter that arrives meanwhile stays: nothing
    /// disappears without an entry in the log.
    async fn run(&self, selection: &DeadLetterSelection) -> anyhow::Result<Vec<String>> {
        let all = self.letters.list(EVERY).await?;
        let chosen: Vec<_> = all
            .into_iter()
            .filter(|letter| match selection {
                DeadLetterSelection::All => true,
                DeadLetterSelection::Ids(ids) => ids.contains(&letter.id),
            })
            .collect();
        let mut done = Vec::new();
        for chunk in chunks(&chosen) {
            let entries = self.write_entries(chunk).await?;
            // Exactly these letters: others with the same id have no entry yet.
            let ids = DeadLetterSelection::Ids(chunk.iter().map(|letter| letter.id.clone()).collect());
            let acted_upon = match self.action {
                DeadLetterAction::Replay => self.letters.replay(&ids).await?,
                DeadLetterAction::Discard => self.letters.discard(&ids).await?,
            };
            self.mark_done(entries, &acted_upon).await?;
            done.extend(acted_upon);
        }
        Ok(done)
    }

    /// Writes the log's entries; returns their numbers by the letters' ids, the oldest letter's first.
    async fn write_entries(&self, letters: &[DeadLetter]) -> anyhow::Result<HashMap<String, VecDeque<i64>>> {
        let mut numbers: HashMap<_, VecDeque<_>> = HashMap::new();
        let Some(log) = self.log else {
            return Ok(numbers);
        };
        let (operator, at) = (operator(), self.clock.now());
        let notes: Vec<_> = letters
            .iter()
            .map(|letter| DeadLetterNote {
                letter_id: letter.id.clone(),
                action: self.action,
                reason: letter.reason.clone(),
                body: letter.body[..letter.body.len().min(KEPT_BODY)].to_vec(),
                body_bytes: letter.body.len() as u64,
                operator: operator.clone(),
                at,
            })
            .collect();
        let written = log.note_dead_letters(&notes).await;
        let written = written.context("nothing was done: the log cannot be written")?;
        for (letter, number) in letters.iter().zip(written) {
            numbers.entry(letter.id.clone()).or_default().push_back(number);
        }
        Ok(numbers)
    }

    async fn mark_done(
        &self,
        mut entries: HashMap<String, VecDeque<i64>>,
        ids: &[String],
    ) -> anyhow::Result<()> {
        let Some(log) = self.log else {
            return Ok(());
        };
        let numbers: Vec<i64> = ids
            .iter()
            .filter_map(|id| entries.get_mut(id)?.pop_front())
            .collect();
        log.dead_letters_done(&numbers, self.clock.now())
            .await
            .with_context(|| {
                format!(
                    "{} dead letters were dealt with, and the log does not say so",
                    ids.len()
                )
            })
    }
}

/// Splits the letters into chunks that are acted upon together.
fn chunks(letters: &[DeadLetter]) -> impl Iterator<Item = &[DeadLetter]> {
    let mut rest = letters;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(MOST_AT_ONCE).take_while(|letter| {
            bytes += letter.body.len().min(KEPT_BODY);
            bytes <= MOST_BYTES_AT_ONCE
        });
        let (chunk, others) = rest.split_at(fitting.count());
        rest = others;
        (!chunk.is_empty()).then_some(chunk)
    })
}

fn selection(selected: Selected) -> DeadLetterSelection {
    if selected.all {
        DeadLetterSelection::All
    } else {
        DeadLetterSelection::Ids(selected.ids)
    }
}

fn show_log(entries: &[DeadLetterEntry]) {
    if entries.is_empty() {
        say!("nothing was done with dead letters yet");
        return;
    }
    let rows = entries.iter().map(|DeadLetterEntry { id, note, done_at }| {
        [
            id.to_string(),
            note.at.to_rfc3339(),
            note.operator.clone(),
            note.action.as_str().to_owned(),
            done_at.map_or_else(|| "unknown".to_owned(), |at| at.to_rfc3339()),
            note.letter_id.clone(),
            note.body_bytes.to_string(),
            note.reason.clone(),
        ]
    });
    let header = [
        "entry", "at", "operator", "action", "done at", "letter", "bytes", "reason",
    ];
    say!("{}", table(header, &["entry", "bytes"], rows));
}

fn show_list(letters: &[DeadLetter]) {
    if letters.is_empty() {
        say!("there are no dead letters");
        return;
    }
    let rows = letters.iter().map(|letter| {
        [
            letter.id.clone(),
            rejected_at(letter),
            letter.body.len().to_string(),
            letter.reason.clone(),
        ]
    });
    say!(
        "{}",
        table(["id", "rejected at", "bytes", "reason"], &["bytes"], rows)
    );
}

fn show_one(letter: &DeadLetter) {
    say!("id           {}", letter.id);
    say!("rejected at  {}", rejected_at(letter));
    say!("routing key  {}", letter.routing_key);
    say!("reason       {}", letter.reason);
    say!("\n{}", String::from_utf8_lossy(&letter.body));
}

fn rejected_at(letter: &DeadLetter) -> String {
    letter
        .rejected_at
        .map_or_else(|| "unknown".to_owned(), |at| at.to_rfc3339())
}

fn report(done: &str, ids: &[String], selection: &DeadLetterSelection) -> anyhow::Result<()> {
    for id in ids {
        say!("{id}");
    }
    say!("{done} {} dead letters", ids.len());
    if let DeadLetterSelection::Ids(wanted) = selection {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|id| !ids.contains(id))
            .map(String::as_str)
            .collect();
        ensure!(
            missing.is_empty(),
            "there is no dead letter {}",
            missing.join(", ")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use broker::DeadLetterError;
    use chrono::{DateTime, Utc};
    use shared_types::ManualClock;

    use super::*;

    /// A queue of dead letters.
    struct FakeQueue(Mutex<Vec<DeadLetter>>);

    #[async_trait]
    impl DeadLetterQueue for FakeQueue {
        async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>, DeadLetterError> {
            Ok(self.0.lock().unwrap().iter().take(limit).cloned().collect())
        }

        async fn replay(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
            self.discard(selection).await
        }

        async fn discard(&self, selection: &DeadLetterSelection) -> Result<Vec<String>, DeadLetterError> {
            let mut wanted = selection.unmatched();
            let mut letters = self.0.lock().unwrap();
            let (gone, left) = letters.drain(..).partition(|letter| wanted.matches(&letter.id));
            *letters = left;
            let gone: Vec<DeadLetter> = gone;
            Ok(gone.into_iter().map(|letter| letter.id).collect())
        }
    }

    /// Entries: the letter's id, and whether it is done.
    #[derive(Default)]
    struct FakeLog(Mutex<Vec<(String, bool)>>);

    #[async_trait]
    impl DeadLetterLog for FakeLog {
        async fn note_dead_letters(&self, notes: &[DeadLetterNote]) -> storage::Result<Vec<i64>> {
            let mut entries = self.0.lock().unwrap();
            let first = i64::try_from(entries.len()).unwrap();
            entries.extend(notes.iter().map(|note| (note.letter_id.clone(), false)));
            Ok((first..).take(notes.len()).collect())
        }

        async fn dead_letters_done(&self, done: &[i64], _at: DateTime<Utc>) -> storage::Result<()> {
            let mut entries = self.0.lock().unwrap();
            for entry in done {
                entries[usize::try_from(*entry).unwrap()].1 = true;
            }
            Ok(())
        }

        async fn dead_letter_log(&self, _limit: u32) -> storage::Result<Vec<DeadLetterEntry>> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn letters_that_share_an_id_are_done_one_by_one() {
        let shared: Vec<_> = vec![letter(1); MOST_AT_ONCE + 2];
        let mut all = shared.clone();
        all.insert(7, letter(2));
        let (letters, log) = (FakeQueue(Mutex::new(all)), FakeLog::default());
        let operation = LoggedOperation {
            action: DeadLetterAction::Discard,
            letters: &letters,
            log: Some(&log),
            clock: &ManualClock::at(DateTime::UNIX_EPOCH),
        };
        let done = operation
            .run(&DeadLetterSelection::Ids(vec!["1".to_owned()]))
            .await;
        assert_eq!(done.unwrap().len(), shared.len());
        assert_eq!(*letters.0.lock().unwrap(), [letter(2)]);
        let expected = vec![("1".to_owned(), true); shared.len()];
        assert_eq!(*log.0.lock().unwrap(), expected);
    }

    fn letter(bytes: usize) -> DeadLetter {
        DeadLetter {
            id: bytes.to_string(),
            reason: String::new(),
            rejected_at: None,
            routing_key: String::new(),
            body: vec![b'x'; bytes].into(),
        }
    }

    #[test]
    fn portions_are_bounded_in_number_and_kept_bytes_and_leave_nothing_out() {
        let many = vec![letter(1); 2 * MOST_AT_ONCE + 1];
        let sizes = |letters: &[DeadLetter]| chunks(letters).map(<[_]>::len).collect::<Vec<_>>();
        assert_eq!(sizes(&many), [MOST_AT_ONCE, MOST_AT_ONCE, 1]);
        let long = vec![letter(KEPT_BODY + 1); 300];
        let at_once = MOST_BYTES_AT_ONCE / KEPT_BODY;
        assert_eq!(sizes(&long), [at_once, 300 - at_once]);
        assert_eq!(sizes(&[]), [0; 0]);
    }
}
