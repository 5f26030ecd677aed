//! Finding the daemon: the path, the connection, who listens, hello.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use breakerd_proto::Mono;
use breakerd_proto::message::Welcome;
use interprocess::ConnectWaitMode;
use interprocess::local_socket::{ConnectOptions, GenericFilePath, Stream, ToFsName};
use rustix::event::{Timespec, poll};
use rustix::io::Errno;
use rustix::net::getpeername;
use rustix::net::sockopt::socket_peercred;

use crate::channel::Channel;
use crate::error::{ConnectError, End, Forbidden};
use crate::link::{Interest, Link};

/// Where the daemon listens unless `BREAKERD_SOCKET` or the code says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/breakerd/breakerd.sock";

/// Longest path of a socket, in bytes: `sun_path` without its end (`unix(7)`).
const PATH_BYTES_MAX: usize = 107;

/// Connects without blocking and checks who listens.
///
/// # Errors
/// [`ConnectError`]; [`ConnectError::Busy`] is worth another try soon.
pub(crate) fn connect_now(path: &Path) -> Result<Link, ConnectError> {
    let fd = stream(path).map_err(|errno| explain(path, errno))?;
    // A Unix socket that would have to wait for room in the listener's queue is not connected at all, whatever the
    // nonblocking connect says.
    match getpeername(&fd) {
        Ok(_) => {}
        Err(Errno::NOTCONN) => return Err(ConnectError::Busy(path.to_owned())),
        Err(errno) => return Err(ConnectError::System { path: path.to_owned(), errno }),
    }
    check_listener(path, &fd)?;
    Ok(Link::new(fd))
}

/// Connects, trying again while the listener's queue is full, until the deadline.
///
/// # Errors
/// [`ConnectError`].
pub(crate) fn connect(path: &Path, deadline: Mono) -> Result<Link, ConnectError> {
    loop {
        match connect_now(path) {
            Err(ConnectError::Busy(_)) if Mono::now() < deadline => pause(),
            other => return other,
        }
    }
}

/// Waits for the answer to the hello that the channel has queued; none if the deadline came first.
///
/// # Errors
/// [`End`] if the daemon ended the conversation instead.
pub(crate) fn greet(link: &Link, channel: &mut Channel, deadline: Mono) -> Result<Option<Welcome>, End> {
    loop {
        link.flush(channel)?;
        channel.next_message()?;
        if let Some(welcome) = channel.welcome() {
            return Ok(Some(welcome.clone()));
        }
        if !link.wait(Interest { write: channel.wants_write() }, deadline)? {
            return Ok(None);
        }
        link.fill(channel);
    }
}

fn stream(path: &Path) -> Result<OwnedFd, Errno> {
    let bytes = path.as_os_str().len();
    if bytes == 0 || bytes > PATH_BYTES_MAX {
        return Err(Errno::NAMETOOLONG);
    }
    let errno = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL);
    let name = path.to_fs_name::<GenericFilePath>().map_err(|_| Errno::NAMETOOLONG)?;
    let options = ConnectOptions::new().name(name).wait_mode(ConnectWaitMode::Deferred).nonblocking_stream(true);
    let Stream::UdSocket(stream) = options.connect_sync().map_err(errno)?;
    Ok(stream.into())
}

/// Nobody but root, this account and the owner of the socket's file may say what the breakers are.
fn check_listener(path: &Path, fd: impl AsFd) -> Result<(), ConnectError> {
    let system = |errno| ConnectError::System { path: path.to_owned(), errno };
    let uid = socket_peercred(fd).map_err(system)?.uid;
    if uid.is_root() || uid == rustix::process::geteuid() {
        return Ok(());
    }
    let owner = fs::metadata(path).map_err(|error| system(Errno::from_io_error(&error).unwrap_or(Errno::INVAL)))?.uid();
    match uid.as_raw() {
        uid if uid == owner => Ok(()),
        uid => Err(ConnectError::Impostor { path: path.to_owned(), uid, owner }),
    }
}

fn explain(path: &Path, errno: Errno) -> ConnectError {
    let path = path.to_owned();
    match errno {
        Errno::NOENT | Errno::NOTDIR => ConnectError::Absent { path, stale: false },
        Errno::CONNREFUSED => ConnectError::Absent { path, stale: true },
        Errno::ACCESS | Errno::PERM => forbidden(&path),
        Errno::NAMETOOLONG => ConnectError::BadPath(path),
        errno => ConnectError::System { path, errno },
    }
}

/// The socket itself, else the nearest directory above it that this process may still look at: that one shuts it out.
fn forbidden(path: &Path) -> ConnectError {
    let found = path.ancestors().find_map(|at| fs::metadata(at).ok().map(|metadata| (at, metadata)));
    let Some((at, metadata)) = found else {
        return ConnectError::System { path: path.to_owned(), errno: Errno::ACCESS };
    };
    let mut gids = vec![rustix::process::getegid().as_raw()];
    gids.extend(rustix::process::getgroups().unwrap_or_default().iter().map(|gid| gid.as_raw()));
    gids.sort_unstable();
    gids.dedup();
    ConnectError::Forbidden(Box::new(Forbidden {
        path: path.to_owned(),
        at: at.to_owned(),
        mode: metadata.mode() & 0o7777,
        owner: metadata.uid(),
        group: group_name(metadata.gid()),
        uid: rustix::process::geteuid().as_raw(),
        gids,
    }))
}

