//! The sockets: who listens, and how a stale file is told from a living daemon.
//!
//! The lock file beside the socket decides: its lock dies with its holder (flock(2)), so whoever gets it may remove what
//! lies at the path, and nobody else touches it. The listener's own removal by name is off, since it would remove whatever
//! has the name by then; ours removes only the inode that we made.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use breakerd_core::Peer;
use interprocess::local_socket::tokio::prelude::*;
use interprocess::local_socket::tokio::{Listener, Stream};
use interprocess::local_socket::{GenericFilePath, ListenerOptions};
use interprocess::os::unix::local_socket::ListenerOptionsExt;
use rustix::fs::{FlockOperation, Mode};
use tokio::sync::mpsc;

use crate::config::Group;
use crate::drive::Event;

/// Which socket a connection came through; it bounds what the connection may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The workers': observe, report, and reset where the account may.
    Worker,
    /// The operators': everything.
    Control,
}

/// Why a socket cannot be listened on. The operator's to mend.
#[derive(Debug)]
pub(crate) enum ListenError {
    /// A living daemon has the lock.
    Taken { path: PathBuf, pid: String },
    /// Something that is no socket lies at the path.
    NoSocket(PathBuf),
    /// The system refused.
    System { path: PathBuf, doing: &'static str, error: io::Error },
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Taken { path, pid } => write!(
                f,
                "another breakerd, pid {pid}, is listening on {}; stop it, or give this one its own [listen] socket",
                path.display()
            ),
            Self::NoSocket(path) => {
                write!(f, "{} exists and is no socket; move it away, or set another [listen] path", path.display())
            }
            Self::System { path, doing, error } => write!(f, "{doing} {}: {error}", path.display()),
        }
    }
}

impl std::error::Error for ListenError {}

/// A listener with its lock and its file. Dropping it removes the file if it is still the one that was made.
pub(crate) struct Listening {
    listener: Option<Listener>,
    path: PathBuf,
    inode: (u64, u64),
    _lock: File,
}

impl Listening {
    /// Takes the lock, removes a stale file, listens.
    pub(crate) fn on(path: &Path, mode: u32, group: Option<&Group>) -> Result<Self, ListenError> {
        let fail = |doing| move |error| ListenError::System { path: path.to_owned(), doing, error };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(fail("cannot make the directory of"))?;
        }
        let lock = lock(path)?;
        match std::fs::symlink_metadata(path) {
            Ok(file) if file.file_type().is_socket() => std::fs::remove_file(path).map_err(fail("cannot remove"))?,
            Ok(_) => return Err(ListenError::NoSocket(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(fail("cannot look at")(error)),
        }
        let name = path.to_fs_name::<GenericFilePath>().map_err(fail("cannot listen on"))?;
        let options = ListenerOptions::new().name(name).reclaim_name(false).mode(mode);
        let listener = options.create_tokio().map_err(fail("cannot listen on"))?;
        if let Some(group) = group {
            let gid = Some(rustix::fs::Gid::from_raw(group.gid));
            rustix::fs::chown(path, None, gid).map_err(|e| fail("cannot give the group to")(e.into()))?;
        }
        let made = std::fs::symlink_metadata(path).map_err(fail("cannot look at"))?;
        let inode = (made.dev(), made.ino());
        Ok(Self { listener: Some(listener), path: path.to_owned(), inode, _lock: lock })
    }

    /// Accepts for ever and hands each connection to the loop.
    pub(crate) fn start(&mut self, door: Door, events: mpsc::Sender<Event>) {
        let Some(listener) = self.listener.take() else { return };
        tokio::task::spawn_local(async move {
            loop {
                let event = match listener.accept().await {
                    Ok(stream) => Event::Accepted(Box::new(Accepted::of(stream, door))),
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection; trying again in 100 ms");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                        continue;
                    }
                };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let ours = std::fs::symlink_metadata(&self.path).is_ok_and(|file| (file.dev(), file.ino()) == self.inode);
        if ours {
            // Left behind it is only a stale file, which the next start removes.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Takes the lock beside the socket and writes this pid into it.
fn lock(path: &Path) -> Result<File, ListenError> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let fail = |doing| {
        let path = beside.clone();
        move |error| ListenError::System { path, doing, error }
    };
    let flags = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).custom_flags(flags).to_owned();
    let mut file = options.open(&beside).map_err(fail("cannot make the lock file"))?;
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        let read = (&mut file).take(16).read_to_string(&mut pid);
        let known = read.is_ok() && !pid.trim().is_empty();
        let pid = if known { pid.trim().to_owned() } else { "unknown".to_owned() };
        return Err(ListenError::Taken { path: path.to_owned(), pid });
    }
    rustix::fs::fchmod(&file, Mode::from_raw_mode(0o644)).map_err(|e| fail("cannot set the mode of")(e.into()))?;
    let written = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(fail("cannot write"))?;
    Ok(file)
}

/// A connection that has just come, and who is behind it.
pub(crate) struct Accepted {
    pub(crate) stream: Stream,
    pub(crate) door: Door,
    pub(crate) peer: Peer,
    pub(crate) groups: Vec<u32>,
}

impl Accepted {
    /// Reads the kernel's word on the peer. Where it has none the connection counts as the overflow user's.
    fn of(stream: Stream, door: Door) -> Self {
        let overflow = 65_534;
        let credentials = stream.peer_creds().ok();
        let credentials = credentials.as_ref();
        let uid = credentials.and_then(interprocess::local_socket::PeerCreds::euid).unwrap_or(overflow);
        let pid = credentials.and_then(interprocess::local_socket::PeerCreds::pid);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
        let own = credentials.and_then(interprocess::local_socket::PeerCreds::egid);
        let more = credentials.and_then(interprocess::local_socket::PeerCreds::groups).unwrap_or_default();
        let groups = own.into_iter().chain(more.iter().copied()).collect();
        Self { stream, door, peer: Peer { uid, pid }, groups }
    }
}
