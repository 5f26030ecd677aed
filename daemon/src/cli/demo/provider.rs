//! The provider that the demo's workers call: a real server on this machine that counts what reaches it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How long a worker waits for an answer, and the provider for a request.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Serves until the demo's process ends.
pub(super) struct Provider {
    address: SocketAddr,
    desk: Arc<Desk>,
}

#[derive(Default)]
struct Desk {
    books: Mutex<Books>,
    moved: Condvar,
}

#[derive(Default)]
struct Books {
    reached: u64,
    well: bool,
    held: bool,
}

impl Provider {
    /// Starts one that answers every call with 401, as to a wrong API key.
    pub(super) fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk::default());
        let for_thread = Arc::clone(&desk);
        thread::Builder::new().name("provider".to_owned()).spawn(move || serve(&listener, &for_thread))?;
        Ok(Self { address, desk })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Calls that have reached it.
    pub(super) fn reached(&self) -> u64 {
        self.desk.lock().reached
    }

    /// From here on it answers 200.
    pub(super) fn recover(&self) {
        self.desk.lock().well = true;
    }

    /// Keeps answers back until `release`.
    pub(super) fn hold(&self) {
        self.desk.lock().held = true;
    }

    /// Gives the answers that were kept back.
    pub(super) fn release(&self) {
        self.desk.lock().held = false;
        self.desk.moved.notify_all();
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, Books> {
        // Whoever panicked left numbers and flags, which are whole at any moment.
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call and says, when it may be said, whether it went well.
    fn take(&self) -> bool {
        let mut books = self.lock();
        books.reached += 1;
        let wait = self.moved.wait_timeout_while(books, PATIENCE, |books| books.held);
        wait.unwrap_or_else(PoisonError::into_inner).0.well
    }
}

fn serve(listener: &TcpListener, desk: &Arc<Desk>) {
    for stream in listener.incoming().flatten() {
        let desk = Arc::clone(desk);
        // As many threads as there are calls in flight: a handful, all made by the demo's own workers. A caller whose
        // thread cannot be made sees its connection end, which is a failure of the demo and shows as one.
        drop(thread::Builder::new().spawn(move || drop(answer(stream, &desk))));
    }
}

fn answer(stream: TcpStream, desk: &Desk) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut request = BufReader::new(&stream);
    let mut line = String::new();
    while request.read_line(&mut line)? > 2 {
        line.clear();
    }
    let status = if desk.take() { "200 OK" } else { "401 Unauthorized" };
    (&stream).write_all(format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").as_bytes())
}

/// One call: the status of the provider's answer.
pub(super) fn call(provider: SocketAddr) -> io::Result<u16> {
    let mut stream = TcpStream::connect_timeout(&provider, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE * 2))?;
    stream.write_all(b"POST /v1/chat/completions HTTP/1.1\r\nHost: provider\r\nContent-Length: 0\r\n\r\n")?;
    let mut head = String::new();
    BufReader::new(stream).read_line(&mut head)?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_call_is_counted_and_answered() {
        let provider = Provider::start().unwrap();
        assert_eq!(call(provider.address()).unwrap(), 401);
        provider.recover();
        assert_eq!(call(provider.address()).unwrap(), 200);
        assert_eq!(provider.reached(), 2);
    }
}
