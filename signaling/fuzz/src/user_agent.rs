//! A user agent with an account, driven by a script that is the input.
//!
//! A script is steps, separated by the byte 0x1e. The first byte of a step says what happens:
//!
//! | | rest of the step | |
//! |---|---|---|
//! | `M` | bytes | a datagram comes from the peer |
//! | `C` | bytes | the same over TCP |
//! | `T` | digit, status, text | a response comes to the last, last but one, ... message that was sent; text: more headers and a body |
//! | `R` | digit, letter, text | a request comes within the dialog of that message; the letter chooses the method |
//! | `A` | letter, digit | the application does something with its first, second, ... call |
//! | `W` | letter | time passes, `a` 1 ms, `b` 2 ms, `c` 4 ms, ... |
//! | `N` | | names that were asked for are found |
//! | `X` | | the connection closes, and nothing listens at the peer |

use std::time::{Duration, Instant};

use signaling::{
    Account, CallId, ConnectionId, Dial, Event, Password, Peer, ReferPolicy, Target, Transport, UserAgent,
    UserAgentConfig, sdp,
};

const PEER: &str = "10.0.0.50";
/// More steps than this show nothing new.
const MAX_STEPS: usize = 64;
/// All that is under way ends within this, by itself.
const PATIENCE: Duration = Duration::from_secs(15 * 60);
/// Far more than any script can cause.
const MAX_TIMEOUTS: usize = 20_000;

struct World {
    agent: UserAgent,
    now: Instant,
    sent: Vec<String>,
    calls: Vec<CallId>,
    ended: Vec<CallId>,
    numbers: u32,
    /// Names that are asked for are not found; else they wait for a step that finds them.
    nameless: bool,
}

/// Whatever comes in whatever order: each call ends exactly once, and after a shutdown nothing is left.
pub fn user_agent(data: &[u8]) {
    let mut world = World::new();
    for step in data.split(|byte| *byte == 0x1e).take(MAX_STEPS) {
        world.step(step);
        world.drain();
    }
    world.agent.shutdown(world.now);
    world.nameless = true;
    world.drain();
    world.pass(PATIENCE);
    assert!(world.agent.is_idle(), "{:#?}", world.agent);
    let open: Vec<_> = world.calls.iter().filter(|call| !world.ended.contains(call)).collect();
    assert!(open.is_empty(), "{open:?} never ended");
}

impl World {
    fn new() -> World {
        let mut config = UserAgentConfig::new(([10, 0, 0, 1], 5060).into());
        let mut account = Account::new("pbx", PEER, "agent", Password::new("swordfish"));
        account.proxies = vec!["proxy.example.com".into()];
        config.accounts = vec![account];
        config.max_calls = 4;
        // what is off by default is more to get wrong
        config.refer = ReferPolicy::Ask;
        config.redirects = true;
        let mut agent = UserAgent::new(config, [7; 32]).expect("a good configuration");
        let now = Instant::now();
        agent.handle_timeout(now);
        let mut world =
            World { agent, now, sent: Vec::new(), calls: Vec::new(), ended: Vec::new(), numbers: 0, nameless: false };
        world.drain();
        world
    }

    fn step(&mut self, step: &[u8]) {
        let Some((what, rest)) = step.split_first() else { return };
        match what {
            b'M' => self.comes(Transport::Udp, rest),
            b'C' => self.comes(Transport::Tcp, rest),
            b'T' => self.answer(rest),
            b'R' => self.ask(rest),
            b'A' => self.act(rest),
            b'W' => self.pass(Duration::from_millis(1 << (letter(rest.first()) % 20))),
            b'N' => self.resolve(true),
            b'X' => {
                self.agent.handle_closed(self.now, &peer(Transport::Tcp), "it broke");
                self.agent.handle_unreachable(self.now, peer(Transport::Udp).address);
            }
            _ => {}
        }
    }

    fn comes(&mut self, transport: Transport, bytes: &[u8]) {
        self.agent.handle_message(self.now, &peer(transport), bytes);
    }

    /// The message that was sent last, last but one, ...
    fn sent(&self, digit: Option<&u8>) -> Option<&str> {
        let back = usize::from(digit.copied().unwrap_or_default().wrapping_sub(b'0'));
        self.sent.iter().rev().nth(back % self.sent.len().max(1)).map(String::as_str)
    }

    fn answer(&mut self, rest: &[u8]) {
        let Some(request) = self.sent(rest.first()) else { return };
        let (status, more) = rest.get(1..).unwrap_or_default().split_at_checked(3).unwrap_or_default();
        let get = |name| header(request, name);
        let to = if get("To").contains("tag=") { get("To").to_owned() } else { format!("{};tag=far", get("To")) };
        let text = format!(
            "SIP/2.0 {} x\r\nVia: {}\r\nFrom: {}\r\nTo: {to}\r\nCall-ID: {}\r\nCSeq: {}\r\n{}",
            String::from_utf8_lossy(status),
            get("Via"),
            get("From"),
            get("Call-ID"),
            get("CSeq"),
            ending(more),
        );
        self.comes(Transport::Udp, text.as_bytes());
    }

