//! The one clock of the media room: nanoseconds of `CLOCK_MONOTONIC`.
//!
//! Everything below the media thread takes the time as a parameter, so that tests run on a virtual clock.

use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

/// A point of monotonic time, in nanoseconds. Never goes backwards; not a time of day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's origin; what virtual clocks start from.
    pub const ZERO: Self = Self(0);

    /// Now, by `CLOCK_MONOTONIC`. Does not allocate.
    #[must_use]
    pub fn now() -> Self {
        Self(read_clock(libc::CLOCK_MONOTONIC))
    }

    /// A time from its nanoseconds.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole ticks since `earlier`; none if it lies ahead. By 64 bits, as a division of a `Duration` is one of 128, which
    /// no processor has an instruction for.
    pub(crate) const fn ticks_since(self, earlier: Self) -> u64 {
        const TICK_NANOS: u64 = crate::TICK.subsec_nanos() as u64;
        self.0.saturating_sub(earlier.0) / TICK_NANOS
    }

    /// The time in samples of 8 kHz, with their fractions: what transit times are reckoned in.
    #[must_use]
    pub fn as_samples_8k(self) -> f64 {
        // 2^53 ns are 104 days of exact integers, and beyond that the error stays below a microsecond
        self.0 as f64 * (8_000.0 / 1e9)
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Time {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// Nanoseconds of one of the kernel's clocks.
pub(crate) fn read_clock(clock: libc::clockid_t) -> u64 {
    let mut spec = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `spec` is a valid, writable timespec for the duration of the call, and the kernel writes nothing else.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut spec) } != 0;
    if failed {
        return 0; // only an unknown clock number can fail, and ours are constants
    }
    u64::try_from(spec.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(spec.tv_nsec).unwrap_or(0)
}
