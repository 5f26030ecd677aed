//! What programs read. Every object carries `"schema": 1`; within a schema fields are added and never changed.

use breakerd_proto::message::{BreakerRow, Changed, Daemon, Description, LastFailure, View, WorkerRow};
use breakerd_proto::{Override, Verdict};
use serde_json::{Value, json};

use super::failure::Failure;
use super::{policy, printer};

/// Writes one object on one line, with its schema.
pub(super) fn say(mut object: Value) -> Result<(), Failure> {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("schema".to_owned(), json!(1));
    }
    printer::say(&object.to_string())
}

pub(super) fn view(view: &View) -> Value {
    json!({
        "state": view.state.word(),
        "forced": view.forced.map(Override::word),
        "mode": view.mode.word(),
        "mode_by": view.mode_by,
        "mode_why": view.mode_why,
        "generation": view.generation,
        "retry_after_ms": view.retry_after_ms,
        "age_ms": view.age_ms,
        "by": view.by,
        "why": view.why,
        "host_only": view.host_only,
    })
}

pub(super) fn breaker(row: &BreakerRow) -> Value {
    let mut object = view(&row.view);
    if let Some(fields) = object.as_object_mut() {
        fields.insert("name".to_owned(), json!(row.name));
        fields.insert("failures".to_owned(), json!(row.failures));
        fields.insert("failures_total".to_owned(), json!(row.failures_total));
        fields.insert("workers".to_owned(), json!(row.workers));
        fields.insert("permits_out".to_owned(), json!(row.permits_out));
        fields.insert("successes".to_owned(), json!(row.successes));
        fields.insert("cooldown_ms".to_owned(), json!(row.cooldown_ms));
        fields.insert("step".to_owned(), json!(row.step));
    }
    object
}

pub(super) fn daemon(daemon: &Daemon) -> Value {
    json!({
        "pid": daemon.pid,
        "host": daemon.host,
        "release": daemon.release,
        "up_ms": daemon.up_ms,
        "link": daemon.link.word(),
        "link_ms": daemon.link_ms,
        "redis": daemon.redis,
        "fleet": daemon.fleet,
        "workers": daemon.workers,
        "breakers": daemon.breakers,
        "stale_reports": daemon.stale_reports,
        "over_quota": daemon.over_quota,
    })
}

pub(super) fn description(description: &Description) -> Value {
    let lanes: Vec<Value> = description
        .lanes
        .iter()
        .map(|lane| {
            json!({
                "worker": lane.worker,
                "label": lane.label,
                "failures": lane.failures,
                "successes_total": lane.successes_total,
                "failures_total": lane.failures_total,
                "last_failure": lane.last_failure.as_ref().map(last_failure),
            })
        })
        .collect();
    json!({
        "breaker": breaker(&description.row),
        "policy": policy::object(&description.policy),
        "lanes": lanes,
    })
}

fn last_failure(failure: &LastFailure) -> Value {
    json!({ "kind": failure.kind, "detail": failure.detail, "ago_ms": failure.ago_ms })
}

pub(super) fn worker(row: &WorkerRow) -> Value {
    json!({
        "worker": row.worker,
        "label": row.label,
        "uid": row.uid,
        "age_ms": row.age_ms,
        "connections": row.connections,
        "breakers": row.breakers,
        "permits_out": row.permits_out,
    })
}

pub(super) fn changed(changed: &Changed, ago_ms: u64) -> Value {
    json!({
        "event": "changed",
        "name": changed.name,
        "what": changed.what,
        "from": changed.from.word(),
        "to": view(&changed.view),
        "ago_ms": ago_ms,
    })
}

/// The word of a verdict: `admit`, `probe` or `reject`.
pub(super) fn verdict_word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Admit { .. } => "admit",
        Verdict::Probe { .. } => "probe",
        Verdict::Reject { .. } => "reject",
    }
}
