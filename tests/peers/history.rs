//! A history of calls, and what a breaker says to each.

use std::cell::RefCell;
use std::iter::Peekable;
use std::str::Chars;
use std::time::Duration;

use breakerd_proto::Mono;
use breakerd_tests::until;

/// How long every breaker here stays open.
pub(crate) const COOLDOWN: Duration = Duration::from_millis(100);
/// Peers read other clocks than the tests do, and some want their deadline passed, not met.
const MARGIN: Duration = Duration::from_millis(10);

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Success,
    Failure,
    /// Without a result: its future is dropped, its thread unwinds.
    Gone,
}

/// A breaker under test.
pub(crate) trait Breaker {
    /// Makes a call if it may be made, and tells whether it was. The body is what goes on meanwhile, and how it ends.
    fn attempt(&self, body: &mut dyn FnMut() -> End) -> bool;
}

enum Step {
    Cool,
    Call(Vec<Step>, End),
}

/// Plays a history: `s` is a success, `f` a failure, `!` a call that goes without a result, `.` the end of the cooldown,
/// `[…]s` a call during which others are made. What is said to each call, in the order of asking: `a` admitted, `-` rejected.
pub(crate) fn play(history: &str, fresh: impl Fn() -> Box<dyn Breaker>) -> String {
    let mut text = history.chars().peekable();
    let steps = parse(&mut text);
    assert_eq!(text.next(), None, "{history:?} has an end without a beginning");
    until("a machine that is not too busy for the cooldown", || {
        let played = Played { breaker: fresh(), said: RefCell::default(), since: RefCell::new(Mono::now()) };
        (played.steps(&steps) && played.is_in_time()).then(|| played.said.into_inner())
    })
}

fn parse(text: &mut Peekable<Chars<'_>>) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(step) = text.next_if(|step| *step != ']') {
        steps.push(match step {
            '.' => Step::Cool,
            '[' => {
                let during = parse(text);
                assert_eq!(text.next(), Some(']'), "a call without an end");
                Step::Call(during, end(text.next().unwrap()))
            }
            alone => Step::Call(Vec::new(), end(alone)),
        });
    }
    steps
}

fn end(letter: char) -> End {
    match letter {
        's' => End::Success,
        'f' => End::Failure,
        '!' => End::Gone,
        other => panic!("no call ends with {other:?}"),
    }
}

struct Played {
    breaker: Box<dyn Breaker>,
    said: RefCell<String>,
    /// When it began, or when the last cooldown was over.
    since: RefCell<Mono>,
}

impl Played {
    /// False once a cooldown may have ended unawares.
    fn steps(&self, steps: &[Step]) -> bool {
        steps.iter().all(|step| match step {
            Step::Cool => self.cool(),
            Step::Call(during, end) => self.call(during, *end),
        })
    }

    fn cool(&self) -> bool {
        let in_time = self.is_in_time();
        let over = Mono::now().after(COOLDOWN + MARGIN);
        until("the cooldown is over", || (Mono::now() >= over).then_some(()));
        self.said.borrow_mut().push('.');
        self.since.replace(Mono::now());
        in_time
    }

    fn call(&self, during: &[Step], end: End) -> bool {
        let mut in_time = true;
        let admitted = self.breaker.attempt(&mut || {
            self.said.borrow_mut().push('a');
            in_time = self.steps(during);
            end
        });
        if !admitted {
            self.said.borrow_mut().push('-');
            in_time = self.steps(during);
        }
        in_time
    }

    fn is_in_time(&self) -> bool {
        Mono::now().since(*self.since.borrow()) < COOLDOWN / 2
    }
}
