#![allow(clippy::unwrap_used, clippy::panic)]

use super::*;
use crate::fake::FakeDaemon;

/// Asks, and gives up when the answer has not come by then.
fn missed(dialogue: &mut Dialogue, known: &Arc<Known>, now: Mono) -> Reply {
    match dialogue.begin(now, known, Question::Query(now)) {
        Begun::Asked(key, _) => dialogue.give_up(now.after_ms(5), key),
        Begun::Silent => Reply::Silent,
        Begun::Absent => Reply::Absent,
    }
}

#[test]
fn ten_seconds_of_silence_hand_over_to_the_fallback_and_one_answer_takes_it_back() {
    let daemon = FakeDaemon::start("silence");
    let alone = Arc::new(Alone::new());
    let place = Place { path: daemon.path().to_owned(), service: Some("test".to_owned()), warn: None, board: true };
    let known = Arc::new(Known::new(Name::parse("openai").unwrap(), None, None));
    let start = Mono::now();
    let mut dialogue = Dialogue::new(place, Weak::new(), Arc::clone(&alone), start);
    daemon.mute(true);
    assert!(matches!(missed(&mut dialogue, &known, start), Reply::Silent));
    for (ms, absent) in [(50, false), (9_000, false), (9_900, false), (10_100, true), (10_200, true), (20_000, true)] {
        let reply = missed(&mut dialogue, &known, start.after_ms(ms));
        assert_eq!(matches!(reply, Reply::Absent), absent, "after {ms} ms: {reply:?}");
    }
    alone.query(start.after_ms(20_000), &known, breakerd_proto::Fallback::Local);
    daemon.mute(false);
    let now = start.after_ms(40_000);
    let Begun::Asked(key, _) = dialogue.begin(now, &known, Question::Query(now)) else { panic!("not asked") };
    let reply = loop {
        let (link, interest) = dialogue.link().unwrap();
        assert!(link.wait(interest, Mono::NEVER).unwrap());
        dialogue.receive(now);
        if let Some(reply) = dialogue.take(key) {
            break reply;
        }
    };
    assert!(matches!(reply, Reply::Verdict(Verdict::Admit { .. }, _)), "{reply:?}");
    assert_eq!(alone.told(now), (0, 0), "a daemon that answers again ends the time alone");
}
