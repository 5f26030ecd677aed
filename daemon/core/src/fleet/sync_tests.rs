//! What is kept of events that come during a sync. The sync itself is in `world/`.

use super::{INBOX_BYTES_MAX, INBOX_MAX, Inbox};

#[test]
fn events_wait_in_their_order_up_to_their_number() {
    let mut inbox = Inbox::default();
    let event = |number: usize| number.to_string().into_bytes();
    assert!((0..INBOX_MAX).all(|number| inbox.push(event(number))));
    assert!(!inbox.push(event(INBOX_MAX)), "no room");
    assert_eq!(inbox.pop(), Some(event(0)));
    inbox.put_back(event(0));
    assert!(!inbox.push(event(INBOX_MAX)));
    assert!((0..INBOX_MAX).all(|number| inbox.pop() == Some(event(number))));
    assert_eq!(inbox.pop(), None);
}

#[test]
fn and_up_to_their_bytes() {
    let mut inbox = Inbox::default();
    let half = || vec![b'B'; INBOX_BYTES_MAX / 2];
    assert!(inbox.push(half()) && inbox.push(half()) && !inbox.push(vec![b'B']));
    let event = inbox.pop();
    assert!(inbox.push(vec![b'B']), "what was taken out has left its room");
    assert!(!inbox.push(half()));
    inbox.put_back(event.unwrap_or_default());
    assert!(!inbox.push(vec![b'B']));
    inbox.clear();
    assert!(inbox.pop().is_none() && inbox.push(half()) && inbox.push(half()));
}
