//! reqwest against a real socket, whose other end does what the row says.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use ::reqwest::Client;
use breakerd_proto::AuthErrors;

use super::*;

/// Answers one connection with these bytes, once its request is there, and closes it.
fn serve(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(answer.as_bytes()).unwrap();
    });
    url
}

fn read_request(stream: &mut TcpStream) {
    let (mut request, mut byte) = (Vec::new(), [0]);
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        request.extend(byte);
    }
}

fn run<R>(test: impl Future<Output = R>) -> R {
    ::tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn client() -> Client {
    Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap()
}

fn terms() -> Terms<'static> {
    Terms::new(AuthErrors::Ignored, false)
}

/// Of an answer's headers.
fn sent(answer: &'static str, terms: Terms<'_>) -> Outcome {
    let url = serve(answer);
    run(async { of_result(&client().get(url).send().await, terms) })
}

/// Of an answer read to the end of its body.
fn read(answer: &'static str) -> Outcome {
    let url = serve(answer);
    let read = run(async { client().get(url).send().await?.error_for_status()?.text().await });
    read.map_or_else(|error| of_error(&error, terms()), |_| Outcome::SUCCESS)
}

fn failed(kind: &str, detail: &str) -> Outcome {
    Outcome::Failure(Failure::new(kind).with_detail(detail))
}

#[test]
fn a_response_is_judged_by_its_status_and_headers() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi";
    assert_eq!(sent(ok, terms()), Outcome::SUCCESS);
    assert_eq!(read(ok), Outcome::SUCCESS);
    let refused = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(sent(refused, terms()), Outcome::Ignored);
    assert_eq!(sent(refused, Terms::new(AuthErrors::Failure, false)), failed("http-401", ""));
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 2\r\nretry-after-ms: 2500\r\ncontent-length: 0\r\n\r\n";
    let Outcome::Failure(failure) = sent(busy, terms()) else { panic!("a 429 is no failure") };
    assert_eq!((failure.kind.as_str(), failure.retry_after_ms), ("http-429", Some(2500)));
    let down = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(read(down), failed("http-503", ""), "error_for_status keeps the status");
}

#[test]
fn nobody_who_listens_is_a_failure_to_connect() {
    let url = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/", listener.local_addr().unwrap())
    };
    let outcome = run(async { of_result(&client().get(url).send().await, terms()) });
    assert_eq!(outcome, failed(CONNECT, "connect"));
}

#[test]
fn a_connection_that_breaks_is_one_too_before_the_answer_and_in_its_body() {
    assert_eq!(sent("", terms()), failed(CONNECT, "request"));
    assert_eq!(read("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"), failed(CONNECT, "decode"));
    assert_eq!(read("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n"), failed(CONNECT, "decode"));
}

#[test]
fn a_time_out_is_one_wherever_it_strikes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let hasty = Client::builder().no_proxy().timeout(Duration::from_millis(20)).build().unwrap();
    let silent = run(async { of_result(&hasty.get(&url).send().await, terms()) });
    let Outcome::Failure(failure) = silent else { panic!("{silent:?}") };
    assert_eq!(failure.kind, TIMEOUT);
    let half = std::thread::spawn(move || {
        // The first connection is the one that was given up.
        let (_first, _) = listener.accept().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").unwrap();
        stream.read(&mut [0]).unwrap_or(0)
    });
    let patient = Client::builder().no_proxy().timeout(Duration::from_millis(500)).build().unwrap();
    let read = run(async { patient.get(&url).send().await?.text().await });
    let outcome = of_error(&read.unwrap_err(), terms());
    let Outcome::Failure(failure) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, TIMEOUT);
    half.join().unwrap();
}

#[test]
fn a_request_that_cannot_be_built_says_nothing_of_the_provider() {
    let outcome = run(async { of_result(&client().get("no url").send().await, terms()) });
    assert_eq!(outcome, Outcome::Ignored);
}

#[test]
fn any_other_error_is_known_by_its_type() {
    let around = "HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n";
    let url = serve(around);
    let once = Client::builder().no_proxy().redirect(::reqwest::redirect::Policy::limited(0)).build().unwrap();
    let outcome = run(async { of_result(&once.get(url).send().await, terms()) });
    assert_eq!(outcome, failed("reqwest::Error", "redirect"));
}