/// A group's name by `/etc/group`, else its number. Not by the C library, whose name services may go over the network.
fn group_name(gid: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| gid.to_string())
}

/// A millisecond for the daemon to take the connections that wait.
fn pause() {
    // Only the time-out matters, and a signal may end it early.
    poll(&mut [], Some(&Timespec { tv_sec: 0, tv_nsec: 1_000_000 })).ok();
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("breakerd-connect-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    #[test]
    fn an_absent_daemon_is_told_with_the_way_to_start_it() {
        let dir = scratch("absent");
        let path = dir.join("s.sock");
        let error = connect_now(&path).unwrap_err();
        assert_eq!(error, ConnectError::Absent { path: path.clone(), stale: false });
        assert_eq!(
            error.to_string(),
            format!(
                "no daemon at {}; start it with `systemctl start breakerd` or `breakerd run -- CMD`",
                path.display()
            )
        );
        drop(UnixListener::bind(&path).unwrap());
        assert_eq!(connect_now(&path).unwrap_err(), ConnectError::Absent { path, stale: true });
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_full_queue_is_busy_and_not_connected() {
        let dir = scratch("busy");
        let path = dir.join("s.sock");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let first = connect_now(&path).unwrap();
        assert_eq!(connect_now(&path).unwrap_err(), ConnectError::Busy(path.clone()));
        drop(first);
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn paths_that_no_socket_can_have() {
        for path in [PathBuf::new(), PathBuf::from(format!("/tmp/{}", "x".repeat(108))), PathBuf::from("/tmp/a\0b")] {
            assert_eq!(connect_now(&path).unwrap_err(), ConnectError::BadPath(path));
        }
    }

    #[test]
    fn what_shuts_a_process_out_is_the_nearest_that_it_can_see() {
        let dir = scratch("forbidden");
        let path = dir.join("shut").join("s.sock");
        fs::create_dir(dir.join("shut")).unwrap();
        fs::set_permissions(dir.join("shut"), fs::Permissions::from_mode(0o750)).unwrap();
        let ConnectError::Forbidden(no) = forbidden(&path) else { unreachable!("the directory is there") };
        assert_eq!((no.at, no.mode), (dir.join("shut"), 0o750));
        let told = forbidden(&path).to_string();
        for part in [format!("user {}", no.uid), "mode 0750".to_owned(), format!("SupplementaryGroups={}", no.group)] {
            assert!(told.contains(&part), "{part:?} is not in {told:?}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    /// Runs in a forked child, which may become another account. None where this process may not.
    #[allow(unsafe_code)]
    fn in_child_of_root(act: impl FnOnce() -> bool) -> Option<bool> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        // SAFETY: the child calls `act` and leaves by `_exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let code = i32::from(!act());
            // SAFETY: ends the child without running the parent's destructors.
            unsafe { libc::_exit(code) }
        }
        let mut status = 0;
        // SAFETY: waits for the child made above.
        assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
        Some(status == 0)
    }

    /// Gives up all rights, for good.
    #[allow(unsafe_code)]
    fn become_nobody() -> bool {
        // SAFETY: system calls on the process itself, a forked child.
        unsafe {
            libc::setgroups(0, std::ptr::null()) == 0
                && libc::setresgid(4_000_000, 4_000_000, 4_000_000) == 0
                && libc::setresuid(4_000_001, 4_000_001, 4_000_001) == 0
        }
    }

    #[test]
    fn a_socket_that_may_not_be_used_is_told_with_who_may_and_the_fix() {
        let dir = scratch("denied");
        let path = dir.join("s.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
        let told = in_child_of_root(|| {
            let (true, Err(error)) = (become_nobody(), connect_now(&path)) else { return false };
            error.to_string()
                == format!(
                    "user 4000001 (groups 4000000) may not use {}: it has mode 0660, owner 0, group root; add \
                     `SupplementaryGroups=root` to the service's unit, or the user to that group, and restart it",
                    path.display()
                )
        });
        assert_ne!(told, Some(false));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    #[allow(unsafe_code)]
    fn only_root_ones_own_account_and_the_sockets_owner_may_listen() {
        let dir = scratch("impostor");
        let path = dir.join("s.sock");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let judged = in_child_of_root(|| {
            // SAFETY: system calls on the process itself, a forked child with one thread.
            let seteuid = |uid| unsafe { libc::seteuid(uid) } == 0;
            let _listener = (seteuid(4_000_001), UnixListener::bind(&path), seteuid(0));
            let own = |uid| std::os::unix::fs::chown(&path, Some(uid), None).is_ok();
            let theirs = own(4_000_001) && connect_now(&path).is_ok();
            let expect = ConnectError::Impostor { path: path.clone(), uid: 4_000_001, owner: 4_000_002 };
            theirs && own(4_000_002) && connect_now(&path).is_err_and(|error| error == expect)
        });
        assert_ne!(judged, Some(false));
        fs::remove_dir_all(dir).unwrap();
    }
}
