//! The loop's alarm: a timerfd on the clock that every deadline is on, so that a suspend cannot delay it.

use std::io;
use std::os::fd::OwnedFd;

use breakerd_proto::Mono;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;

/// One alarm, set anew after each turn. It only wakes; whoever is woken looks at the clock.
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
    set: Option<Mono>,
}

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        Ok(Self { fd: watch(fd)?, set: None })
    }

    /// Sets or clears the alarm.
    pub(crate) fn set(&mut self, at: Option<Mono>) -> io::Result<()> {
        if self.set == at {
            return Ok(());
        }
        // A zero value would disarm it, so the beginning of time becomes its first nanosecond.
        let ns = at.map_or(0, |at| at.0.max(1));
        let value = Timespec {
            tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::ABSTIME, &once)?;
        self.set = at;
        Ok(())
    }

    /// Returns when the alarm goes off. Dropping the future loses nothing.
    pub(crate) async fn expired(&mut self) -> io::Result<()> {
        let mut ready = self.fd.readable().await?;
        let mut count = [0_u8; 8];
        match rustix::io::read(self.fd.get_ref(), &mut count) {
            Ok(_) => self.set = None,
            Err(rustix::io::Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        ready.clear_ready();
        Ok(())
    }
}

/// Waits on a descriptor for reading: the alarm's, or a process's.
pub(crate) fn watch(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[allow(unsafe_code, reason = "tokio wants a promise about the descriptor's life")]
    // SAFETY: the `AsyncFd` owns the descriptor, whose number nobody else closes, until it has deregistered it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) };
    Ok(watched?)
}
