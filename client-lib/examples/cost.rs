#![allow(
    missing_docs,
    clippy::all,
    clippy::pedantic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods
)]
use breakerd_client::blocking::Client;
use std::hint::black_box;
fn main() {
    let client = Client::open().unwrap();
    let b = client.breaker("openai").unwrap();
    for _ in 0..3 {
        let _ = b.call(|| Ok::<_, String>(1));
    }
    for _ in 0..3 {
        let n = 5_000_000u64;
        let t = std::time::Instant::now();
        for _ in 0..n {
            black_box(b.call(|| black_box(Ok::<_, String>(1)))).ok();
        }
        println!("call {:.2} ns", t.elapsed().as_nanos() as f64 / n as f64);
        let n = 200_000u64;
        let t = std::time::Instant::now();
        for _ in 0..n {
            b.admit().unwrap().succeed();
        }
        println!("admit+succeed {:.2} ns", t.elapsed().as_nanos() as f64 / n as f64);
    }
    println!("{:?}", b.observe());
}
