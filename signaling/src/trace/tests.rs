//! What is kept, what makes room, and what comes out of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::*;

fn path(flow: Flow, remote: &str) -> Path {
    let local = if remote.starts_with('[') { "[2001:db8::1]:5060" } else { "10.0.0.1:5060" };
    Path { flow, local: local.parse().unwrap(), remote: remote.parse().unwrap(), transport: Transport::Udp }
}

const FAR: &str = "192.0.2.1:5060";

fn small() -> Trace {
    Trace::new(TraceConfig { calls: 10, bytes: 100_000, messages_per_call: 50, bytes_per_call: 20_000 })
}

/// Records messages whose bytes are their numbers.
fn fill(trace: &mut Trace, now: Instant, call_id: &str, numbers: std::ops::Range<u32>) {
    for i in numbers {
        trace.record(now, call_id, path(Flow::Sent, FAR), format!("{i}").as_bytes());
    }
}

fn numbers(call: &CallTrace) -> Vec<u32> {
    call.messages.iter().map(|m| String::from_utf8_lossy(&m.bytes).parse().unwrap()).collect()
}

#[test]
fn of_a_long_call_the_beginning_and_the_end_are_kept_and_the_rest_is_counted() {
    let (mut trace, now) = (small(), Instant::now());
    fill(&mut trace, now, "a", 0..100);
    let call = trace.get("a").unwrap();
    assert_eq!(numbers(&call), (0..20).chain(70..100).collect::<Vec<u32>>());
    assert_eq!((call.dropped, call.dropped_after), (50, 20));
    assert_eq!(trace.list()[0].messages, 100);
    assert_eq!(trace.counters().dropped_messages, 50);
    assert_eq!(trace.get("b"), None);
}

#[test]
fn large_messages_are_bounded_by_their_bytes() {
    let (mut trace, now) = (small(), Instant::now());
    for _ in 0..100 {
        trace.record(now, "a", path(Flow::Received, FAR), &[b'x'; 3000]);
    }
    let call = trace.get("a").unwrap();
    let bytes: usize = call.messages.iter().map(|m| m.bytes.len()).sum();
    assert!((12_000..=20_000).contains(&bytes), "{bytes}");
    assert!(call.dropped_after >= 2 && call.messages.len() > call.dropped_after, "both ends are there");
    // one that is too large for its call leaves the beginning as it was
    trace.record(now, "a", path(Flow::Received, FAR), &[b'x'; 60_000]);
    assert_eq!(trace.get("a").unwrap().messages.len(), call.dropped_after);
    assert!(trace.counters().bytes <= 20_000);
}

#[test]
fn a_message_longer_than_a_datagram_is_cut() {
    let mut trace = Trace::new(TraceConfig::default());
    trace.record(Instant::now(), "a", path(Flow::Received, FAR), &[b'x'; 100_000]);
    let message = &trace.get("a").unwrap().messages[0];
    assert_eq!(message.bytes.len() + message.cut, 100_000);
    assert_eq!(message.bytes.len(), LONGEST_MESSAGE);
}

#[test]
fn case_17_a_flood_of_call_ids_does_not_push_out_calls() {
    let (mut trace, now) = (small(), Instant::now());
    for id in ["up", "over"] {
        fill(&mut trace, now, id, 0..5);
        trace.begin(id);
    }
    trace.end("over");
    for i in 0..1000 {
        fill(&mut trace, now, &format!("flood {i}"), 0..1);
        assert!(trace.counters().calls <= 10);
    }
    assert!(trace.get("up").is_some() && trace.get("over").is_some());
    assert!(trace.get("flood 999").is_some() && trace.get("flood 990").is_none());
    assert_eq!(trace.counters().dropped_calls, 1000 - 8);
}

