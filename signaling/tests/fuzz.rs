//! Bytes that nobody should send, at a user agent with calls up: never a panic, never a stall, never a call harmed.

mod common;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use common::{
    Link, MINUTE, Net, dial,
    peer::{Asking, INVITE, peer, response},
    sdp,
};
use mr_sip_signaling::Event;
use proptest::{collection::vec, prelude::*, sample::Index};

/// No datagram may take longer, even in a slow build on a busy machine. One takes microseconds.
const LONGEST: Duration = Duration::from_secs(2);

/// What a far end might say, as a start for what it might say wrongly. `tag` is ours, of the call that the peer is in.
fn good_messages(tag: &str) -> Vec<Vec<u8>> {
    let offer = sdp(7000);
    let mut all: Vec<_> =
        ["INVITE", "ACK", "BYE", "CANCEL", "OPTIONS", "REGISTER", "INFO", "UPDATE", "MESSAGE", "REFER", "FROB"]
            .into_iter()
            .map(|method| Asking { method, body: &offer, ..INVITE }.bytes())
            .collect();
    for (i, method) in ["INVITE", "UPDATE", "INFO", "OPTIONS", "BYE", "ACK"].into_iter().enumerate() {
        let branch = format!("d{i}");
        let cseq = 2 + i as u32;
        let ask = Asking { method, branch: &branch, call_id: "peer-call", to_tag: tag, cseq, body: &offer, ..INVITE };
        all.push(ask.bytes());
    }
    // the seed makes these the same as those of the call that rings
    let mut net = busy().0;
    net.soon();
    let invite = net.to_peer("INVITE");
    for status in ["100 Trying", "183 Progress", "200 OK", "401 Unauthorized", "486 Busy Here", "302 Moved"] {
        all.push(response(&invite, status, "x", "Contact: <sip:far@10.0.0.50>\r\n", &offer));
    }
    all.extend(corpus().into_iter().map(|(_, bytes)| bytes));
    all
}

/// `tests/corpus`: one message a file, line ends as they are in the file.
fn corpus() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the corpus")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "sip"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Two agents with a call up between them; the first also has one of its own ringing at the peer, and is in a call that the
/// peer has made. Our tag of that one.
fn busy() -> (Net, String) {
    let mut net = Net::of(2, Link::GOOD, 3);
    net.nameless = true;
    net.call_up();
    net.agents[0].dial(net.now, dial("sip:peer@10.0.0.50")).unwrap();
    let offer = sdp(7000);
    let ask = Asking { call_id: "peer-call", branch: "p1", body: &offer, ..INVITE };
    net.peer_says(&ask.bytes());
    let call = net.incoming(0);
    net.agents[0].answer(net.now, call, sdp(5000)).unwrap();
    net.soon();
    let ok = net.to_peer("200 INVITE");
    let tag = common::header(&ok.text, "To").unwrap().rsplit_once("tag=").unwrap().1.to_owned();
    net.peer_says(&Asking { method: "ACK", branch: "p2", to_tag: &tag, ..ask }.bytes());
    net.answered(0);
    (net, tag)
}

fn survives(net: &mut Net, bytes: &[u8]) {
    let begin = Instant::now();
    net.peer_says(bytes);
    assert!(begin.elapsed() < LONGEST, "{} bytes took {:?}", bytes.len(), begin.elapsed());
}

/// The call between the agents still works: it ends on both sides when one side ends it.
fn unharmed(net: &mut Net) {
    assert!(!net.events[1].iter().any(|e| matches!(e, Event::Ended { .. })), "{:?}", net.events[1]);
    let call = mr_sip_signaling::CallId(1);
    net.agents[0].hangup(net.now, call).expect("the call is up");
    net.wait(1, MINUTE, |e| matches!(e, Event::Ended { .. }).then_some(()));
}

