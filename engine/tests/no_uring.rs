//! A system that refuses io_uring, as containers do by their seccomp profile: the engine says so, and calls go on by plain
//! sockets.

#[path = "support/engines.rs"]
mod engines;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use engines::{connect, correlation, speech, wait_for};
use mr_sip_engine::{Codec, Engine, EngineConfig, Grant, NetIo, WriteResult};

/// From here on this thread, and those that it starts, get "operation not permitted" for io_uring: what Docker's and
/// Podman's profiles answer.
fn refuse_io_uring() -> io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let [setup, register] = [libc::SYS_io_uring_setup, libc::SYS_io_uring_register].map(|call| call as u32);
    let equals = |k: u32, jt: u8| libc::sock_filter { jt, ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, k) };
    let mut filter = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0), // the number of the system call
        equals(setup, 2),
        equals(register, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: no pointer is passed.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the program and its filter live until the call is over, and the kernel copies them.
    match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn start(rtp_ports: RangeInclusive<u16>) -> Engine {
    let engine = Engine::start(EngineConfig {
        net_io: NetIo::Auto,
        bind_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        rtp_ports,
        lock_memory: false,
        max_calls: 8,
        ..EngineConfig::default()
    });
    engine.unwrap()
}

#[test]
fn where_io_uring_is_refused_it_is_told_and_calls_go_on_by_plain_sockets() {
    refuse_io_uring().expect("a filter of system calls");
    let (mut a, mut b) = (start(23_700..=23_719), start(23_720..=23_739));
    for engine in [&a, &b] {
        let Grant::Refused { reason, fix } = &engine.report().net_io else {
            panic!("{:?}", engine.report().net_io);
        };
        assert!(reason.contains("not permitted") && reason.contains("plain sockets do its work"), "{reason}");
        assert!(fix.contains("seccomp"), "{fix}");
    }
    let (mut at_a, mut at_b) = connect(&mut a, &mut b, Codec::Pcmu, None);
    let mut ears = at_b.take_ears().unwrap();
    let said = speech(8_000);
    let generation = at_a.voice().start_response();
    assert_eq!(at_a.voice().write(generation, &said), WriteResult::Accepted(said.len()));
    let mut heard: Vec<f32> = Vec::new();
    wait_for("the samples", || {
        while let Ok(sample) = ears.samples.pop() {
            heard.push(sample);
        }
        (heard.len() >= said.len() + 4_000).then_some(())
    });
    // a loaded machine may stall a thread, so that one of the two pieces is broken
    let whole = said.chunks(4_000).any(|piece| correlation(piece, &heard) > 0.95);
    assert!(whole, "{:?}", at_b.stats());
}
