//! The messages of RFC 4475 and RFC 5118, each with its verdict (case 1).
//!
//! They are the RFCs' own files, unpacked by `tests/torture/unpack.py`. `tests/torture/*/verdicts.txt` says of each whether it is
//! read as a message, and what is answered.

mod common;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{Link, Net, sdp};
use mr_sip_signaling::{Event, UserAgentConfig, sdp as description};

/// No message may take longer, even in a slow build on a busy machine. One takes microseconds.
const LONGEST: Duration = Duration::from_secs(1);

fn folder(rfc: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture").join(rfc)
}

fn messages(rfc: &str) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder(rfc))
        .expect("the messages")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|e| e == "dat"))
        .map(|path| (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

/// What a user agent without calls and accounts makes of a message: `read` or `bad`, and what it answers, with an application that
/// takes every call whose description it can answer.
fn verdict(local: SocketAddr, from: SocketAddr, bytes: &[u8]) -> String {
    let mut net = Net::new(vec![UserAgentConfig::new(local)], Link::GOOD, 1);
    net.nameless = true;
    let begin = Instant::now();
    net.deliver(from, local, bytes);
    assert!(begin.elapsed() < LONGEST);
    for event in std::mem::take(&mut net.events[0]) {
        let Event::Incoming { call, offer, .. } = event else { panic!("{event:?}") };
        let media = description::LocalMedia::new("10.0.0.1:4000".parse().unwrap());
        let answer =
            offer.map_or_else(|| Ok(sdp(4000)), |offer| description::answer(&offer, &media).map(|(text, _)| text));
        let now = net.now;
        match answer {
            Ok(text) => net.agents[0].answer(now, call, text).expect("the call is there"),
            Err(_) => net.agents[0].reject(now, call, 488).expect("the call is there"),
        }
    }
    net.soon();
    let read = if net.agents[0].counters().malformed == 0 { "read" } else { "bad" };
    let kinds: Vec<_> = net.outside.iter().map(|s| s.kind()).collect();
    assert!(net.outside.iter().all(|s| s.to.ip() == from.ip()), "answers go to where the message came from");
    format!("{read}, {}", if kinds.is_empty() { "nothing".to_owned() } else { kinds.join(", ") })
}

/// Name and verdict of each line of a `verdicts.txt`, without the reasons that stand after a dash.
fn expected(rfc: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder(rfc).join("verdicts.txt")).expect("the verdicts");
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.is_empty());
    let mut all: Vec<_> = lines
        .map(|line| {
            let (name, rest) = line.split_once(": ").expect("a name");
            let verdict = rest.split_once(" - ").map_or(rest, |(verdict, _)| verdict);
            (name.to_owned(), verdict.to_owned())
        })
        .collect();
    all.sort();
    all
}

/// The message as its authors meant it: lines end with CRLF, an empty one ends the headers, the length is the body's.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).expect("text").replace("\r\n", "\n").replace('\n', "\r\n");
    let (headers, body) = text.split_once("\r\n\r\n").unwrap_or((text.trim_end(), ""));
    let headers = headers.lines().map(|line| {
        if line.starts_with("Content-Length:") {
            format!("Content-Length: {}\r\n", body.len())
        } else {
            format!("{line}\r\n")
        }
    });
    format!("{}\r\n{body}", headers.collect::<String>()).into_bytes()
}

/// Delivers each message as it stands in the RFC's archive, and those that have a verdict as "NAME mended" mended as well.
fn check(rfc: &str, local: &str, from: &str) {
    let (local, from) = (local.parse().unwrap(), from.parse().unwrap());
    let expected = expected(rfc);
    let mut messages = messages(rfc);
    for (name, _) in &expected {
        let damaged = name.strip_suffix(" mended").and_then(|name| messages.iter().find(|(n, _)| n == name));
        if let Some((_, bytes)) = damaged {
            messages.push((name.clone(), mended(bytes)));
        }
    }
    messages.sort();
    let found: Vec<_> = messages.into_iter().map(|(name, bytes)| (name, verdict(local, from, &bytes))).collect();
    let names = |all: &[(String, String)]| all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "each message has a verdict");
    let wrong: Vec<_> = found.iter().zip(&expected).filter(|(f, e)| f != e).collect();
    assert!(wrong.is_empty(), "found and expected: {wrong:#?}");
}

#[test]
fn case_1_the_messages_of_rfc_4475_have_their_verdicts() {
    check("rfc4475", "10.0.0.1:5060", "10.0.0.50:5060");
}

#[test]
fn case_1_the_messages_of_rfc_5118_have_their_verdicts() {
    check("rfc5118", "[2001:db8::10]:5060", "[2001:db8::9:1]:5060");
}
