//! Memory is what it was when calls are over, however many there were (case 48).
//!
//! The only test of its program: resident memory is that of the whole process.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mr_sip_engine::call::{MediaCall, MediaCallConfig};
use mr_sip_engine::clock::Time;
use mr_sip_engine::realtime::GuardedAllocator;
use mr_sip_engine::{CallId, Codec, MediaParams, large_blocks};

#[global_allocator]
static ALLOCATOR: GuardedAllocator = GuardedAllocator;

/// Calls at once.
const AT_ONCE: usize = 40;
/// What is remembered of so many calls after their ends.
const REMEMBERED: usize = 500;
/// Far less than a page a call: half a megabyte over the calls below.
const SLACK_KIB: u64 = 512;

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

/// So many calls after one another, each of them 20 to 220 ms long; something small is remembered of each for a while.
fn churn(calls: usize, random: &mut fastrand::Rng, remembered: &mut VecDeque<Vec<u8>>) {
    let mut up = VecDeque::new();
    for n in 0..calls {
        let far: SocketAddr = "127.0.0.1:4000".parse().unwrap();
        let (mut media, controls) = MediaCall::new(MediaCallConfig {
            id: CallId(1),
            params: MediaParams::new(far, Codec::Pcmu, 0),
            media_lost_after: Duration::from_secs(10),
            start: Time::from_nanos(0),
            start_instant: Instant::now(),
            seed: n as u64,
            phase: 0,
            jack: None,
            record: None,
        });
        for tick in 0..random.u64(4..44) {
            media.tick(Time::from_nanos(tick * 5_000_000));
            while media.poll_transmit().is_some() {}
        }
        up.push_back((Box::new(media), controls));
        remembered.push_back(vec![1; random.usize(100..6_000)]);
        while remembered.len() > REMEMBERED {
            remembered.pop_front();
        }
        while up.len() > AT_ONCE {
            up.remove(random.usize(..up.len()));
        }
    }
}

#[test]
fn case_48_calls_in_a_row_leave_resident_memory_where_it_was() {
    let mut random = fastrand::Rng::with_seed(48);
    let mut remembered = VecDeque::with_capacity(2 * REMEMBERED);
    churn(2_000, &mut random, &mut remembered);
    let (before, large) = (resident_kib(), large_blocks::in_use());
    churn(6_000, &mut random, &mut remembered);
    let (after, still) = (resident_kib(), large_blocks::in_use());
    println!("resident: {before} KiB, after 6,000 calls more {after} KiB; large blocks: {large}, {still} bytes");
    assert_eq!(large, still);
    assert!(after <= before + SLACK_KIB, "{before} KiB became {after}");
}
