use chrono::TimeDelta;
use storage::{DeadLetterAction, DeadLetterEntry, DeadLetterNote};

use crate::{
    Empty, Outcome,
    samples::{noon, prepared},
};

fn note(number: u8, action: DeadLetterAction) -> DeadLetterNote {
    DeadLetterNote {
        letter_id: format!("letter-{number}"),
        action,
        reason: "unknown metric: ‘ttft2’".to_owned(),
        body: vec![0, 255, number],
        body_bytes: u64::from(u32::MAX) + u64::from(number),
        operator: "someone@somewhere".to_owned(),
        at: noon() + TimeDelta::seconds(i64::from(number)),
    }
}

pub(crate) async fn dead_letters_leave_a_trail(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let notes = [
        note(0, DeadLetterAction::Replay),
        note(1, DeadLetterAction::Discard),
        note(2, DeadLetterAction::Replay),
    ];
    assert!(storage.note_dead_letters(&[]).await?.is_empty());
    let ids = storage.note_dead_letters(&notes).await?;
    assert!(ids.is_sorted() && ids.len() == 3, "{ids:?}");
    let done = noon() + TimeDelta::minutes(1);
    storage.dead_letters_done(&[ids[0], ids[2]], done).await?;
    let expected: Vec<DeadLetterEntry> = ids
        .iter()
        .zip(notes)
        .map(|(id, note)| DeadLetterEntry {
            id: *id,
            done_at: (note.action == DeadLetterAction::Replay).then_some(done),
            note,
        })
        .rev()
        .collect();
    assert_eq!(storage.dead_letter_log(10).await?, expected);
    assert_eq!(storage.dead_letter_log(2).await?, expected[..2]);
    Ok(())
}

pub(crate) async fn whatever_a_dead_letter_says_can_be_noted(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let hostile = "a\0b\u{1f4a5}'; --\r\n\0";
    let noted = DeadLetterNote {
        letter_id: hostile.to_owned(),
        reason: hostile.to_owned(),
        operator: hostile.to_owned(),
        ..note(0, DeadLetterAction::Replay)
    };
    storage.note_dead_letters(std::slice::from_ref(&noted)).await?;
    let kept = hostile.replace('\0', "\u{fffd}");
    let expected = DeadLetterNote {
        letter_id: kept.clone(),
        reason: kept.clone(),
        operator: kept,
        ..noted
    };
    let log = storage.dead_letter_log(10).await?;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].note, expected);
    Ok(())
}

pub(crate) async fn dead_letters_are_done_once(storage: Empty) -> Outcome {
    prepared(&*storage).await?;
    let ids = storage
        .note_dead_letters(&[note(0, DeadLetterAction::Discard)])
        .await?;
    storage.dead_letters_done(&[], noon()).await?;
    storage.dead_letters_done(&[ids[0], ids[0] + 1], noon()).await?;
    storage
        .dead_letters_done(&ids, noon() + TimeDelta::days(1))
        .await?;
    let log = storage.dead_letter_log(10).await?;
    assert_eq!(log.len(), 1);
    assert_eq!(log[0].done_at, Some(noon()), "the first time stays");
    Ok(())
}
