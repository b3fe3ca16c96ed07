//! The states of engine and JACK in the words of the control protocol.

use control::types::JackState;
use engine::EngineStats;
use engine::{Grant, JackState as EngineJack, Report};
use serde_json::{Value, json};

/// Off, running or lost.
pub(crate) fn jack_state(state: &EngineJack) -> JackState {
    match state {
        EngineJack::Off => JackState::Off,
        EngineJack::Running { .. } => JackState::Running,
        EngineJack::Lost { .. } => JackState::Lost,
    }
}

/// For `daemon.status`.
pub(crate) fn jack(state: &EngineJack) -> Value {
    match state {
        EngineJack::Off => json!({ "state": "off" }),
        EngineJack::Running { server, rate_hz, period, xruns, freewheeling, own_clients } => json!({
            "state": "running",
            "server": server,
            "rate": rate_hz,
            "period": period,
            "xruns": xruns,
            "freewheeling": freewheeling,
            "own_clients": own_clients,
        }),
        EngineJack::Lost { since } => json!({ "state": "lost", "lost_ms": since.elapsed().as_millis() as u64 }),
    }
}

/// For `daemon.status`.
pub(crate) fn engine(stats: &EngineStats, report: &Report) -> Value {
    json!({
        "ticks": stats.ticks,
        "tick_lateness_p50_us": stats.tick_lateness_p50.as_micros() as u64,
        "tick_lateness_p99_us": stats.tick_lateness_p99.as_micros() as u64,
        "tick_lateness_max_us": stats.tick_lateness_max.as_micros() as u64,
        "overruns": stats.overruns,
        "skipped_ticks": stats.skipped_ticks,
        "busy_ms": stats.busy.as_millis() as u64,
        "calls": stats.calls,
        "lost_events": stats.lost_events,
        "allocation_violations": stats.allocation_violations,
        "media_threads": report.media_threads,
        "pinned": grant(&report.pinned),
        "realtime": grant(&report.realtime),
        "memory_locked": grant(&report.memory_locked),
    })
}

fn grant(grant: &Grant) -> Value {
    json!(grant.to_string())
}
