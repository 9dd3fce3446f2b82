use super::messages::{message, next, nothing_left, number_of, prefetch, publishing, until_dead};
use broker::{Broker, DeadLetterSelection, OutgoingMessage};

/// A rejected message becomes a dead letter, unchanged and with the reason. Its publish is confirmed.
pub async fn rejected_message_becomes_a_dead_letter(broker: &dyn Broker) {
    let message = message(1);
    reject(broker, std::slice::from_ref(&message), "no such metric: ttfb").await;

    let letters = broker.dead_letters().list(10).await.expect("listed");
    let [letter] = letters.as_slice() else {
        panic!("expected one letter, found {letters:?}");
    };
    assert_eq!(letter.id, message.id.to_string());
    assert_eq!(letter.reason, "no such metric: ttfb");
    assert_eq!(letter.routing_key, message.routing_key);
    assert!(letter.rejected_at.is_some());
    assert!(letter.body == message.body);
}

/// Listing changes neither the dead letters nor their order.
pub async fn listing_leaves_the_letters_where_they_are(broker: &dyn Broker) {
    let messages: Vec<_> = (1..=5).map(message).collect();
    reject(broker, &messages, "wrong").await;
    let all: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();
    for (limit, expected) in [
        (2, &all[..2]),
        (100, &all[..]),
        (3, &all[..3]),
        (0, &[]),
        (5, &all[..]),
    ] {
        until_dead(broker, all.len()).await;
        let letters = broker.dead_letters().list(limit).await.expect("listed");
        let ids: Vec<_> = letters.into_iter().map(|letter| letter.id).collect();
        assert_eq!(ids, expected);
    }
}

/// The selected letters are delivered again, unchanged; the others stay.
pub async fn replayed_letters_are_delivered_again(broker: &dyn Broker) {
    let messages: Vec<_> = (1..=3).map(message).collect();
    reject(broker, &messages, "wrong").await;
    let second = messages[1].id.to_string();

    let letters = broker.dead_letters();
    let replayed = letters
        .replay(&DeadLetterSelection::Ids(vec![second.clone()]))
        .await;
    assert_eq!(replayed.expect("replayed"), [second]);
    let mut subscription = broker.subscribe(prefetch(1));
    let delivery = next(&mut *subscription).await;
    assert_eq!(number_of(&delivery), 2);
    assert!(delivery.body == messages[1].body);
    delivery.ack().await.expect("settled");
    nothing_left(broker, &mut *subscription).await;

    until_dead(broker, 2).await;
    let rest = letters.replay(&DeadLetterSelection::All).await.expect("replayed");
    assert_eq!(rest, [messages[0].id.to_string(), messages[2].id.to_string()]);
    for number in [1, 3] {
        let delivery = next(&mut *subscription).await;
        assert_eq!(number_of(&delivery), number);
        delivery.ack().await.expect("settled");
    }
    assert_eq!(letters.list(10).await.expect("listed"), []);
}

/// The selected letters are deleted; the others stay.
pub async fn discarded_letters_are_gone(broker: &dyn Broker) {
    let messages: Vec<_> = (1..=3).map(message).collect();
    reject(broker, &messages, "wrong").await;
    let ids: Vec<_> = messages.iter().map(|message| message.id.to_string()).collect();

    let letters = broker.dead_letters();
    let selection = DeadLetterSelection::Ids(vec![ids[2].clone(), "no such letter".to_owned()]);
    assert_eq!(letters.discard(&selection).await.expect("discarded"), ids[2..]);
    until_dead(broker, 2).await;
    let left = letters.list(10).await.expect("listed");
    let left: Vec<_> = left.into_iter().map(|letter| letter.id).collect();
    assert_eq!(left, ids[..2]);
    until_dead(broker, 2).await;
    assert_eq!(
        letters
            .discard(&DeadLetterSelection::All)
            .await
            .expect("discarded"),
        ids[..2]
    );
    assert_eq!(letters.list(10).await.expect("listed"), []);
    let mut subscription = broker.subscribe(prefetch(1));
    nothing_left(broker, &mut *subscription).await;
}

/// Where dead letters share an id, each mention of the id selects one of them, the oldest first.
pub async fn letters_that_share_an_id_are_told_apart(broker: &dyn Broker) {
    let messages = [message(1), message(2), message(1), message(1)];
    reject(broker, &messages, "wrong").await;
    let [shared, other] = [0, 1].map(|i: usize| messages[i].id.to_string());

    let letters = broker.dead_letters();
    let one = DeadLetterSelection::Ids(vec![shared.clone()]);
    let discarded = letters.discard(&one).await.expect("discarded");
    assert_eq!(discarded, std::slice::from_ref(&shared));
    let left = async |number| {
        until_dead(broker, number).await;
        let left = letters.list(10).await.expect("listed");
        left.into_iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    assert_eq!(left(3).await, [other.clone(), shared.clone(), shared.clone()]);
    until_dead(broker, 3).await;
    let three = DeadLetterSelection::Ids(vec![shared.clone(); 3]);
    assert_eq!(
        letters.replay(&three).await.expect("replayed"),
        [shared.clone(), shared]
    );
    assert_eq!(left(1).await, [other]);
}

/// Publishes the messages and rejects them, one after the other.
async fn reject(broker: &dyn Broker, messages: &[OutgoingMessage], reason: &str) {
    let mut subscription = broker.subscribe(prefetch(1));
    for message in messages {
        publishing(broker, [message.clone()], async {
            let delivery = next(&mut *subscription).await;
            delivery.reject(reason).await.expect("settled");
        })
        .await;
    }
    until_dead(broker, messages.len()).await;
}