    fn ask(&mut self, rest: &[u8]) {
        let Some(sent) = self.sent(rest.first()) else { return };
        let methods = ["INVITE", "ACK", "BYE", "CANCEL", "INFO", "UPDATE", "OPTIONS", "REFER", "PRACK", "NOTIFY"];
        let method = methods[usize::from(letter(rest.get(1))) % methods.len()];
        let get = |name| header(sent, name);
        // our responses name us in To, our requests in From
        let (from, to) = if sent.starts_with("SIP/2.0") {
            (get("From").to_owned(), get("To").to_owned())
        } else {
            (format!("{};tag=far", get("To")), get("From").to_owned())
        };
        let number = self.numbers + 100;
        let text = format!(
            "{method} sip:agent@10.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP {PEER};rport;branch=z9hG4bKr{number}\r\nFrom: {from}\r\n\
             To: {to}\r\nCall-ID: {}\r\nCSeq: {number} {method}\r\nContact: <sip:far@{PEER}>\r\n{}",
            get("Call-ID"),
            ending(rest.get(2..).unwrap_or_default()),
        );
        self.numbers += 1;
        self.comes(Transport::Udp, text.as_bytes());
    }

    fn act(&mut self, rest: &[u8]) {
        let now = self.now;
        let index = usize::from(rest.get(1).copied().unwrap_or_default().wrapping_sub(b'0'));
        let call = self.calls.get(index % self.calls.len().max(1)).copied().unwrap_or(CallId(1));
        let offer = sdp::offer(&sdp::LocalMedia::new(([10, 0, 0, 1], 4000).into()));
        let dial = |account: Option<&str>, to: &str| Dial {
            account: account.map(str::to_owned),
            to: to.to_owned(),
            sdp: offer.clone(),
            ..Dial::default()
        };
        let other = self.calls.last().copied().unwrap_or(CallId(1));
        // an error says only that it was the wrong moment
        let agent = &mut self.agent;
        let _ = match rest.first() {
            Some(b'd') => agent.dial(now, dial(Some("pbx"), "123")).map(|call| self.calls.push(call)),
            Some(b'D') => agent.dial(now, dial(None, "sip:far@10.0.0.50")).map(|call| self.calls.push(call)),
            Some(b'n') => agent.dial(now, dial(None, "sip:far@named.example.com")).map(|call| self.calls.push(call)),
            Some(b'r') => agent.ring(now, call),
            Some(b'a') => agent.answer(now, call, offer),
            Some(b'j') => agent.reject(now, call, 486),
            Some(b'h') => agent.hangup(now, call),
            Some(b'o') => agent.answer_reoffer(now, call, offer),
            Some(b'p') => agent.reject_reoffer(now, call, 488),
            Some(b'O') => agent.reoffer(now, call, offer),
            Some(b'i') => agent.info(now, call, "application/dtmf-relay".into(), "Signal=1".into()),
            Some(b't') => agent.transfer(now, call, "sip:third@10.0.0.50"),
            Some(b'u') => agent.transfer_to(now, call, other),
            Some(b'v') => agent.accept_transfer(now, call, offer),
            Some(b'w') => agent.reject_transfer(now, call, 603),
            _ => Ok(()),
        };
    }

    fn resolve(&mut self, found: bool) {
        while let Some(question) = self.agent.poll_resolve() {
            let transport = question.transport.unwrap_or(Transport::Udp);
            let target = Target { transport, address: peer(transport).address };
            let targets = if found { vec![target] } else { Vec::new() };
            self.agent.handle_resolved(self.now, question.id, &targets, Duration::from_secs(60));
        }
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        for _ in 0..MAX_TIMEOUTS {
            let Some(at) = self.agent.poll_timeout().filter(|at| *at <= until) else {
                self.now = until;
                return;
            };
            self.now = self.now.max(at);
            self.agent.handle_timeout(self.now);
            self.drain();
        }
        panic!("it does not come to rest: {:#?}", self.agent);
    }

    fn drain(&mut self) {
        if self.nameless {
            self.resolve(false);
        }
        while let Some(transmit) = self.agent.poll_transmit() {
            assert!(transmit.bytes.len() < 128 * 1024);
            self.sent.push(String::from_utf8_lossy(&transmit.bytes).into_owned());
        }
        // only the last few are ever spoken of
        self.sent.drain(..self.sent.len().saturating_sub(256));
        while let Some(event) = self.agent.poll_event() {
            match event {
                Event::Incoming { call, .. } | Event::Transferring { new_call: call, .. } => self.calls.push(call),
                Event::Ended { call, .. } => {
                    assert!(!self.ended.contains(&call), "{call} ended twice");
                    self.ended.push(call);
                }
                _ => {}
            }
        }
    }
}

fn peer(transport: Transport) -> Peer {
    let connection = transport.is_reliable().then_some(ConnectionId(1));
    Peer { transport, address: ([10, 0, 0, 50], 5060).into(), connection, name: None }
}

fn letter(byte: Option<&u8>) -> u8 {
    byte.copied().unwrap_or_default().wrapping_sub(b'a')
}

/// More headers and a body, closed as it must be.
fn ending(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.contains("\n\n") || text.contains("\r\n\r\n") { text.into_owned() } else { format!("{text}\r\n\r\n") }
}

/// The first header of this name, as we write them.
fn header<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines()
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": "))
        .find(|(n, _)| *n == name)
        .map_or("", |(_, value)| value)
}
