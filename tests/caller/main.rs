//! A worker: so many calls a second on one breaker, of which one in so many fails.
//!
//! `caller SOCKET NAME CALLS_A_SECOND ONE_IN SEED`. One call of each `ONE_IN` in a row fails, by chance which, so that a
//! run of failures is never longer than two; 1 fails all. A line on standard input is the next `ONE_IN`; its end is the end.
//! Each failure's stamp, a boot time in nanoseconds, is a line on standard output, each rejection `rejected STAMP`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

use std::io::{BufRead, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use breakerd_client::error::CallError;
use breakerd_client::{Client, Options};
use breakerd_proto::Mono;
use breakerd_tests::wait::within;

static ONE_IN: AtomicU64 = AtomicU64::new(1);
const ENDED: u64 = 0;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [socket, name, rate, one_in, seed] = arguments.try_into().expect("SOCKET NAME CALLS_A_SECOND ONE_IN SEED");
    let number = |text: String| text.parse::<u64>().expect("a number");
    ONE_IN.store(number(one_in), Ordering::Relaxed);
    std::thread::spawn(listen);
    let client = Options::from_env().unwrap().socket(socket).open();
    call(&client, &name, number(rate), fastrand::Rng::with_seed(number(seed)));
}

fn listen() {
    for line in std::io::stdin().lock().lines() {
        ONE_IN.store(line.unwrap().trim().parse().expect("a number"), Ordering::Relaxed);
    }
    ONE_IN.store(ENDED, Ordering::Relaxed);
}

fn call(client: &Client, name: &str, rate: u64, mut rng: fastrand::Rng) {
    let breaker = client.breaker(name).unwrap();
    let (began, mut made, mut told) = (Mono::now(), 0_u64, std::io::stdout().lock());
    let mut failing = 0;
    loop {
        let one_in = match ONE_IN.load(Ordering::Relaxed) {
            ENDED => return,
            one_in => one_in,
        };
        if made.is_multiple_of(one_in) {
            failing = rng.u64(..one_in);
        }
        let fails = made % one_in == failing;
        match breaker.call(|| if fails { Err("refused") } else { Ok(()) }) {
            Ok(()) => {}
            Err(CallError::Failed(_)) => writeln!(told, "{}", Mono::now().0).unwrap(),
            Err(CallError::Rejected(_)) => writeln!(told, "rejected {}", Mono::now().0).unwrap(),
        }
        told.flush().unwrap();
        made += 1;
        let due = began.after(Duration::from_nanos(made * 1_000_000_000 / rate));
        let pause: Option<()> = within(due.left(Mono::now()), || None);
        debug_assert!(pause.is_none());
    }
}
