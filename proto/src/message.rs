//! Every message, in two tables: what a client sends, what the daemon sends.
//!
//! `WIRE.md` gives the same for other languages; a test holds the two together. `Hello` and `Welcome` never change
//! shape; everything else goes by the version that they agree on. Texts from a peer are checked where they are used,
//! so that a wrong name is answered with the rule and not with a closed connection.

use serde::{Deserialize, Serialize};

use crate::clock::Mono;
use crate::error::Code;
use crate::limits::{BODY_BYTES_MAX, SMALL_BODY_BYTES_MAX};
use crate::outcome::{Counts, Outcome};
use crate::state::{Link, State};
use crate::verdict::Verdict;

pub use crate::part::{
    Action, BreakerRow, CallsRule, LaneRow, LastFailure, Place, PolicyPatch, ProbeRate, Rules, TimeRule, View,
    WorkerRow,
};

macro_rules! table {
    ($(
        $(#[$side_doc:meta])*
        $side:ident {
            $( $(#[$doc:meta])* $name:ident = $number:literal, $most:expr; )*
        }
    )*) => {
        /// A message's number in its frame's header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Kind { $($( $(#[$doc])* $name = $number, )*)* }

        impl Kind {
            /// Every kind, in the order of the table.
            pub const ALL: &'static [Self] = &[ $($( Self::$name, )*)* ];

            /// The kind with this number.
            #[must_use]
            pub fn from_number(number: u16) -> Option<Self> {
                match number { $($( $number => Some(Self::$name), )*)* _ => None }
            }

            /// Most bytes that its body may have.
            #[must_use]
            pub fn body_bytes_max(self) -> usize {
                match self { $($( Self::$name => $most, )*)* }
            }
        }

        $(
            $(#[$side_doc])*
            #[derive(Clone, Debug, PartialEq)]
            pub enum $side { $( $(#[$doc])* $name($name), )* }

            impl $side {
                /// The message's kind.
                #[must_use]
                pub fn kind(&self) -> Kind {
                    match self { $( Self::$name(_) => Kind::$name, )* }
                }

                pub(crate) fn encode_body(&self, out: &mut Vec<u8>) {
                    match self { $( Self::$name(body) => crate::codec::encode(body, out), )* }
                }

                pub(crate) fn decode_body(kind: Kind, body: &[u8]) -> Result<Self, crate::error::WireError> {
                    match kind {
                        $( Kind::$name => crate::codec::decode(kind, body).map(Self::$name), )*
                        other => Err(crate::error::WireError::WrongDirection(other)),
                    }
                }
            }

            $( impl From<$name> for $side { fn from(body: $name) -> Self { Self::$name(body) } } )*
        )*
    };
}

table! {
    /// What a client sends. `Report` and `Forget` get no answer; the rest carry a request number and may be pipelined.
    ToDaemon {
        /// The first message of a connection.
        Hello = 1, 256;
        /// Declares a breaker that this connection will use.
        Register = 2, SMALL_BODY_BYTES_MAX;
        /// May I call?
        Query = 3, 64;
        /// How the call went.
        Report = 4, 512;
        /// The asker waits no longer for this request; what it was granted goes back.
        Forget = 5, 16;
        /// What does this worker see of a registered breaker?
        Observe = 6, 16;
        /// What would a query of this name be answered? Takes nothing.
        Ask = 7, SMALL_BODY_BYTES_MAX;
        /// The table, a page at a time.
        List = 8, SMALL_BODY_BYTES_MAX;
        /// One breaker with its lanes, a page at a time.
        Describe = 9, SMALL_BODY_BYTES_MAX;
        /// The workers, a page at a time.
        Workers = 10, 32;
        /// From here on, every change.
        Watch = 11, 16;
        /// An operator's command.
        Command = 12, SMALL_BODY_BYTES_MAX;
        /// What is this daemon?
        About = 13, 16;
    }
    /// What the daemon sends.
    ToClient {
        /// The answer to `Hello`.
        Welcome = 101, 256;
        /// The answer to `Register`.
        Registered = 102, SMALL_BODY_BYTES_MAX;
        /// The answer to `Query`.
        Answer = 103, 128;
        /// The answer to `Observe`.
        Observed = 104, SMALL_BODY_BYTES_MAX;
        /// The answer to `Ask`.
        Asked = 105, SMALL_BODY_BYTES_MAX;
        /// The answer to `List`.
        Page = 106, BODY_BYTES_MAX;
        /// The answer to `Describe`.
        Description = 107, BODY_BYTES_MAX;
        /// The answer to `Workers`.
        WorkersPage = 108, BODY_BYTES_MAX;
        /// The answer to `Watch`: changes follow.
        Watching = 109, 16;
        /// One change, to a watcher.
        Changed = 110, SMALL_BODY_BYTES_MAX;
        /// The watcher fell behind: so many changes were dropped, read the table again.
        Lagged = 111, 16;
        /// The answer to `Command`: done.
        Done = 112, SMALL_BODY_BYTES_MAX;
        /// The answer to `About`.
        Daemon = 113, SMALL_BODY_BYTES_MAX;
        /// The daemon's settings have changed: what is registered again tells its policy.
        Reloaded = 114, 16;
        /// The request cannot be served.
        Refused = 120, SMALL_BODY_BYTES_MAX;
        /// The connection ends, and why.
        Bye = 121, SMALL_BODY_BYTES_MAX;
    }
}

macro_rules! bodies {
    ($( $(#[$doc:meta])* $name:ident { $( $(#[$field_doc:meta])* $field:ident: $type:ty, )* } )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct $name { $( $(#[$field_doc])* pub $field: $type, )* }
    )* };
}

bodies! {
    /// See [`Kind::Hello`].
    Hello {
        /// Oldest version that the client speaks.
        version_min: u16,
        /// Newest version that the client speaks.
        version_max: u16,
        /// A bit for each optional feature that the client can use: [`BOARD`](crate::limits::FEATURE_BOARD).
        features: u64,
        /// The client's own pid, for display where the kernel does not tell it.
        pid: u32,
        /// Drawn once a process: connections with the same account, pid and nonce are one worker.
        nonce: u64,
        /// How long the process was without a daemon before this, in milliseconds.
        alone_ms: u64,
        /// How many calls it judged alone in that time.
        alone_calls: u64,
        /// What the worker calls itself, at most 64 bytes: a label, never a right.
        service: String,
    }
    /// See [`Kind::Register`].
    Register {
        /// Request number, chosen by the client.
        request: u32,
        /// The breaker's name.
        name: String,
        /// What the code says of its policy; stands below the daemon's own configuration.
        policy: Option<Box<PolicyPatch>>,
    }
    /// See [`Kind::Query`].
    Query {
        /// Request number, chosen by the client.
        request: u32,
        /// The registered breaker.
        lane: u32,
        /// Until when the asker waits; nothing is granted after it.
        deadline: Mono,
        /// What this connection has seen so far.
        counts: Counts,
    }
    /// See [`Kind::Report`].
    Report {
        /// The registered breaker.
        lane: u32,
        /// The generation that the call was admitted in.
        generation: u64,
        /// The probe's number, zero for an ordinary call.
        permit: u64,
        /// When the call ended.
        at: Mono,
        /// How it ended.
        outcome: Outcome,
        /// What this connection has seen so far, this outcome included.
        counts: Counts,
    }
    /// See [`Kind::Forget`].
    Forget {
        /// The request that is given up.
        request: u32,
    }
    /// See [`Kind::Observe`].
    Observe {
        /// Request number, chosen by the client.
        request: u32,
        /// The registered breaker.
        lane: u32,
    }
    /// See [`Kind::Ask`].
    Ask {
        /// Request number, chosen by the client.
        request: u32,
        /// The breaker's name.
        name: String,
    }
    /// See [`Kind::List`].
    List {
        /// Request number, chosen by the client.
        request: u32,
        /// The last name of the page before, empty for the first.
        after: String,
    }
    /// See [`Kind::Describe`].
    Describe {
        /// Request number, chosen by the client.
        request: u32,
        /// The breaker's name.
        name: String,
        /// The last worker of the page before, zero for the first.
        after: u64,
    }
    /// See [`Kind::Workers`].
    Workers {
        /// Request number, chosen by the client.
        request: u32,
        /// The last worker of the page before, zero for the first.
        after: u64,
    }
    /// See [`Kind::Watch`].
    Watch {
        /// Request number, chosen by the client.
        request: u32,
    }
    /// See [`Kind::Command`].
    Command {
        /// Request number, chosen by the client.
        request: u32,
        /// The breaker's name.
        name: String,
        /// What to do.
        action: Action,
        /// Why, in at most 160 bytes.
        because: String,
    }
    /// See [`Kind::About`].
    About {
        /// Request number, chosen by the client.
        request: u32,
    }
    /// See [`Kind::Welcome`].
    Welcome {
        /// The agreed version.
        version: u16,
        /// The agreed features.
        features: u64,
        /// This life of the daemon, drawn at its start.
        instance: u64,
        /// The worker that this connection belongs to.
        worker: u64,
        /// The daemon's reading of the clock that every deadline is on.
        now: Mono,
        /// How the daemon stands to its fleet.
        link: Link,
        /// The daemon's release, `0.1.0`.
        release: String,
        /// The fleet's name, empty when standalone.
        fleet: String,
    }
    /// See [`Kind::Registered`].
    Registered {
        /// The request answered.
        request: u32,
        /// The number to use for this breaker on this connection, and its cells' in the lane memory.
        lane: u32,
        /// Where it stands on the board; none without one.
        place: Option<Place>,
        /// The whole policy in force, for the fallback.
        policy: Box<PolicyPatch>,
        /// What the breaker is.
        view: View,
    }
    /// See [`Kind::Answer`].
    Answer {
        /// The request answered.
        request: u32,
        /// The verdict.
        verdict: Verdict,
    }
    /// See [`Kind::Observed`].
    Observed {
        /// The request answered.
        request: u32,
        /// What the breaker is.
        view: View,
        /// This worker's failures: while closed, the run that it is in; from a trip until the breaker closes again, that
        /// run and every later failure of its calls in flight.
        failures: u64,
        /// This worker's last failure.
        last_failure: Option<LastFailure>,
        /// How the daemon stands to its fleet.
        link: Link,
    }
    /// See [`Kind::Asked`].
    Asked {
        /// The request answered.
        request: u32,
        /// What a query would be told; a probe that stands ready is told as `Probe` with permit 0.
        verdict: Verdict,
        /// What the breaker is.
        view: View,
    }
    /// See [`Kind::Page`].
    Page {
        /// The request answered.
        request: u32,
        /// Breakers in the order of their names.
        rows: Vec<BreakerRow>,
        /// Whether more follow the last row.
        more: bool,
    }
    /// See [`Kind::Description`].
    Description {
        /// The request answered.
        request: u32,
        /// The breaker.
        row: BreakerRow,
        /// The whole policy in force.
        policy: Box<PolicyPatch>,
        /// The workers that use it, in the order of their numbers.
        lanes: Vec<LaneRow>,
        /// Whether more follow the last lane.
        more: bool,
    }
    /// See [`Kind::WorkersPage`].
    WorkersPage {
        /// The request answered.
        request: u32,
        /// Workers in the order of their numbers.
        rows: Vec<WorkerRow>,
        /// Whether more follow the last row.
        more: bool,
    }
    /// See [`Kind::Watching`].
    Watching {
        /// The request answered.
        request: u32,
    }
    /// See [`Kind::Changed`].
    Changed {
        /// The breaker's name.
        name: String,
        /// What it was.
        from: State,
        /// What it is.
        view: View,
        /// What happened: `trip`, `reopen`, `recover`, `reset`, `force`, `release`, `probe`, `fleet`, `extend`, `idle`.
        what: String,
        /// When, by the daemon's clock.
        at: Mono,
    }
    /// See [`Kind::Lagged`].
    Lagged {
        /// Changes that were dropped.
        dropped: u64,
    }
    /// See [`Kind::Done`].
    Done {
        /// The request answered.
        request: u32,
        /// What the breaker is.
        view: View,
        /// Whether the fleet has taken it; false when standalone or detached.
        fleet: bool,
    }
    /// See [`Kind::Daemon`].
    Daemon {
        /// The request answered.
        request: u32,
        /// The daemon's pid in its own namespace.
        pid: u32,
        /// The daemon's host name.
        host: String,
        /// The daemon's release.
        release: String,
        /// How long it has run, in milliseconds.
        up_ms: u64,
        /// How it stands to its fleet.
        link: Link,
        /// Where the fleet meets, without secrets; empty when standalone.
        redis: String,
        /// The fleet's name; empty when standalone.
        fleet: String,
        /// How long the link has been as it is, in milliseconds.
        link_ms: u64,
        /// Connected workers.
        workers: u32,
        /// Breakers in the table.
        breakers: u32,
        /// Reports from an older generation that changed nothing.
        stale_reports: u64,
        /// How often no quota had room for a name.
        over_quota: u64,
    }
    /// See [`Kind::Reloaded`].
    Reloaded {
    }
    /// See [`Kind::Refused`].
    Refused {
        /// The request that is refused.
        request: u32,
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    }
    /// See [`Kind::Bye`].
    Bye {
        /// For programs.
        code: Code,
        /// For people.
        sentence: String,
    }
}