#[derive(Debug, Clone)]
enum Damage {
    Cut(Index),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
    DropLine(Index),
    DoubleLine(Index),
    SwapLines(Index, Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    let special = prop_oneof![
        Just(b"\r\n".to_vec()),
        Just(b"\r\n\r\n".to_vec()),
        Just(b"\0".to_vec()),
        Just(b"\xff\xfe".to_vec()),
        Just(b"\"".to_vec()),
        Just(b"<".to_vec()),
        Just(b">;,=:@".to_vec()),
        Just(b"99999999999999999999".to_vec()),
        Just(b"-1".to_vec()),
        Just("\u{1F4DE}".as_bytes().to_vec()),
        vec(any::<u8>(), 1..20),
    ];
    prop_oneof![
        any::<Index>().prop_map(Damage::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Damage::Flip(i, b)),
        (any::<Index>(), special).prop_map(|(i, b)| Damage::Insert(i, b)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::Repeat(a, b)),
        any::<Index>().prop_map(Damage::DropLine),
        any::<Index>().prop_map(Damage::DoubleLine),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Damage::SwapLines(a, b)),
    ]
}

fn apply(mut bytes: Vec<u8>, damage: &Damage) -> Vec<u8> {
    if bytes.is_empty() {
        return bytes;
    }
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
    match damage {
        Damage::Cut(i) => bytes.truncate(i.index(bytes.len())),
        Damage::Flip(i, b) => {
            let i = i.index(bytes.len());
            bytes[i] = *b;
        }
        Damage::Insert(i, what) => {
            let i = i.index(bytes.len());
            bytes.splice(i..i, what.iter().copied());
        }
        Damage::Repeat(a, b) => {
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            let part = bytes[a.min(b)..a.max(b)].to_vec();
            bytes.splice(a..a, part);
        }
        Damage::DropLine(i) => {
            lines.remove(i.index(lines.len()));
            bytes = lines.concat();
        }
        Damage::DoubleLine(i) => {
            let i = i.index(lines.len());
            lines.insert(i, lines[i].clone());
            bytes = lines.concat();
        }
        Damage::SwapLines(a, b) => {
            let (a, b) = (a.index(lines.len()), b.index(lines.len()));
            lines.swap(a, b);
            bytes = lines.concat();
        }
    }
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn case_2_random_bytes_are_dropped(datagrams in vec(vec(any::<u8>(), 0..300), 1..40)) {
        let (mut net, _) = busy();
        for bytes in &datagrams {
            survives(&mut net, bytes);
        }
        unharmed(&mut net);
    }

    #[test]
    fn case_2_damaged_messages_do_no_harm(
        hits in vec((any::<Index>(), vec(damage(), 1..5)), 1..60),
        waits in vec(0_u64..3000, 1..60),
    ) {
        let (mut net, tag) = busy();
        let good = good_messages(&tag);
        for (i, (which, damages)) in hits.iter().enumerate() {
            let mut bytes = good[which.index(good.len())].clone();
            for damage in damages {
                bytes = apply(bytes, damage);
            }
            survives(&mut net, &bytes);
            if i % 7 == 0 {
                net.run(Duration::from_millis(waits[i % waits.len()]));
            }
        }
        unharmed(&mut net);
        // whatever calls came of it end by themselves
        net.agents[1].shutdown(net.now);
        let now = net.now;
        net.agents[0].shutdown(now);
        net.run(MINUTE * 3);
        prop_assert!(net.agents.iter().all(|a| a.is_idle()));
    }

    #[test]
    fn descriptions_of_any_kind_are_read_or_refused(
        base in Just(sdp(7000)),
        damages in vec(damage(), 0..8),
    ) {
        let mut bytes = base.into_bytes();
        for damage in &damages {
            bytes = apply(bytes, damage);
        }
        let text = String::from_utf8_lossy(&bytes);
        let local = mr_sip_signaling::sdp::LocalMedia::new("10.0.0.1:4000".parse().unwrap());
        if let Ok((answer, plan)) = mr_sip_signaling::sdp::answer(&text, &local) {
            // what was answered is what an offerer with one line, audio, can take
            let lines = answer.lines().filter(|l| l.starts_with("m=")).count();
            let accepted = mr_sip_signaling::sdp::accept(&answer, &local);
            prop_assert!(accepted.is_ok() || lines > 1, "{text:?} -> {answer:?}: {accepted:?}");
            prop_assert!((10..=60).contains(&plan.ptime_ms));
        }
        let _ = mr_sip_signaling::sdp::accept(&text, &local);
    }
}

