//! SIGHUP: the configuration is read anew, and holds all or not at all.
//!
//! The files are read on a thread of their own while the loop serves. What is bound to the daemon's start, its sockets and
//! its fleet, stays as it is until a restart, and the log says so.

use std::sync::Arc;

use breakerd_core::Reruled;
use breakerd_proto::Mono;
use breakerd_proto::clock;
use breakerd_proto::message::{Reloaded, ToClient};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, spawn_local};

use crate::config::{Config, Faults};
use crate::drive::{Drive, Event};
use crate::listen::Door;
use crate::service::notify;

/// Reads the configuration once more, with what the command line says over it.
pub(crate) type Read = Arc<dyn Fn() -> Result<Config, Faults> + Send + Sync>;

/// Reads the configuration at each SIGHUP and brings it to the loop, one at a time.
pub(crate) fn watch(read: Read, events: mpsc::Sender<Event>) -> std::io::Result<()> {
    let mut hangups = signal(SignalKind::hangup())?;
    spawn_local(async move {
        while hangups.recv().await.is_some() {
            // systemd compares the stamp with its own of the request, sd_notify(3).
            notify(&format!("RELOADING=1\nMONOTONIC_USEC={}", clock::monotonic_us()));
            let read = Arc::clone(&read);
            let Ok(config) = spawn_blocking(move || read()).await else {
                tracing::error!("bug: the configuration's reader has panicked; the running settings stay");
                notify("READY=1");
                continue;
            };
            if events.send(Event::Reload(Box::new(config))).await.is_err() {
                return;
            }
        }
    });
    Ok(())
}

impl Drive {
    /// The configuration has been read anew.
    pub(crate) fn reload(&mut self, now: Mono, read: Result<Config, Faults>) {
        match read {
            Ok(config) => self.adopt(now, config),
            Err(Faults(faults)) => {
                for fault in &faults {
                    tracing::error!("{fault}");
                }
                tracing::error!(faults = faults.len(), "the configuration is not taken; the running settings stay");
                notify("READY=1");
            }
        }
    }

    fn adopt(&mut self, now: Mono, mut read: Config) {
        let running = &self.config;
        let bound = bound_to_the_start(running, &read);
        if !bound.is_empty() {
            tracing::warn!("{} changed and needs a restart to hold: systemctl restart breakerd", bound.join(", "));
        }
        read.listen.clone_from(&running.listen);
        read.fleet.clone_from(&running.fleet);
        read.rights.operators.clone_from(&running.rights.operators);
        read.state.clone_from(&running.state);
        read.log = running.log;
        read.breakers.host.clone_from(&running.breakers.host);
        self.config = read;
        self.core.handle_settings(now, self.config.breakers.clone());
    }

    /// Every breaker goes by the settings that were read last.
    pub(crate) fn reruled(&self, Reruled { rules, changed }: Reruled) {
        tracing::info!("reloaded; {changed} breakers in use have another policy than before");
        if rules {
            self.tell_reloaded();
        }
        notify("READY=1");
    }

    /// Policies may be others than before: workers learn theirs with their next calls.
    pub(crate) fn tell_reloaded(&self) {
        let workers = self.peers.values().filter(|peer| peer.id.is_some() && peer.door == Door::Worker);
        for worker in workers {
            worker.outbox.send(&ToClient::Reloaded(Reloaded {}));
        }
    }
}

/// The keys that differ and that only a restart can bring into force.
fn bound_to_the_start(running: &Config, read: &Config) -> Vec<&'static str> {
    let keys = [
        ("[listen]", running.listen != read.listen),
        ("[fleet]", running.fleet != read.fleet),
        ("rights.operators", running.rights.operators != read.rights.operators),
        ("state.dir", running.state != read.state),
        ("log.level", running.log != read.log),
        ("host", running.breakers.host != read.breakers.host),
    ];
    keys.into_iter().filter_map(|(key, differs)| differs.then_some(key)).collect()
}
