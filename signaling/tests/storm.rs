//! A storm of mangled SIP over the whole life of a user agent, with an application that dials, answers and rejects at
//! random (cases 1 to 4): it neither panics nor forgets how to work, and every call ends once.
//!
//! It runs against the clock: half a second, or `MR_SIP_FUZZ_SECONDS`. What fails prints its round, and the same round goes
//! wrong in the same way again: the randomness has a fixed seed.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use fastrand::Rng;
use mr_sip_signaling::sdp::{self, LocalMedia};
use mr_sip_signaling::{
    Account, CallId, Dial, Event, Password, ReferPolicy, Target, Transport, UserAgent, UserAgentConfig,
};

const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);
const THEM: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)), 5060);
/// Calls that an agent of these tests may have at once.
const MAX_CALLS: usize = 50;

/// How long the storm goes on.
fn budget() -> Duration {
    let seconds = std::env::var("MR_SIP_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.5))
}

/// Runs `round` until the time is up; the round's number is the seed of its randomness.
fn storm(mut round: impl FnMut(&mut Rng)) {
    let end = Instant::now() + budget();
    let mut number = 0;
    while Instant::now() < end {
        let told = Told(number);
        round(&mut Rng::with_seed(number));
        std::mem::forget(told);
        number += 1;
    }
    assert!(number > 0);
    println!("{number} rounds");
}

/// Says which round it was, if that panics.
struct Told(u64);

impl Drop for Told {
    fn drop(&mut self) {
        eprintln!("this was round {}", self.0);
    }
}

/// Words on which readers of SIP and SDP stumble.
const BITS: [&[u8]; 22] = [
    b"\r\n",
    b"\r\n\r\n",
    b"\n",
    b"\r\n ",
    b";",
    b",",
    b"<",
    b">",
    b"\"",
    b":",
    b"=",
    b"\0",
    b"\xff\xfe",
    b"-1",
    b"4294967296",
    b"99999999999999999999",
    b"sip:",
    b"%",
    b"%ff",
    b"[::1]",
    b"z9hG4bK",
    b"SIP/2.0",
];

/// One to four changes: cut, flipped, repeated, joined with another message, or with one of the bad words put in.
fn mangle(random: &mut Rng, message: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = message.to_vec();
    for _ in 0..random.usize(1..=4) {
        let at = random.usize(0..=bytes.len());
        let to = random.usize(at..=bytes.len()).min(at + 64);
        match random.u8(0..7) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..to)),
            2 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            3 => {
                let piece = bytes[at..to].repeat(random.usize(1..40));
                bytes.splice(at..at, piece);
            }
            4 => {
                let from = random.usize(0..=other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
            _ => {
                let bit = BITS[random.usize(0..BITS.len())];
                bytes.splice(at..at, bit.iter().copied());
            }
        }
    }
    bytes
}

fn offer() -> String {
    sdp::offer(&LocalMedia::new(SocketAddr::new(THEM.ip(), 30_000)))
}