#[test]
fn case_3_huge_messages_are_refused_within_bounds() {
    let (mut net, _) = busy();
    let base = String::from_utf8(Asking { call_id: "big", branch: "big", ..INVITE }.bytes()).unwrap();
    let long = base.replace("Max-Forwards: 70", &format!("Subject: {}", "x".repeat(64_000)));
    let many = base.replace("Max-Forwards: 70\r\n", &"A: b\r\n".repeat(10_000));
    let folded = base.replace("Max-Forwards: 70\r\n", &format!("A: b\r\n{}", " c\r\n".repeat(15_000)));
    let commas = base.replace("Max-Forwards: 70", &format!("Via: {}", ",".repeat(8_000)));
    let quotes = base.replace("Max-Forwards: 70", &format!("Contact: {}", "\"<".repeat(4_000)));
    net.outside.clear();
    for text in [&long, &many, &folded] {
        survives(&mut net, text.as_bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), ["513 INVITE"]);
    }
    for text in [&commas, &quotes] {
        survives(&mut net, text.as_bytes());
    }
    let number = base.replace("CSeq: 1 INVITE", "CSeq: 99999999999999999999 INVITE");
    survives(&mut net, number.as_bytes());
    net.soon();
    assert_eq!(net.outside.last().unwrap().text.split(' ').nth(1), Some("400"));
    unharmed(&mut net);
}

/// A message of about 64 kB whose 7 long headers, within the limits, each are this pattern over and over.
fn long(pattern: &str) -> Vec<u8> {
    let base = String::from_utf8(Asking { call_id: "long", branch: "long", ..INVITE }.bytes()).unwrap();
    let value = pattern.repeat(8_000 / pattern.len());
    let names = [
        "Via: SIP/2.0/UDP h",
        "Contact: <sip:h>",
        "Route: <sip:h>",
        "Record-Route: <sip:h>",
        "Require: x",
        "Accept: x",
    ];
    let headers: String = names.iter().map(|name| format!("{name}{value}\r\n")).collect();
    base.replace("Max-Forwards: 70\r\n", &headers)
        .replace("From: <sip:peer@10.0.0.50>", &format!("From: <sip:peer@10.0.0.50>{value}"))
        .into_bytes()
}

/// The least of many times, which a busy machine does not change much.
fn cost(bytes: &[u8]) -> Duration {
    let mut net = Net::of(1, Link::GOOD, 1);
    let times = (0..50).map(|_| {
        let begin = Instant::now();
        net.agents[0].handle_datagram(net.now, peer(), bytes);
        let took = begin.elapsed();
        while net.agents[0].poll_transmit().is_some() {}
        took
    });
    times.min().unwrap()
}

#[test]
fn case_3_hostile_headers_cost_no_more_than_harmless_ones() {
    let harmless = cost(&long("x"));
    // each byte looked at anew for each other one would cost thousands of times as much; 40 leaves room for one
    // allocation for each of what a pattern may make thousands of
    for pattern in [
        "\"",
        "\\\"",
        ",",
        "\",",
        "<",
        "<\"",
        ">",
        ";",
        ";=",
        ";a",
        ";a=\"",
        ",;",
        "\r\n ",
        "\r\n\t,",
        "a,b;c=\"d\";",
        "%00",
        "@",
        ":",
        "/",
        "[",
        "]",
        "\u{1F4DE}",
        "\0",
    ] {
        let took = cost(&long(pattern));
        assert!(took < harmless * 40 + Duration::from_millis(1), "{pattern:?} took {took:?}, harmless {harmless:?}");
    }
}

