//! The states of engine and JACK in the words of the control protocol.

use control::types::{JackState, MediaThread};
use engine::{EngineStats, Grant, JackState as EngineJack, Report, ThreadStats};
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
        "late_ticks": stats.late_ticks,
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
        "io_uring": grant(&report.net_io),
    })
}

/// For `daemon.status`: each media thread, named as the engine names them.
pub(crate) fn media_threads(all: &[ThreadStats]) -> Vec<MediaThread> {
    let of = |(index, stats): (usize, &ThreadStats)| MediaThread {
        thread: format!("media-{index}"),
        calls: stats.calls as u64,
        ticks: stats.ticks,
        late_starts: stats.late_starts,
        latest_start_us: stats.lateness_max.as_micros() as u64,
        late_ticks: stats.late_ticks,
        skipped_ticks: stats.skipped_ticks,
        overruns: stats.overruns,
        busy_ms: stats.busy.as_millis() as u64,
        // four digits say enough
        busy: (stats.load() * 1e4).round() / 1e4,
    };
    all.iter().enumerate().map(of).collect()
}

/// For `daemon.status`: the allocator's books, what lies in the heap and the large blocks apart. `in_use` is what was asked
/// for and not given back, `held` what the process has of the system for it, touched or not.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn memory() -> Value {
    // SAFETY: mallinfo2 takes nothing, and only reads the allocator's books, under its own locks.
    let books = unsafe { libc::mallinfo2() };
    let large = engine::large_blocks::in_use();
    let kib = |bytes: usize| bytes / 1024;
    let (in_use, held) = (books.uordblks + books.hblkhd + large, books.arena + books.hblkhd + large);
    json!({ "in_use_kib": kib(in_use), "held_kib": kib(held), "large_kib": kib(large) })
}

/// For `daemon.status`: other systems' heaps keep no books that could be read.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn memory() -> Value {
    json!({ "large_kib": engine::large_blocks::in_use() / 1024 })
}

fn grant(grant: &Grant) -> Value {
    json!(grant.to_string())
}
