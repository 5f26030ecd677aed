//! The snapshot file: what a restart keeps, as JSON that a person can read.
//!
//! Written by a thread of its own, by rename without fsync: the death of a process needs none, and a power cut may lose
//! the last changes. A file that cannot be read is logged and passed over, for a start must never fail by it (I14).

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use breakerd_core::{Because, SavedBreaker, SavedForce, SavedMode, Snapshot};
use breakerd_proto::{Mode, Mono, Name, Override, State, clock};
use serde::{Deserialize, Serialize};

const FORMAT: u32 = 1;
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct File {
    format: u32,
    boot_id: String,
    wall_ms: u64,
    /// The clock of deadlines, which tells what has passed within one boot whatever the wall clock does.
    boot_ms: u64,
    instance: u64,
    breakers: Vec<Breaker>,
}

#[derive(Serialize, Deserialize)]
struct Breaker {
    name: String,
    generation: u64,
    state: State,
    left_ms: u64,
    step: u32,
    age_ms: u64,
    by: String,
    why: String,
    #[serde(default)]
    fleet: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    forced: Option<Forced>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    mode: Option<Ordered>,
}

#[derive(Serialize, Deserialize)]
struct Ordered {
    mode: Mode,
    by: String,
    why: String,
}

#[derive(Serialize, Deserialize)]
struct Forced {
    to: Override,
    left_ms: Option<u64>,
    age_ms: u64,
    by: String,
    why: String,
}

/// Where the snapshot lies.
#[derive(Clone, Debug)]
pub(crate) struct Place(PathBuf);

impl Place {
    pub(crate) fn within(directory: &Path) -> Self {
        Self(directory.join("snapshot.json"))
    }

    /// The snapshot with all times reduced by what has passed since it was written; empty if there is none to use.
    pub(crate) fn load(&self) -> Snapshot {
        match self.read() {
            Ok(snapshot) => snapshot,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Snapshot::default(),
            Err(error) => {
                tracing::warn!(path = %self.0.display(), %error, "the snapshot cannot be used; starting without it");
                Snapshot::default()
            }
        }
    }

    fn read(&self) -> io::Result<Snapshot> {
        let mut text = String::new();
        std::fs::File::open(&self.0)?.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
        let file: File = serde_json::from_str(&text)?;
        if file.format != FORMAT {
            return Err(io::Error::other(format!("format {} is not {FORMAT}", file.format)));
        }
        let passed_ms = if file.boot_id == boot_id() {
            boot_ms().saturating_sub(file.boot_ms)
        } else {
            clock::wall_ms().saturating_sub(file.wall_ms)
        };
        Ok(Snapshot { breakers: file.breakers.into_iter().filter_map(|b| restored(b, passed_ms)).collect() })
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mut beside = self.0.as_os_str().to_owned();
        beside.push(".new");
        std::fs::write(&beside, text)?;
        std::fs::rename(&beside, &self.0)
    }
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn boot_ms() -> u64 {
    clock::ms_up(Mono::now().since(Mono::default()))
}

/// One saved breaker after so many milliseconds; none if its name breaks the rule.
fn restored(saved: Breaker, passed_ms: u64) -> Option<SavedBreaker> {
    let left = |ms: u64| Duration::from_millis(ms.saturating_sub(passed_ms));
    let age = |ms: u64| Duration::from_millis(ms.saturating_add(passed_ms));
    Some(SavedBreaker {
        name: Name::parse(&saved.name).ok()?,
        generation: saved.generation,
        state: saved.state,
        left: left(saved.left_ms),
        step: saved.step,
        age: age(saved.age_ms),
        because: Because::new(&saved.by, &saved.why),
        fleet: saved.fleet,
        forced: saved.forced.map(|forced| SavedForce {
            to: forced.to,
            left: forced.left_ms.map(left),
            age: age(forced.age_ms),
            because: Because::new(&forced.by, &forced.why),
        }),
        mode: saved
            .mode
            .map(|ordered| SavedMode { mode: ordered.mode, because: Because::new(&ordered.by, &ordered.why) }),
    })
}

fn written(saved: &SavedBreaker) -> Breaker {
    let ms = clock::ms_up;
    Breaker {
        name: saved.name.as_str().to_owned(),
        generation: saved.generation,
        state: saved.state,
        left_ms: ms(saved.left),
        step: saved.step,
        age_ms: ms(saved.age),
        by: saved.because.by.clone(),
        why: saved.because.why.clone(),
        fleet: saved.fleet,
        forced: saved.forced.as_ref().map(|forced| Forced {
            to: forced.to,
            left_ms: forced.left.map(ms),
            age_ms: ms(forced.age),
            by: forced.because.by.clone(),
            why: forced.because.why.clone(),
        }),
        mode: saved.mode.as_ref().map(|ordered| Ordered {
            mode: ordered.mode,
            by: ordered.because.by.clone(),
            why: ordered.because.why.clone(),
        }),
    }
}

#[derive(Default)]
struct Desk {
    newest: Option<Snapshot>,
    stop: bool,
}

/// The thread that writes. A newer snapshot replaces one that it has not begun.
pub(crate) struct Writer {
    desk: Arc<(Mutex<Desk>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(place: Place, instance: u64) -> io::Result<Self> {
        let desk = Arc::new((Mutex::new(Desk::default()), Condvar::new()));
        let shared = Arc::clone(&desk);
        let name = "snapshot".to_owned();
        let thread = std::thread::Builder::new().name(name).spawn(move || run(&shared, &place, instance))?;
        Ok(Self { desk, thread: Some(thread) })
    }

    /// Leaves a snapshot to be written; returns at once.
    pub(crate) fn write(&self, snapshot: Snapshot) {
        let (desk, bell) = &*self.desk;
        desk.lock().unwrap_or_else(PoisonError::into_inner).newest = Some(snapshot);
        bell.notify_one();
    }
}

impl Drop for Writer {
    /// Waits until the last snapshot is on the disk.
    fn drop(&mut self) {
        let (desk, bell) = &*self.desk;
        desk.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        bell.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by the hook; there is nothing left to save.
            drop(thread.join());
        }
    }
}

fn run(desk: &(Mutex<Desk>, Condvar), place: &Place, instance: u64) {
    let boot_id = boot_id();
    let mut failing = false;
    loop {
        let snapshot = {
            let (desk, bell) = desk;
            let desk = desk.lock().unwrap_or_else(PoisonError::into_inner);
            let idle = |desk: &mut Desk| desk.newest.is_none() && !desk.stop;
            let mut desk = bell.wait_while(desk, idle).unwrap_or_else(PoisonError::into_inner);
            match desk.newest.take() {
                Some(snapshot) => snapshot,
                None => return,
            }
        };
        let breakers = snapshot.breakers.iter().map(written).collect();
        let file = File {
            format: FORMAT,
            boot_id: boot_id.clone(),
            wall_ms: clock::wall_ms(),
            boot_ms: boot_ms(),
            instance,
            breakers,
        };
        let done = serde_json::to_string_pretty(&file).map_err(io::Error::from).and_then(|text| place.write(&text));
        match done {
            Ok(()) => failing = false,
            Err(error) if !failing => {
                tracing::error!(path = %place.0.display(), %error, "cannot write the snapshot; a restart would forget");
                failing = true;
            }
            Err(_) => {}
        }
    }
}
