//! What makes a thread real-time, and what checks that it behaves as one.
//!
//! Three things are asked of the system: a core of its own, `SCHED_FIFO`, and memory that is not paged out. Each may be
//! refused to an ordinary user; then the engine runs on without, and [`Report`] says what is missing, why, and how to
//! get it.
//!
//! The real-time rule (no allocation, no free) is checked by [`GuardedAllocator`]: a program that installs it as its
//! global allocator can ask [`violations`] how often a thread marked by [`mark_thread`] allocated or freed.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, getrlimit};
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
    set_thread_priority_and_policy, thread_native_id,
};

use crate::large_blocks::LargeApart;

thread_local! {
    // const and without a destructor: neither its first use nor its end allocates
    static REAL_TIME: Cell<bool> = const { Cell::new(false) };
}

static VIOLATIONS: AtomicU64 = AtomicU64::new(0);

/// Says that from now on the current thread must not allocate or free.
pub fn mark_thread() {
    REAL_TIME.set(true);
}

/// Takes back [`mark_thread`].
pub fn unmark_thread() {
    REAL_TIME.set(false);
}

/// How often real-time threads have allocated or freed, in a program that installs [`GuardedAllocator`]; 0 in others.
#[must_use]
pub fn violations() -> u64 {
    VIOLATIONS.load(Ordering::Relaxed)
}

/// The system's allocator, counting what real-time threads ask of it. Large blocks lie apart: see
/// [`large_blocks`](crate::large_blocks).
///
/// ```
/// use mr_sip_engine::realtime::{self, GuardedAllocator};
///
/// #[global_allocator]
/// static ALLOCATOR: GuardedAllocator = GuardedAllocator;
///
/// realtime::mark_thread();
/// drop(std::hint::black_box(Box::new(1)));
/// realtime::unmark_thread();
/// assert_eq!(realtime::violations(), 2); // one allocation, one free
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct GuardedAllocator;

fn note() {
    // a thread whose thread-locals are gone is not one of ours
    if REAL_TIME.try_with(Cell::get).unwrap_or(false) {
        VIOLATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every method passes its arguments on to another allocator unchanged and returns what that returns; `note` neither
// allocates nor unwinds.
unsafe impl GlobalAlloc for GuardedAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { LargeApart.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc_zeroed`, which is the same there.
        unsafe { LargeApart.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: `ptr` came from `LargeApart` by our `alloc`, and the caller keeps the rest of the contract.
        unsafe { LargeApart.realloc(ptr, layout, new_size) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        note();
        // SAFETY: `ptr` came from `LargeApart` by our `alloc`, with the same layout.
        unsafe { LargeApart.dealloc(ptr, layout) }
    }
}

/// One thing that was asked of the system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// It was granted.
    Granted(String),
    /// It was not asked for.
    NotAsked(String),
    /// It was refused; the engine runs on without it.
    Refused {
        /// Why.
        reason: String,
        /// What to do about it.
        fix: String,
    },
}

impl Grant {
    /// Whether it was granted.
    #[must_use]
    pub fn is_granted(&self) -> bool {
        matches!(self, Self::Granted(_))
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Granted(what) => write!(f, "yes ({what})"),
            Self::NotAsked(why) => write!(f, "not asked for ({why})"),
            Self::Refused { reason, fix } => write!(f, "no: {reason}; {fix}"),
        }
    }
}

/// What the system granted the media threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// A core of their own.
    pub pinned: Grant,
    /// `SCHED_FIFO`.
    pub realtime: Grant,
    /// Memory that stays in memory.
    pub memory_locked: Grant,
    /// Packets in batches, by io_uring.
    pub net_io: Grant,
    /// How many media threads there are.
    pub media_threads: usize,
}

/// The cores that media threads should take if the configuration names none: the last one, which interrupts and other
/// programs use least, and none on a machine that has only one.
#[must_use]
pub fn choose_cores() -> Vec<usize> {
    let ids = core_affinity::get_core_ids().unwrap_or_default();
    if ids.len() < 2 { Vec::new() } else { ids.last().map(|core| core.id).into_iter().collect() }
}

/// Gives the current thread a core of its own, if one is named.
pub(crate) fn pin(core: Option<usize>) -> Grant {
    let Some(core) = core else {
        return Grant::NotAsked("this machine has one core to use".to_owned());
    };
    let known = core_affinity::get_core_ids().unwrap_or_default();
    if !known.iter().any(|id| id.id == core) {
        let cores: Vec<_> = known.iter().map(|id| id.id.to_string()).collect();
        return Grant::Refused {
            reason: format!("this process may not use core {core}"),
            fix: format!("name one of these cores: {}", cores.join(", ")),
        };
    }
    if core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        Grant::Granted(format!("core {core}"))
    } else {
        Grant::Refused {
            reason: format!("the system refused core {core}"),
            fix: "name another core, or none".to_owned(),
        }
    }
}

/// Puts the current thread under `SCHED_FIFO`, if a priority is named.
pub(crate) fn schedule(priority: Option<u8>) -> Grant {
    let Some(priority) = priority else {
        return Grant::NotAsked("by configuration".to_owned());
    };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    let result = ThreadPriorityValue::try_from(priority).map_err(|e| e.to_string()).and_then(|value| {
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Crossplatform(value), policy)
            .map_err(|e| format!("{e:?}"))
    });
    match result {
        Ok(()) => Grant::Granted(format!("SCHED_FIFO {priority}")),
        Err(reason) => Grant::Refused {
            reason: format!("SCHED_FIFO {priority} was refused ({reason})"),
            fix: "add the user to the group `audio` and give it `@audio - rtprio 95` in \
                  /etc/security/limits.d/audio.conf (or LimitRTPRIO=95 in the systemd unit), then log in again"
                .to_owned(),
        },
    }
}

/// Keeps the memory of this process from being paged out, if that is asked for and cannot do harm.
///
/// Pages are locked as they are first touched, so that the rings' unused parts cost nothing. Where there is a limit on
/// locked memory nothing is locked at all: every later allocation would count against it and could fail.
pub(crate) fn lock_memory(asked: bool) -> Grant {
    if !asked {
        return Grant::NotAsked("by configuration".to_owned());
    }
    let refused = |reason: String| Grant::Refused {
        reason,
        fix: "set `@audio - memlock unlimited` in /etc/security/limits.d/audio.conf (or LimitMEMLOCK=infinity in the \
              systemd unit), then log in again"
            .to_owned(),
    };
    let unlimited = getrlimit(Resource::RLIMIT_MEMLOCK).is_ok_and(|(soft, _)| soft == libc::RLIM_INFINITY);
    if !unlimited && !nix::unistd::geteuid().is_root() {
        return refused("locked memory is limited for this user".to_owned());
    }
    let flags = MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE | MlockAllFlags::from_bits_retain(MCL_ONFAULT);
    match mlockall(flags) {
        Ok(()) => Grant::Granted("all of it, as it is touched".to_owned()),
        Err(error) => refused(format!("locking memory failed ({error})")),
    }
}

/// `MCL_ONFAULT` (Linux 4.4), which nix does not name.
const MCL_ONFAULT: libc::c_int = 4;