#[test]
fn what_has_ended_makes_room_before_what_is_up_and_the_longest_silent_first() {
    let (mut trace, now) = (small(), Instant::now());
    for i in 0..10 {
        let id = format!("{i}");
        trace.begin(&id);
        fill(&mut trace, now, &id, 0..1);
    }
    trace.end("7");
    trace.end("3");
    fill(&mut trace, now, "0", 1..2);
    let mut gone = Vec::new();
    for i in 10..14 {
        trace.begin(&format!("{i}"));
        gone.extend(
            (0..10)
                .map(|i| format!("{i}"))
                .filter(|id| trace.get(id).is_none() && !gone.contains(id))
                .collect::<Vec<_>>(),
        );
    }
    assert_eq!(gone, ["7", "3", "1", "2"]);
    assert!(trace.get("0").is_some(), "it was heard of lately");
}

#[test]
fn memory_is_bounded_and_comes_back() {
    let (mut trace, now) = (small(), Instant::now());
    for i in 0..10_000_usize {
        let id = format!("call {:02}", i % 37);
        match i % 11 {
            0 => trace.begin(&id),
            5 => trace.end(&id),
            _ => trace.record(now, &id, path(Flow::Sent, FAR), &vec![b'x'; i * 31 % 5000]),
        }
        assert!(trace.counters().bytes <= 100_000 && trace.calls.len() == trace.order.len());
    }
    let counted: usize = trace.calls.values().map(|e| e.bytes).sum();
    assert_eq!(counted, trace.counters().bytes);
    for entry in trace.calls.values() {
        let kept = entry.first.iter().chain(&entry.last).map(|m| MESSAGE_OVERHEAD + m.bytes.len());
        assert_eq!(kept.sum::<usize>(), entry.bytes - CALL_OVERHEAD - "call 12".len());
    }
    let none = TraceConfig { calls: 0, ..TraceConfig::default() };
    let mut trace = Trace::new(none);
    fill(&mut trace, now, "a", 0..5);
    trace.begin("a");
    assert_eq!(trace.counters(), TraceCounters::default());
    let mut trace = small();
    trace.record(now, &"a".repeat(5000), path(Flow::Sent, FAR), b"x");
    assert_eq!(trace.counters().calls, 0, "nor is a Call-ID that is no Call-ID");
}

