//! Token buckets, each in eight bytes.
//!
//! A bucket is kept as the one time at which it will be full again (the generic cell rate algorithm): a token taken moves
//! that time on by one interval, and there is a token as long as it lies no more than the bucket's depth ahead. Nothing has
//! to be filled up as time goes by, and nothing is lost to rounding.

use crate::error::SignalingError;

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How often in the long run, per second. Above 0; 0.1 is once in ten seconds.
    pub per_second: f64,
    /// How often at once after a rest. At least 1.
    pub burst: u32,
}

impl Rate {
    /// `per_second` in the long run, `burst` at once.
    pub const fn new(per_second: f64, burst: u32) -> Rate {
        Rate { per_second, burst }
    }

    /// The rate in whole nanoseconds. `field` is what an error calls it.
    ///
    /// # Errors
    /// [`SignalingError::BadConfig`]: not a rate, or slower than once in a year.
    pub(crate) fn limit(self, field: &str) -> Result<Limit, SignalingError> {
        let good = (SLOWEST..=FASTEST).contains(&self.per_second) && self.burst > 0;
        if !good {
            let why = "must allow at least one at once, and between 0.00000004 and a thousand million per second";
            return Err(SignalingError::BadConfig { field: field.to_owned(), why });
        }
        // in range by the check above: 1 to 3e16
        let interval = (1e9 / self.per_second).round().max(1.0) as u64;
        Ok(Limit { interval, depth: interval.saturating_mul(self.burst.into()) })
    }
}

/// Once in a year, or a little less.
const SLOWEST: f64 = 3e-8;
const FASTEST: f64 = 1e9;

/// A [`Rate`], checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    /// Nanoseconds that one token takes to come back.
    interval: u64,
    /// Nanoseconds that an empty bucket takes to be full.
    depth: u64,
}

/// A bucket; full when made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    /// Nanoseconds on the owner's clock.
    full_at: u64,
}

impl Bucket {
    /// There is a token.
    pub(crate) fn has(self, now: u64, limit: Limit) -> bool {
        self.full_at.saturating_sub(now).saturating_add(limit.interval) <= limit.depth
    }

    /// Takes a token, if there is one.
    pub(crate) fn take(&mut self, now: u64, limit: Limit) -> bool {
        let has = self.has(now, limit);
        if has {
            self.full_at = self.full_at.max(now).saturating_add(limit.interval);
        }
        has
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn taken(bucket: &mut Bucket, now: u64, limit: Limit) -> usize {
        (0..1000).filter(|_| bucket.take(now, limit)).count()
    }

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_its_rate_in_the_long_run() {
        let limit = Rate::new(10.0, 5).limit("rate").unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, 0, limit), 5);
        assert_eq!(taken(&mut bucket, SECOND / 10 - 1, limit), 0);
        assert_eq!(taken(&mut bucket, SECOND / 10, limit), 1);
        assert_eq!(taken(&mut bucket, SECOND * 1000, limit), 5, "a rest saves up no more than the burst");
        let late = (0..1000).map(|i| taken(&mut bucket, SECOND * 1000 + i * SECOND / 100, limit)).sum::<usize>();
        assert!((95..=100).contains(&late), "{late} in ten seconds");
    }

    #[test]
    fn what_is_no_rate_is_refused_by_its_name() {
        for bad in [Rate::new(0.0, 1), Rate::new(-1.0, 1), Rate::new(f64::NAN, 1), Rate::new(1.0, 0)] {
            let error = bad.limit("guard.stranger_rate").unwrap_err().to_string();
            assert!(error.starts_with("guard.stranger_rate must"), "{error}");
        }
        assert!(Rate::new(f64::INFINITY, 1).limit("x").is_err());
    }

    #[test]
    fn a_clock_that_stands_still_or_goes_back_gives_nothing_away() {
        let limit = Rate::new(1.0, 2).limit("rate").unwrap();
        let mut bucket = Bucket::default();
        assert_eq!(taken(&mut bucket, 5 * SECOND, limit), 2);
        assert_eq!(taken(&mut bucket, 0, limit), 0);
        assert_eq!(taken(&mut bucket, u64::MAX / 2, limit), 2);
    }
}
