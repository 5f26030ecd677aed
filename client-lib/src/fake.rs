//! A daemon for this crate's own tests: the real judge (`Core`) behind one blocking thread a connection, which can fall
//! silent or go away at a word.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use breakerd_core::{Core, Peer, Settings};
use breakerd_proto::frame::{self, Reader};
use breakerd_proto::message::{Answer, Daemon, Hello, Refused, Welcome};
use breakerd_proto::{Link, Mono, ToClient, ToDaemon};

use crate::blocking::Client;
use crate::options::Options;

/// A directory with a socket, and whoever listens on it.
pub(crate) struct FakeDaemon {
    path: PathBuf,
    life: Option<Life>,
    lives: u64,
    hellos: Arc<Mutex<Vec<Hello>>>,
}

struct Life {
    state: Arc<State>,
    thread: JoinHandle<()>,
}

struct State {
    core: Mutex<Core>,
    instance: u64,
    mute: Mutex<bool>,
    unmuted: Condvar,
    over: Mutex<bool>,
    connections: Mutex<Vec<UnixStream>>,
    hellos: Arc<Mutex<Vec<Hello>>>,
}

impl FakeDaemon {
    pub(crate) fn start(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("breakerd-fake-{name}-{}.sock", std::process::id()));
        let mut daemon = Self { path, life: None, lives: 0, hellos: Arc::default() };
        daemon.restart();
        daemon
    }

    pub(crate) fn client(&self) -> Client {
        Options::from_env().unwrap().socket(&self.path).service("test").open()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Every hello so far, over all lives.
    pub(crate) fn hellos(&self) -> Vec<Hello> {
        self.hellos.lock().unwrap().clone()
    }

    /// Whether it leaves everything that it is told unanswered.
    pub(crate) fn mute(&self, mute: bool) {
        let state = &self.life.as_ref().unwrap().state;
        *state.mute.lock().unwrap() = mute;
        state.unmuted.notify_all();
    }

    /// Ends it as a kill would: its connections break, its file stays.
    pub(crate) fn stop(&mut self) {
        let Some(life) = self.life.take() else { return };
        *life.state.over.lock().unwrap() = true;
        drop(UnixStream::connect(&self.path));
        life.thread.join().unwrap();
        for connection in life.state.connections.lock().unwrap().drain(..) {
            connection.shutdown(Shutdown::Both).unwrap_or(());
        }
        // Not before: what lay unanswered stays so.
        *life.state.mute.lock().unwrap() = false;
        life.state.unmuted.notify_all();
    }

    /// Another life of it, which knows nothing of the last.
    pub(crate) fn restart(&mut self) {
        drop(std::fs::remove_file(&self.path));
        let listener = UnixListener::bind(&self.path).unwrap();
        self.lives += 1;
        let state = Arc::new(State {
            core: Mutex::new(Core::new(Settings::default(), 1)),
            instance: self.lives,
            mute: Mutex::new(false),
            unmuted: Condvar::new(),
            over: Mutex::new(false),
            connections: Mutex::default(),
            hellos: Arc::clone(&self.hellos),
        });
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || listen(&listener, &shared));
        self.life = Some(Life { state, thread });
    }
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        self.stop();
        drop(std::fs::remove_file(&self.path));
    }
}

fn listen(listener: &UnixListener, state: &Arc<State>) {
    while let Ok((stream, _)) = listener.accept() {
        if *state.over.lock().unwrap() {
            return;
        }
        state.connections.lock().unwrap().push(stream.try_clone().unwrap());
        let state = Arc::clone(state);
        std::thread::spawn(move || drop(serve(stream, &state)));
    }
}

fn serve(mut stream: UnixStream, state: &State) -> std::io::Result<()> {
    let (mut reader, mut buffer) = (Reader::default(), [0; 4096]);
    let mut connection = None;
    loop {
        let bytes = stream.read(&mut buffer)?;
        let mute = state.mute.lock().unwrap();
        drop(state.unmuted.wait_while(mute, |mute| *mute).unwrap());
        let mut core = state.core.lock().unwrap();
        let now = Mono::now();
        if bytes == 0 {
            if let Some(connection) = connection {
                core.handle_gone(now, connection);
            }
            return Ok(());
        }
        reader.feed(buffer.get(..bytes).unwrap());
        let mut out = Vec::new();
        while let Some(message) = reader.next_message::<ToDaemon>().unwrap() {
            core.handle_timeout(now);
            if let ToDaemon::Hello(hello) = &message {
                state.hellos.lock().unwrap().push(hello.clone());
                connection = core.handle_connect(now, Peer { uid: 0, pid: hello.pid }, hello).ok();
                frame::write(&welcome(now, state.instance), &mut out);
            } else if let Some(answer) = connection.and_then(|id| answer(&mut core, now, id, message)) {
                frame::write(&answer, &mut out);
            }
        }
        drop(core);
        stream.write_all(&out)?;
    }
}

fn answer(core: &mut Core, now: Mono, connection: breakerd_core::ConnectionId, message: ToDaemon) -> Option<ToClient> {
    let request = match &message {
        ToDaemon::Register(m) => m.request,
        ToDaemon::Query(m) => m.request,
        ToDaemon::Observe(m) => m.request,
        ToDaemon::Command(m) => m.request,
        ToDaemon::About(m) => m.request,
        _ => 0,
    };
    let answer = match message {
        ToDaemon::Register(m) => core.handle_register(now, connection, &m).map(ToClient::from),
        ToDaemon::Query(m) => {
            core.handle_query(now, connection, &m).transpose()?.map(|verdict| Answer { request, verdict }.into())
        }
        ToDaemon::Observe(m) => core.observe(now, connection, request, m.lane).map(ToClient::from),
        ToDaemon::Command(m) => core.command(now, "test", &m).map(ToClient::from),
        ToDaemon::About(_) => Ok(about(request).into()),
        ToDaemon::Report(m) => {
            core.handle_report(now, connection, &m).ok()?;
            return None;
        }
        ToDaemon::Forget(m) => {
            core.handle_forget(now, connection, m.request);
            return None;
        }
        _ => return None,
    };
    Some(answer.unwrap_or_else(|no| Refused { request, code: no.code, sentence: no.sentence }.into()))
}

fn welcome(now: Mono, instance: u64) -> ToClient {
    let (release, fleet) = ("0.0.0".to_owned(), String::new());
    Welcome { version: 1, features: 0, instance, worker: 1, now, link: Link::Standalone, release, fleet }.into()
}

fn about(request: u32) -> Daemon {
    Daemon {
        request,
        pid: 1,
        host: "test".to_owned(),
        release: "0.0.0".to_owned(),
        up_ms: 0,
        link: Link::Standalone,
        redis: String::new(),
        fleet: String::new(),
        link_ms: 0,
        workers: 1,
        breakers: 1,
        stale_reports: 0,
        over_quota: 0,
    }
}