/// A call through a proxy: challenged, sent again, answered, ended.
fn example() -> (CallTrace, Instant) {
    let (mut trace, start) = (Trace::new(TraceConfig::default()), Instant::now());
    let sdp = |ip: &str| {
        format!(
            "v=0\r\nc=IN IP4 {ip}\r\nm=audio 4000 RTP/AVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:c2VjcmV0\r\n"
        )
    };
    let request = |method: &str, more: &str, body: &str| {
        format!(
            "{method} sip:bob@host SIP/2.0\r\nCall-ID: a\r\nCSeq: 1 {method}\r\n{more}Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let response = |status: &str, method: &str, body: &str| {
        format!("SIP/2.0 {status}\r\nCall-ID: a\r\nCSeq: 1 {method}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    };
    let (sent, received) = (Flow::Sent, Flow::Received);
    let authorization = "Authorization: Digest username=\"a\", response=\"0123456789abcdef\"\r\n";
    let invite = request("INVITE", authorization, &sdp("10.0.0.1"));
    for (ms, flow, text) in [
        (0, sent, invite.clone()),
        (500, sent, invite),
        (520, received, response("180 Ringing", "INVITE", "")),
        (2520, received, response("200 OK", "INVITE", &sdp("192.0.2.7"))),
        (2521, sent, request("ACK", "", "")),
        (65_000, received, request("BYE", "", "")),
        (65_001, sent, response("200 OK", "BYE", "")),
    ] {
        trace.record(start + Duration::from_millis(ms), "a", path(flow, FAR), text.as_bytes());
    }
    trace.end("a");
    (trace.get("a").unwrap(), start)
}

#[test]
fn a_call_is_drawn_as_a_ladder() {
    let (call, _) = example();
    let expected = "\
Call-ID a (ended, 7 messages)
  us  10.0.0.1:5060 udp
  A   192.0.2.1:5060
          us                                                               A
    0.000  |-- INVITE (PCMU 10.0.0.1:4000) ------------------------------->|
    0.500  |-- INVITE (PCMU 10.0.0.1:4000) (again) ----------------------->|
    0.520  |<- 180 Ringing to INVITE --------------------------------------|
    2.520  |<- 200 OK to INVITE (PCMU 192.0.2.7:4000) ---------------------|
    2.521  |-- ACK ------------------------------------------------------->|
   65.000  |<- BYE --------------------------------------------------------|
   65.001  |-- 200 OK to BYE --------------------------------------------->|
";
    assert_eq!(ladder(&call, Arrows::Ascii), expected);
    let drawn = ladder(&call, Arrows::Unicode);
    assert!(drawn.contains("│── ACK ──") && drawn.contains("──→│") && drawn.contains("│←─ BYE ──"), "{drawn}");
}

#[test]
fn a_ladder_is_never_wider_than_a_hundred_columns_whoever_takes_part() {
    let start = Instant::now();
    for far in 1..=40_usize {
        let mut trace = Trace::new(TraceConfig { messages_per_call: 60, ..TraceConfig::default() });
        for i in 0..80 {
            let remote = format!("[2001:db8:1234:5678:9abc:def0:1234:{:x}]:5060", i % far + 1);
            let text = format!(
                "SIP/2.0 183 Session Progress \u{1b}[2J and very much more than fits on a line\r\nCSeq: {i} INVITE\r\n\r\n\
                v=0\r\nc=IN IP6 2001:db8:1234:5678:9abc:def0:1234:1\r\nm=audio 40000 RTP/AVP 0\r\n"
            );
            let flow = if i % 2 == 0 { Flow::Sent } else { Flow::Received };
            trace.record(
                start + Duration::from_secs(i as u64 * 40_000),
                &"i".repeat(900),
                path(flow, &remote),
                text.as_bytes(),
            );
        }
        let drawn = ladder(&trace.get(&"i".repeat(900)).unwrap(), Arrows::Ascii);
        assert!(drawn.lines().all(|line| line.len() <= 100), "{drawn}");
        assert!(drawn.bytes().all(|b| matches!(b, b'\n' | b' '..=b'~')), "{drawn}");
        assert!(drawn.contains("... 20 messages were dropped"), "{drawn}");
    }
    let empty =
        CallTrace { call_id: "a".into(), stage: Stage::Passing, messages: vec![], dropped: 0, dropped_after: 0 };
    assert!(ladder(&empty, Arrows::Ascii).starts_with("Call-ID a (no call, 0 messages)\n"));
}

#[test]
fn words_that_do_not_fit_into_their_arrow_stand_below_it() {
    let (mut trace, now) = (Trace::new(TraceConfig::default()), Instant::now());
    for host in 1..=4 {
        let text = "INVITE sip:a SIP/2.0\r\n\r\nv=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 8\r\n";
        trace.record(now, "a", path(Flow::Sent, &format!("192.0.2.{host}:5060")), text.as_bytes());
    }
    let drawn = ladder(&trace.get("a").unwrap(), Arrows::Ascii);
    assert!(drawn.contains("|-- INVITE --------->|                    |"), "{drawn}");
    assert!(drawn.contains("|   INVITE (PCMA 10.0.0.1:4000)"), "{drawn}");
}

#[test]
fn case_46_secrets_stay_inside() {
    let (call, start) = example();
    let all = [
        format!("{call:?}"),
        ladder(&call, Arrows::Ascii),
        String::from_utf8_lossy(&pcap(&call, start, UNIX_EPOCH)).into_owned(),
        call.messages.iter().map(|m| String::from_utf8_lossy(&m.bytes).into_owned()).collect(),
    ];
    for text in all {
        assert!(!text.contains("0123456789abcdef") && !text.contains("c2VjcmV0"), "{text}");
    }
    let invite = String::from_utf8_lossy(&call.messages[0].bytes).into_owned();
    assert!(invite.contains("response=\"xxxxxxxxxxxxxxxx\"") && invite.contains("inline:xxxxxxxx\r\n"), "{invite}");
    let (head, body) = invite.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    let mut trace = small();
    trace.record(start, "a", path(Flow::Sent, FAR), b"a secret");
    assert!(!format!("{trace:?}").contains("115, 101") && !format!("{trace:?}").contains("secret"));
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u16_at(bytes: &[u8], at: usize) -> usize {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap()).into()
}

/// What is left of the ones' complement sum over bytes with their checksum among them: 0.
fn checksum(mut bytes: Vec<u8>) -> u16 {
    bytes.resize(bytes.len().next_multiple_of(2), 0);
    let sum = (0..bytes.len()).step_by(2).fold(0_u16, |sum, at| {
        let (sum, carry) = sum.overflowing_add(u16_at(&bytes, at) as u16);
        sum + u16::from(carry)
    });
    !sum
}

/// Reads a capture file back, and checks everything in it: time, source port, payload of each packet.
fn read_pcap(file: &[u8]) -> Vec<(Duration, usize, Vec<u8>)> {
    assert_eq!((u32_at(file, 0), u32_at(file, 4), u32_at(file, 20)), (0xa1b2_3c4d, 0x0004_0002, 101));
    let (mut at, mut packets) = (24, Vec::new());
    while at < file.len() {
        let time = Duration::new(u32_at(file, at).into(), u32_at(file, at + 4));
        let length = u32_at(file, at + 8) as usize;
        assert_eq!(length, u32_at(file, at + 12) as usize);
        let packet = &file[at + 16..at + 16 + length];
        let (header, addresses) = match packet[0] {
            0x45 => {
                assert_eq!((u16_at(packet, 2), packet[9]), (length, 17));
                assert_eq!(checksum(packet[..20].to_vec()), 0);
                (20, &packet[12..20])
            }
            version => {
                assert_eq!((version, u16_at(packet, 4), packet[6]), (0x60, length - 40, 17));
                (40, &packet[8..40])
            }
        };
        let datagram = &packet[header..];
        assert_eq!(u16_at(datagram, 4), datagram.len());
        assert_ne!(u16_at(datagram, 6), 0);
        let length = (datagram.len() as u16).to_be_bytes();
        assert_eq!(checksum([addresses, &[0, 17], &length, datagram].concat()), 0);
        packets.push((time, u16_at(datagram, 0), datagram[8..].to_vec()));
        at += 16 + packet.len();
    }
    packets
}

#[test]
fn a_capture_file_reads_back_with_every_length_and_checksum_right() {
    let (call, start) = example();
    let wall = UNIX_EPOCH + Duration::new(1_700_000_000, 250);
    // the anchor may be any moment: here one second into the call
    let file = pcap(&call, start + Duration::from_secs(1), wall + Duration::from_secs(1));
    let packets = read_pcap(&file);
    assert_eq!(packets.len(), 7);
    for (packet, message) in packets.iter().zip(&call.messages) {
        assert_eq!(packet.2, *message.bytes);
        assert_eq!(packet.0, Duration::new(1_700_000_000, 250) + (message.at - start));
    }
}

#[test]
fn a_capture_file_holds_ipv6_mixed_families_odd_and_overlong_messages_and_any_time() {
    let (mut trace, now) = (Trace::new(TraceConfig::default()), Instant::now());
    let mixed = Path { local: "[::]:5061".parse().unwrap(), ..path(Flow::Received, FAR) };
    let tls = Path { transport: Transport::Tls, ..path(Flow::Sent, "[2001:db8::2]:5061") };
    for path in [path(Flow::Sent, "[2001:db8::2]:5060"), mixed, tls, path(Flow::Received, "[::ffff:192.0.2.1]:9")] {
        for length in [0, 1, 777, 100_000] {
            trace.record(now, "a", path, &vec![b'y'; length]);
        }
    }
    let call = trace.get("a").unwrap();
    for wall in [UNIX_EPOCH, UNIX_EPOCH - Duration::from_secs(1), UNIX_EPOCH + Duration::from_secs(1 << 40)] {
        let packets = read_pcap(&pcap(&call, now, wall));
        assert_eq!(packets.len(), call.messages.len());
        assert!(packets.iter().zip(&call.messages).all(|(p, m)| p.2 == *m.bytes));
    }
    let late = now + Duration::from_secs(3600);
    assert_eq!(read_pcap(&pcap(&call, late, SystemTime::UNIX_EPOCH))[0].0, Duration::ZERO);
    assert_eq!(read_pcap(&pcap(&call, now, UNIX_EPOCH))[0].1, 5060);
}
