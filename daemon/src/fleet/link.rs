//! Carries the link's bytes: one RESP3 connection at a time, commands in, replies and messages out.
//!
//! The connection is polled by this task alone. Each poll first takes all that has come off the wire, and only then are
//! replies passed on: so a message that Redis sent before a reply is told before it.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use breakerd_core::fleet::value::scrub;
use breakerd_core::fleet::{Command, CommandKind, ConnectionNumber, Datum, Failed, Request, RequestId, Said};
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ConnectionAddr, ErrorKind, IntoConnectionInfo, ProtocolVersion, PushInfo, PushKind,
    RedisConnectionInfo, RedisError, Script, Value,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::RedisSettings;
use super::bounded::Bounded;
use super::queue::Tell;
use super::script::{APPLY, INIT};

/// How long one address may take to accept.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
/// How long the greeting may take.
const HELLO_TIME_MAX: Duration = Duration::from_secs(1);
/// Backstops beneath the link's own polls: when the kernel gives up a silent peer.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(2);
const KEEPALIVE_TIMES: u32 = 2;
const USER_TIMEOUT_MS: u32 = 5000;
/// The connection's name in `CLIENT LIST`.
const CLIENT_NAME: &str = "breakerd";
/// Longest message of an error that is passed on, in bytes.
const MESSAGE_BYTES_MAX: usize = 200;

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;
type Answer = Result<Datum, Failed>;

/// Does what the link asks until the asking side is dropped.
pub(super) async fn carry(settings: RedisSettings, mut requests: mpsc::Receiver<Request>, tell: Tell) {
    let mut next = requests.recv().await;
    while let Some(request) = next.take() {
        let after = match request {
            Request::Connect(number) => serve(&settings, number, &mut requests, &tell).await,
            // Meant for a connection that is gone already.
            Request::Close | Request::Send(..) => None,
        };
        next = match after {
            Some(request) => Some(request),
            None => requests.recv().await,
        };
    }
}

/// One connection, from the attempt to its end. Returns the request that ended it, unless it ended by itself.
async fn serve(
    settings: &RedisSettings,
    number: ConnectionNumber,
    requests: &mut mpsc::Receiver<Request>,
    tell: &Tell,
) -> Option<Request> {
    let connected = tokio::select! {
        connected = connect(settings, number, tell) => connected,
        request = requests.recv() => return request,
    };
    let (connection, mut driver) = match connected {
        Ok(connected) => connected,
        Err(failed) => {
            tell.say(number, Said::Lost(failed)).await;
            return None;
        }
    };
    let mut calls = Calls::new(connection);
    calls.name_connection().await;
    if !tell.say(number, Said::Connected).await {
        return None;
    }
    loop {
        tokio::select! {
            biased;
            () = &mut driver => {
                let failed = calls.first_failure().await;
                tell.say(number, Said::Lost(failed)).await;
                return None;
            }
            (id, answer) = calls.next() => {
                if !tell.say(number, Said::Reply(id, answer)).await {
                    return None;
                }
            }
            request = requests.recv() => match request {
                Some(Request::Send(id, command)) => calls.send(id, command).await,
                other => return other.filter(|request| *request != Request::Close),
            }
        }
        if tell.overflowed() && !tell.say(number, Said::Overflow).await {
            return None;
        }
    }
}

/// Connects and greets. Names are looked up anew each time.
async fn connect(
    settings: &RedisSettings,
    number: ConnectionNumber,
    tell: &Tell,
) -> Result<(MultiplexedConnection, Driver), Failed> {
    let info = settings.url.as_str().into_connection_info().map_err(|error| failed(&error))?;
    let mut account = RedisConnectionInfo::default()
        .set_protocol(ProtocolVersion::RESP3)
        .set_db(info.redis_settings().db())
        .set_lib_name(CLIENT_NAME, env!("CARGO_PKG_VERSION"));
    if let Some(user) = &settings.user {
        account = account.set_username(user);
    }
    let password = (settings.password)().map_err(|error| Failed {
        code: "NOAUTH".to_owned(),
        message: format!("the password file cannot be read: {error}"),
    })?;
    if let Some(password) = password {
        account = account.set_password(password);
    }
    match info.addr() {
        ConnectionAddr::Tcp(host, port) => {
            let stream = connect_tcp(host, *port).await.map_err(|error| io_failed(&error))?;
            greet(stream, &account, number, tell).await
        }
        ConnectionAddr::Unix(path) => {
            let stream =
                within(CONNECT_TIME_MAX, UnixStream::connect(path)).await.map_err(|error| io_failed(&error))?;
            greet(stream, &account, number, tell).await
        }
        _ => Err(io_failed(&io::Error::from(io::ErrorKind::Unsupported))),
    }
}

