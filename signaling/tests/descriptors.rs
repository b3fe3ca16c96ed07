//! A process without descriptors left. Its limit is the whole process's, so this test has one of its own.

mod net;

use std::{
    fs::File,
    io::{Read, Write},
    net::{TcpStream, UdpSocket},
};

use net::{start, until};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

const OPTIONS: &str = "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;rport;branch=z9hG4bK1\r\n\
    From: <sip:x@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\n\
    Content-Length: 0\r\n\r\n";

#[test]
fn case_44_without_descriptors_nothing_is_accepted_for_a_while_and_the_rest_goes_on() {
    let a = start();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    datagrams.set_read_timeout(Some(net::LIMIT)).unwrap();
    let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, open + 4, hard).unwrap();
    let mut fillers = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        fillers.push(file);
    }
    // one for this side, and none for the other
    fillers.pop();
    let mut visitor = TcpStream::connect(a.tcp_addr().unwrap()).unwrap();
    until("paused", || a.stats().streams.pauses > 0);
    datagrams.send_to(OPTIONS.replace("TCP", "UDP").as_bytes(), a.local_addr()).unwrap();
    let mut answer = [0; 2048];
    let length = datagrams.recv(&mut answer).unwrap();
    assert!(answer[..length].starts_with(b"SIP/2.0 "));
    assert!(a.stats().streams.pauses < 10, "it does not spin: {:?}", a.stats());
    drop(fillers);
    visitor.set_read_timeout(Some(net::LIMIT)).unwrap();
    visitor.write_all(OPTIONS.as_bytes()).unwrap();
    visitor.read_exact(&mut answer[..8]).unwrap();
    assert!(answer.starts_with(b"SIP/2.0 "));
}