#[test]
fn case_3_each_limit_has_its_answer() {
    let base = String::from_utf8(Asking { method: "OPTIONS", ..INVITE }.bytes()).unwrap();
    let from = "From: <sip:peer@10.0.0.50>";
    let headers = |n: usize| base.replace("Max-Forwards: 70\r\n", &"A: b\r\n".repeat(n));
    for (what, text, status) in [
        ("a long Request-URI", base.replacen("sip:agent@", &format!("sip:{}@", "a".repeat(2_000)), 1), "200"),
        ("too long a Request-URI", base.replacen("sip:agent@", &format!("sip:{}@", "a".repeat(2_040)), 1), "414"),
        ("many parameters", base.replace(from, &format!("{from}{}", ";p=q".repeat(63))), "200"),
        ("too many parameters", base.replace(from, &format!("{from}{}", ";p=q".repeat(64))), "400"),
        ("too long a URI", base.replace("sip:peer@", &format!("sip:{}@", "a".repeat(2_040))), "400"),
        ("many headers", headers(120), "200"),
        ("too many headers", headers(122), "513"),
        ("a long header", base.replace("Max-Forwards: 70", &format!("A: {}", "b".repeat(8_189))), "200"),
        ("too long a header", base.replace("Max-Forwards: 70", &format!("A: {}", "b".repeat(8_190))), "513"),
    ] {
        let mut net = Net::of(1, Link::GOOD, 1);
        net.peer_says(text.as_bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), [format!("{status} OPTIONS")], "{what}");
    }
}

#[test]
fn case_5_only_the_first_parts_of_a_body_are_looked_at() {
    let answered = |before: usize| {
        let part = "--b\r\nContent-Type: text/plain\r\n\r\nx\r\n".repeat(before);
        let body = format!("{part}--b\r\nContent-Type: application/sdp\r\n\r\n{}\r\n--b--\r\n", sdp(7000));
        let headers = "Content-Type: multipart/mixed;boundary=b\r\n";
        let mut net = Net::of(1, Link::GOOD, 1);
        net.peer_says(&Asking { headers, body: &body, ..INVITE }.bytes());
        net.take_kinds_to_peer()
    };
    assert_eq!(answered(7), ["100 INVITE"]);
    assert_eq!(answered(8), ["415 INVITE"]);
    assert_eq!(answered(1_000), ["415 INVITE"]);
}

#[test]
fn case_4_lying_lengths_are_refused() {
    let (mut net, _) = busy();
    let base = String::from_utf8(Asking { call_id: "l", branch: "l", ..INVITE }.bytes()).unwrap();
    net.outside.clear();
    for length in ["-1", "1", "65536", "18446744073709551616", "0x0", "+0", "0 0", ""] {
        survives(&mut net, base.replace("Content-Length: 0", &format!("Content-Length: {length}")).as_bytes());
        net.soon();
        assert_eq!(net.take_kinds_to_peer(), ["400 INVITE"], "{length:?}");
    }
    unharmed(&mut net);
}

#[test]
fn case_17_a_flood_of_strangers_leaves_nothing_behind() {
    let (mut net, _) = busy();
    let before = format!("{:?}", net.agents[0]).len();
    for i in 0..2_000 {
        let method = ["OPTIONS", "REGISTER", "SUBSCRIBE", "BYE", "MESSAGE", "NOTIFY", "CANCEL"][i % 7];
        let (branch, call_id) = (format!("f{i}"), format!("flood-{i}"));
        net.agents[0].handle_datagram(
            net.now,
            peer(),
            &Asking { method, branch: &branch, call_id: &call_id, ..INVITE }.bytes(),
        );
        while net.agents[0].poll_transmit().is_some() {}
    }
    let after = format!("{:?}", net.agents[0]).len();
    assert!(after < before + 200, "it has grown from {before} to {after} characters");
    unharmed(&mut net);
}

/// The first line of each corpus file's verdict in `tests/corpus/verdicts.txt`: name, and what the agent answers.
#[test]
fn case_1_odd_messages_have_their_verdicts() {
    let verdicts = include_str!("corpus/verdicts.txt");
    let mut expected: Vec<_> =
        verdicts.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.split_once(": ")).collect();
    expected.sort_unstable();
    let found: Vec<_> = corpus()
        .into_iter()
        .map(|(name, bytes)| {
            let mut net = Net::of(1, Link::GOOD, 1);
            net.peer_says(&bytes);
            net.soon();
            let kinds: Vec<_> = net.outside.iter().map(|s| s.kind()).collect();
            (name, if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") })
        })
        .collect();
    let found: Vec<_> = found.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    assert_eq!(found, expected);
}
