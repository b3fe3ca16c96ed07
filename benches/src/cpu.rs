//! Which core a thread runs on, and how much of it a thread or process has used.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

/// Asks for real-time priority for the calling thread (`SCHED_FIFO`, 1 to 99). Without it the figures are those of a busy
/// machine, and say so by their maxima.
pub fn become_real_time(priority: u8) {
    let Ok(value) = priority.try_into() else { return };
    let _ = set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(value),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo),
    );
}

/// Keeps the calling thread, and all that it starts, to these cores; on a machine that has not got them nothing changes.
///
/// # Errors
/// The system refused.
pub fn pin_to(cores: &[usize]) -> Result<()> {
    // SAFETY: a cpu_set_t is a plain array of bits, for which all zeros is a valid value (the empty set).
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    for core in cores {
        // SAFETY: CPU_SET writes within the set for numbers below CPU_SETSIZE, and is bounds-checked beyond.
        unsafe { libc::CPU_SET(*core, &mut set) };
    }
    // SAFETY: the pointer is to a set of the size that is given, which lives until the call returns.
    let done = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) };
    ensure!(done == 0, "cannot pin to cores {cores:?}: {}", std::io::Error::last_os_error());
    Ok(())
}

/// Every core but this one; this one, if there is no other.
pub fn all_but(core: usize) -> Vec<usize> {
    // not `available_parallelism`: that counts what this thread may use
    // SAFETY: sysconf only reads a figure of the system.
    let count = usize::try_from(unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }).unwrap_or(1);
    let others: Vec<_> = (0..count).filter(|c| *c != core).collect();
    if others.is_empty() { vec![core] } else { others }
}

/// Processor time of the threads of this process that have this name.
///
/// # Errors
/// There is none, or `/proc` cannot be read.
pub fn thread_time(name: &str) -> Result<Duration> {
    let mut found = None;
    for entry in fs::read_dir("/proc/self/task")? {
        let path = entry?.path();
        if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
            found = Some(found.unwrap_or(Duration::ZERO) + time_of(&fs::read_to_string(path.join("stat"))?)?);
        }
    }
    found.with_context(|| format!("there is no thread {name:?}"))
}

/// Processor time of a process.
///
/// # Errors
/// It has ended.
pub fn process_time(pid: u32) -> Result<Duration> {
    time_of(&fs::read_to_string(format!("/proc/{pid}/stat"))?)
}

/// User and system time of a `stat` line (proc(5): fields 14 and 15, in clock ticks).
pub(crate) fn time_of(stat: &str) -> Result<Duration> {
    // the name, in brackets, may hold spaces
    let (_, rest) = stat.rsplit_once(')').context("no name in stat")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Result<u64> { Ok(fields.next().context("a short stat line")?.parse()?) };
    let total = ticks()? + ticks()?;
    // SAFETY: sysconf only reads a constant of the system.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    Ok(Duration::from_secs_f64(total as f64 / per_second.max(1) as f64))
}
