//! What each figure is to reach. Judged by the median.

use std::fmt;

/// A bound on a figure or a ratio.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

use Goal::{AtLeast, AtMost};

/// By id. A ratio `a/b` is that of `a` to `b.a`, else to `b`.
pub(crate) const GOALS: &[(&str, Goal)] = &[
    ("check_success/recloser", AtMost(0.35)),
    ("check_success/floor", AtMost(1.7)),
    ("check_success_2t/check_success", AtMost(1.15)),
    ("check_success_2t/failsafe", AtMost(0.05)),
    ("check_success_timed/floor", AtMost(1.1)),
    ("check_success_cold/floor", AtMost(1.15)),
    ("reject/recloser", AtMost(0.9)),
    ("tower_call/tower-resilience", AtMost(0.1)),
    ("report_failure/floor", AtMost(1.1)),
    ("py_allow_success/floor", AtMost(1.4)),
    ("py_allow_success/pybreaker", AtMost(0.1)),
    ("py_allow_success/aiobreaker", AtMost(0.1)),
    ("py_allow_success/purgatory", AtMost(0.1)),
    ("py_allow_success/circuitbreaker", AtMost(0.1)),
    ("py_with/floor", AtMost(1.3)),
    ("py_with/circuitbreaker", AtMost(1.0)),
    ("py_with/pybreaker", AtMost(1.0)),
    ("py_decorator/floor", AtMost(1.5)),
    ("py_decorator/circuitbreaker", AtMost(1.0)),
    ("py_decorator/purgatory", AtMost(1.0)),
    ("py_decorator/pybreaker", AtMost(1.0)),
    ("py_decorator/interlock-cb", AtMost(1.0)),
    ("py_async_with/aiobreaker", AtMost(0.5)),
    ("py_async_with/purgatory", AtMost(0.5)),
    ("py_async_with/circuitbreaker", AtMost(0.5)),
    ("trip_same_host/floor", AtMost(1.25)),
    ("trip_same_host_p99/floor", AtMost(2.0)),
    ("trip_same_host_awake/floor", AtMost(1.25)),
    ("trip_same_host_awake_p99/floor", AtMost(2.0)),
    ("trip_same_host_1000/floor", AtMost(1.25)),
    ("trip_same_host_1000_p99/floor", AtMost(2.0)),
    ("trip_same_host_1000_awake/floor", AtMost(1.25)),
    ("trip_same_host_1000_awake_p99/floor", AtMost(2.0)),
    ("probe_permit/floor", AtMost(1.3)),
    ("probe_permit_awake/floor", AtMost(1.3)),
    ("report_rate/floor", AtLeast(0.5)),
    ("report_rate_untold", AtMost(0.0)),
    ("report_rate_lost", AtMost(0.0)),
    ("ready", AtMost(20.0)),
    ("attach/floor", AtMost(1.5)),
    ("lost_trips", AtMost(0.0)),
    ("local_trip_redis_frozen/running", AtMost(1.05)),
    ("rss_idle", AtMost(4096.0)),
    ("rss_worker", AtMost(8192.0)),
    ("rss_name", AtMost(400.0)),
    ("idle_cpu", AtMost(0.05)),
    ("idle_wakeups", AtMost(3.0)),
    ("idle_wakeups_standalone", AtMost(0.0)),
    ("trip_fleet/floor", AtMost(1.25)),
    ("trip_fleet_p99/floor", AtMost(2.0)),
];

impl Goal {
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            AtMost(bound) => value <= bound,
            AtLeast(bound) => value >= bound,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AtMost(bound) => write!(f, "≤ {bound}"),
            AtLeast(bound) => write!(f, "≥ {bound}"),
        }
    }
}