/// A request from [`THEM`].
fn request(method: &str, call: u32, number: u32, body: &str) -> Vec<u8> {
    let kind = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    format!(
        "{method} sip:mr-sip@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {THEM};rport;branch=z9hG4bK{call}x{number}\r\n\
         Max-Forwards: 70\r\nFrom: \"A Caller\" <sip:caller@{THEM}>;tag=f{call}\r\nTo: <sip:mr-sip@{US}>\r\n\
         Call-ID: {call}@{THEM}\r\nCSeq: {number} {method}\r\nContact: <sip:caller@{THEM}>\r\n\
         {kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// A response to what the agent sent: the headers as they were, and a first line before them.
fn response(random: &mut Rng, sent: &[u8], sdp: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(sent);
    let (head, _) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let headers = head.split_once("\r\n").map_or("", |(_, headers)| headers);
    let statuses = [100, 180, 183, 200, 200, 200, 202, 301, 401, 407, 422, 423, 481, 486, 487, 491, 500, 503, 603];
    let status = statuses[random.usize(0..statuses.len())];
    let challenge = match status {
        401 => "WWW-Authenticate: Digest realm=\"example.test\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n",
        407 => "Proxy-Authenticate: Digest realm=\"example.test\", nonce=\"n2\", algorithm=SHA-256\r\n",
        183 => "Require: 100rel\r\nRSeq: 1\r\nContact: <sip:them@192.0.2.9>\r\n",
        200 => "Contact: <sip:them@192.0.2.9>\r\nSession-Expires: 90;refresher=uac\r\nAllow: UPDATE\r\n",
        422 => "Min-SE: 3600\r\n",
        423 => "Min-Expires: 600\r\n",
        500 => "Retry-After: 1\r\n",
        _ => "Contact: <sip:them@192.0.2.9>;expires=60\r\n",
    };
    let headers: String = headers
        .split("\r\n")
        .filter(|line| !line.starts_with("Content-"))
        .map(|line| match line.strip_prefix("To: ") {
            Some(to) if !to.contains(";tag=") => format!("To: {to};tag=t1\r\n"),
            _ => format!("{line}\r\n"),
        })
        .collect();
    format!(
        "SIP/2.0 {status} So\r\n{headers}{challenge}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    )
    .into_bytes()
}

/// An agent with an account, on a clock of its own.
struct Stormed {
    agent: UserAgent,
    now: Instant,
    /// What it sent last, newest at the end; a few.
    sent: Vec<Vec<u8>>,
    /// Calls that have not ended.
    calls: Vec<CallId>,
}

impl Stormed {
    fn new(random: &mut Rng) -> Self {
        let mut config = UserAgentConfig::new(US);
        config.max_calls = MAX_CALLS;
        config.guard.trusted = vec!["192.0.2.0/24".parse().expect("a network")];
        config.refer = ReferPolicy::Ask;
        config.redirects = random.bool();
        config.accounts = vec![Account::new("default", THEM.to_string(), "us", Password::new("secret"))];
        let mut seed = [0; 32];
        random.fill(&mut seed);
        let agent = UserAgent::new(config, seed).expect("the configuration is good");
        Self { agent, now: Instant::now(), sent: Vec::new(), calls: Vec::new() }
    }

    /// Takes out what came of the last input, and answers events at random, as a daemon might.
    fn drain(&mut self, random: &mut Rng) {
        while let Some(resolve) = self.agent.poll_resolve() {
            let there = Target { transport: Transport::Udp, address: THEM };
            let addresses = if random.bool() { vec![there] } else { Vec::new() };
            self.agent.handle_resolved(self.now, resolve.id, &addresses, Duration::from_secs(60));
        }
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Incoming { call, .. } => {
                    self.calls.push(call);
                    match random.u8(0..5) {
                        4 => drop(self.agent.progress(self.now, call, offer())),
                        0 => drop(self.agent.answer(self.now, call, offer())),
                        1 => drop(self.agent.ring(self.now, call)),
                        2 => drop(self.agent.reject(self.now, call, 486)),
                        _ => {}
                    }
                }
                Event::Reoffer { call, .. } => match random.u8(0..3) {
                    0 => drop(self.agent.answer_reoffer(self.now, call, offer())),
                    1 => drop(self.agent.reject_reoffer(self.now, call, 488)),
                    _ => {}
                },
                Event::TransferRequested { call, .. } => match random.u8(0..3) {
                    0 => drop(self.agent.accept_transfer(self.now, call, offer())),
                    1 => drop(self.agent.reject_transfer(self.now, call, 603)),
                    _ => {}
                },
                Event::Transferring { new_call, .. } => self.calls.push(new_call),
                Event::Ended { call, .. } => {
                    let known = self.calls.iter().position(|known| *known == call);
                    self.calls.swap_remove(known.expect("a call ends once, and after it began"));
                }
                _ => {}
            }
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            assert!(transmit.bytes.len() <= 65_507, "what is sent fits into a datagram");
            if self.sent.len() == 8 {
                self.sent.remove(0);
            }
            self.sent.push(transmit.bytes);
        }
        assert!(self.calls.len() <= MAX_CALLS);
    }

    /// One of the things that an application may want of a call, whatever its state.
    fn want(&mut self, random: &mut Rng) {
        if self.calls.is_empty() {
            return;
        }
        let call = self.calls[random.usize(0..self.calls.len())];
        let other = self.calls[random.usize(0..self.calls.len())];
        match random.u8(0..7) {
            0 => drop(self.agent.reoffer(self.now, call, offer())),
            1 => drop(self.agent.info(self.now, call, "application/dtmf".into(), "1".into())),
            2 => drop(self.agent.transfer(self.now, call, "sip:x@192.0.2.9")),
            3 => drop(self.agent.transfer_to(self.now, call, other)),
            4 => drop(self.agent.answer(self.now, call, offer())),
            5 => drop(self.agent.progress(self.now, call, offer())),
            _ => drop(self.agent.answer_reoffer(self.now, call, offer())),
        }
        self.drain(random);
    }

    /// Gives a request the tags of the dialog that the last message was of, so that it gets further than 481.
    fn in_dialog(&self, random: &mut Rng, method: &str, number: u32) -> Option<Vec<u8>> {
        let sent = self.sent.get(random.usize(0..self.sent.len().max(1)))?;
        let text = String::from_utf8_lossy(sent);
        let header = |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
        let (from, to, id) = (header("From")?, header("To")?, header("Call-ID")?);
        // a response of ours bears them as the far end wrote them
        let (from, to) = if text.starts_with("SIP/2.0") { (from, to) } else { (to, from) };
        let more = [
            "",
            "Refer-To: <sip:x@192.0.2.9?Replaces=a%3Bto-tag%3Db%3Bfrom-tag%3Dc>\r\n",
            "Event: refer\r\nSubscription-State: terminated\r\nContent-Type: message/sipfrag\r\n",
            "Session-Expires: 90;refresher=uas\r\nSupported: timer\r\n",
            "RAck: 1 1 INVITE\r\n",
        ][random.usize(0..5)];
        let body = if more.contains("sipfrag") { "SIP/2.0 200 OK\r\n".to_owned() } else { offer() };
        let kind = if more.contains("sipfrag") || body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
        let message = format!(
            "{method} sip:mr-sip@{US} SIP/2.0\r\nVia: SIP/2.0/UDP {THEM};rport;branch=z9hG4bKd{number}\r\n\
             From: {from}\r\nTo: {to}\r\nCall-ID: {id}\r\nCSeq: {number} {method}\r\n\
             Contact: <sip:caller@{THEM}>\r\n{more}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Some(message.into_bytes())
    }

    fn receive(&mut self, random: &mut Rng, bytes: &[u8]) {
        self.agent.handle_datagram(self.now, THEM, bytes);
        self.drain(random);
    }

    /// Lets time pass, with everything that falls due in it.
    fn pass(&mut self, random: &mut Rng, time: Duration) {
        let until = self.now + time;
        for step in 0.. {
            assert!(step < 100_000, "timers come to an end");
            match self.agent.poll_timeout().filter(|due| *due <= until) {
                Some(due) => {
                    self.now = self.now.max(due);
                    self.agent.handle_timeout(self.now);
                    self.drain(random);
                }
                None => break,
            }
        }
        self.now = until;
    }
}

#[test]
fn fuzz_a_user_agent_lives_through_mangled_messages() {
    storm(|random| {
        let mut it = Stormed::new(random);
        it.drain(random);
        let offer = offer();
        for number in 0..60 {
            let call = random.u32(0..4);
            let method =
                ["INVITE", "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "INFO", "REGISTER"][random.usize(0..8)];
            let mut message = request(method, call, number / 8, if method == "INVITE" { &offer } else { "" });
            if random.bool() && !it.sent.is_empty() {
                let sent = it.sent[random.usize(0..it.sent.len())].clone();
                message = response(random, &sent, &offer);
            }
            if random.u8(0..3) == 0 {
                let methods = ["INVITE", "UPDATE", "PRACK", "REFER", "NOTIFY", "INFO", "ACK", "BYE"];
                let method = methods[random.usize(0..methods.len())];
                message = it.in_dialog(random, method, 1000 + number).unwrap_or(message);
            }
            if random.u8(0..3) == 0 {
                it.want(random);
            }
            if random.u8(0..3) > 0 {
                let other = it.sent.last().cloned().unwrap_or_default();
                message = mangle(random, &message, &other);
            }
            it.receive(random, &message);
            if random.u8(0..8) == 0 {
                let dial =
                    Dial { account: Some("default".into()), to: "4711".into(), sdp: offer.clone(), ..Dial::default() };
                if let Ok(call) = it.agent.dial(it.now, dial) {
                    it.calls.push(call);
                }
                it.drain(random);
            }
            let wait = Duration::from_millis(random.u64(0..700));
            it.pass(random, wait);
        }
        // every call that is left can be ended, and then nothing of the storm is left but the registration
        for call in it.calls.clone() {
            let _ = it.agent.hangup(it.now, call);
            it.drain(random);
        }
        it.pass(random, Duration::from_secs(600));
        assert!(it.calls.is_empty(), "calls that never end: {:?}", it.calls);
        it.sent.clear();
        it.receive(random, &request("OPTIONS", 99, 1, ""));
        let answer = it.sent.last().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).unwrap_or_default();
        assert!(answer.starts_with("SIP/2.0 200"), "an OPTIONS after the storm was answered {answer:?}");
    });
}
