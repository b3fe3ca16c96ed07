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
        EngineJack::Running { server, rate_hz, period, xruns } => {
            json!({ "state": "running", "server": server, "rate": rate_hz, "period": period, "xruns": xruns })
        }
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
        "memory": memory(),
    })
}

/// For `daemon.status`: the allocator's books. What is in use tells whether something is kept; resident memory does not, for
/// free room within what the allocator holds is touched little by little.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn memory() -> Value {
    // SAFETY: mallinfo2 takes nothing, and only reads the allocator's books, under its own locks.
    let books = unsafe { libc::mallinfo2() };
    let kib = |bytes: usize| bytes / 1024;
    json!({ "in_use_kib": kib(books.uordblks + books.hblkhd), "held_kib": kib(books.arena + books.hblkhd) })
}

/// For `daemon.status`: other systems' allocators tell nothing.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn memory() -> Value {
    json!({})
}

fn grant(grant: &Grant) -> Value {
    json!(grant.to_string())
}