async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in within(HELLO_TIME_MAX, tokio::net::lookup_host((host, port))).await? {
        match within(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
            Ok(stream) => return tune(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tune(stream: TcpStream) -> io::Result<TcpStream> {
    use rustix::net::sockopt;
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    sockopt::set_tcp_keepcnt(socket, KEEPALIVE_TIMES)?;
    sockopt::set_tcp_user_timeout(socket, USER_TIMEOUT_MS)?;
    Ok(stream)
}

async fn greet<S>(
    stream: S,
    account: &RedisConnectionInfo,
    number: ConnectionNumber,
    tell: &Tell,
) -> Result<(MultiplexedConnection, Driver), Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let tell = tell.clone();
    let on_push = move |info: PushInfo| {
        if let Some(event) = message(info) {
            tell.push(number, event);
        }
        Ok::<(), redis::aio::SendError>(())
    };
    // The link has its own time for each reply, so the library has none.
    let config = AsyncConnectionConfig::new().set_response_timeout(None).set_push_sender(on_push);
    let connecting = MultiplexedConnection::new_with_config(account, Bounded::new(stream), config);
    match timeout(HELLO_TIME_MAX, connecting).await {
        Ok(Ok((connection, driver))) => Ok((connection, Box::pin(driver))),
        Ok(Err(error)) => Err(failed(&error)),
        Err(_) => Err(io_failed(&io::Error::from(io::ErrorKind::TimedOut))),
    }
}

/// The payload of a channel's message; none for any other push.
fn message(info: PushInfo) -> Option<Vec<u8>> {
    if info.kind != PushKind::Message {
        return None;
    }
    match info.data.into_iter().nth(1)? {
        Value::BulkString(payload) => Some(payload),
        _ => None,
    }
}

async fn within<T>(most: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(most, work).await.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
}

/// The calls that are under way on one connection, in the order in which they were sent; they are answered in it too.
struct Calls {
    connection: MultiplexedConnection,
    apply: Script,
    init: Script,
    under_way: VecDeque<(Option<RequestId>, Call)>,
}

enum Call {
    UnderWay(Pin<Box<dyn Future<Output = Answer> + Send>>),
    Answered(Answer),
}

impl Calls {
    fn new(connection: MultiplexedConnection) -> Self {
        let (apply, init) = (Script::new(APPLY), Script::new(INIT));
        Self { connection, apply, init, under_way: VecDeque::new() }
    }

    /// A server that refuses a name, as its rights may say, is as good without.
    async fn name_connection(&mut self) {
        let mut name = redis::cmd("CLIENT");
        name.arg("SETNAME").arg(CLIENT_NAME);
        let connection = self.connection.clone();
        self.begin(None, Box::pin(plain(connection, name))).await;
    }

    async fn send(&mut self, id: RequestId, command: Command) {
        let connection = self.connection.clone();
        let call: Pin<Box<dyn Future<Output = Answer> + Send>> = match command.kind {
            CommandKind::Plain => Box::pin(plain(connection, packed(&command.words))),
            CommandKind::Subscribe => Box::pin(subscribe(connection, command.words)),
            CommandKind::Apply => {
                Box::pin(evaluate(connection, self.apply.get_hash().to_owned(), APPLY, command.words))
            }
            CommandKind::Init => Box::pin(evaluate(connection, self.init.get_hash().to_owned(), INIT, command.words)),
        };
        self.begin(Some(id), call).await;
    }

    /// The first poll puts the command into the connection's queue, so that commands go out in the order of these calls.
    async fn begin(&mut self, id: Option<RequestId>, mut call: Pin<Box<dyn Future<Output = Answer> + Send>>) {
        let first = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await;
        let call = match first {
            Poll::Pending => Call::UnderWay(call),
            Poll::Ready(answer) => Call::Answered(answer),
        };
        self.under_way.push_back((id, call));
    }

    /// The next answer, once it is there. Safe in `select!`.
    async fn next(&mut self) -> (RequestId, Answer) {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<(RequestId, Answer)> {
        while let Some((id, call)) = self.under_way.front_mut() {
            let answer = match call {
                Call::UnderWay(call) => std::task::ready!(call.as_mut().poll(cx)),
                Call::Answered(answer) => answer.clone(),
            };
            let id = *id;
            self.under_way.pop_front();
            if let Some(id) = id {
                return Poll::Ready((id, answer));
            }
        }
        Poll::Pending
    }

    /// Why the connection ended, as the oldest call that it took along was told.
    async fn first_failure(&mut self) -> Failed {
        let next = poll_fn(|cx| match self.poll_next(cx) {
            Poll::Ready((_, answer)) => Poll::Ready(answer.err()),
            Poll::Pending => Poll::Ready(None),
        });
        next.await.unwrap_or_else(|| io_failed(&io::Error::from(io::ErrorKind::UnexpectedEof)))
    }
}

fn packed(words: &[String]) -> Cmd {
    let mut command = Cmd::new();
    words.iter().for_each(|word| {
        command.arg(word);
    });
    command
}

async fn plain(mut connection: MultiplexedConnection, command: Cmd) -> Answer {
    let reply = connection.send_packed_command(&command).await;
    reply.and_then(Value::extract_error).map(datum).map_err(|error| failed(&error))
}

async fn subscribe(mut connection: MultiplexedConnection, channels: Vec<String>) -> Answer {
    connection.subscribe(channels).await.map(|()| Datum::Nil).map_err(|error| failed(&error))
}

/// Calls a script by its digest; where the server does not have it, loads it and calls once more.
async fn evaluate(connection: MultiplexedConnection, digest: String, text: &'static str, words: Vec<String>) -> Answer {
    let mut call = redis::cmd("EVALSHA");
    call.arg(digest).arg(breakerd_core::fleet::command::SCRIPT_KEYS).arg(words);
    match plain(connection.clone(), call.clone()).await {
        Err(failed) if failed.code == "NOSCRIPT" => {}
        answer => return answer,
    }
    let mut load = redis::cmd("SCRIPT");
    load.arg("LOAD").arg(text);
    plain(connection.clone(), load).await?;
    plain(connection, call).await
}

/// A value as the link reads it. What it never asks for becomes nothing.
fn datum(value: Value) -> Datum {
    match value {
        Value::Int(number) => Datum::Int(number),
        Value::BulkString(bytes) => Datum::Bytes(bytes),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Datum::Bytes(text.into_bytes()),
        Value::Okay => Datum::Bytes(b"OK".to_vec()),
        Value::Array(items) | Value::Set(items) => Datum::List(items.into_iter().map(datum).collect()),
        Value::Map(pairs) => {
            Datum::List(pairs.into_iter().flat_map(|(key, value)| [datum(key), datum(value)]).collect())
        }
        Value::Attribute { data, .. } => datum(*data),
        _ => Datum::Nil,
    }
}

/// The server's words, made fit for a terminal; they hold no secret, since only our own commands do and no error
/// repeats those.
fn failed(error: &RedisError) -> Failed {
    let code = match error.kind() {
        ErrorKind::AuthenticationFailed => "NOAUTH",
        ErrorKind::RESP3NotSupported => "FORMAT",
        _ => error.code().unwrap_or("IO"),
    };
    Failed { code: scrub(code, 32), message: scrub(&error.to_string(), MESSAGE_BYTES_MAX) }
}

fn io_failed(error: &io::Error) -> Failed {
    Failed { code: "IO".to_owned(), message: scrub(&error.to_string(), MESSAGE_BYTES_MAX) }
}
