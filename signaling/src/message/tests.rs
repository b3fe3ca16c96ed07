use super::*;

fn request(text: &str) -> (Request, Meta) {
    match read(text.as_bytes()) {
        Ok((Message::Request(request), meta)) => (request, meta),
        other => panic!("not a request: {other:?}"),
    }
}

fn problem(text: &[u8]) -> Problem {
    read(text).map(|(m, _)| m).expect_err("not a message").problem
}

const GOOD: &str = "INVITE sip:bob@example.com SIP/2.0\r\n\
    Via: SIP/2.0/UDP pc.example.com:5062;branch=z9hG4bKabc;rport\r\n\
    Max-Forwards: 70\r\n\
    From: Alice <sip:alice@example.com>;tag=1\r\n\
    To: <sip:bob@example.com>\r\n\
    Call-ID: x1\r\n\
    CSeq: 7 INVITE\r\n\
    Content-Length: 4\r\n\r\nbody";

#[test]
fn a_request_is_read() {
    let (request, meta) = request(GOOD);
    assert_eq!(request.method, Method::Invite);
    assert_eq!(request.uri.to_string(), "sip:bob@example.com");
    assert_eq!(request.body, b"body");
    assert_eq!((meta.call_id.as_str(), meta.cseq, meta.caller_tag(), meta.to_tag()), ("x1", 7, "1", ""));
    assert_eq!(
        (meta.via.host.as_str(), meta.via.port, meta.via.branch()),
        ("pc.example.com", Some(5062), "z9hG4bKabc")
    );
    assert_eq!(meta.from.display.as_deref(), Some("Alice"));
}

#[test]
fn what_rsip_rejects_is_read() {
    let text = "\r\n\r\nFROB sip:a@[2001:db8::1]:5070;lr SIP/2.0\r\n\
        v: SIP / 2.0 / UDP [2001:db8::9]:5099;branch=z9hG4bK1 ,\r\n\
        \tSIP/2.0/TCP other;branch=z9hG4bK0\r\n\
        f: \"A \\\"quoted\\\" <name>\"\r\n  <tel:+4930123;phone-context=x> ; tag=9\r\n\
        t: sip:bob@example.com;tag=88\r\n\
        i:id@h\r\n\
        CSEQ:   0009   FROB\r\n\
        M: <sip:a@h;x=\"1,2\">;q=0.1,<sip:b@h>\r\n\
        l: 2\r\n\r\nab, and more that does not count";
    let (request, meta) = request(text);
    assert_eq!(request.method, Method::Other("FROB".into()));
    assert_eq!((request.uri.host.as_str(), request.uri.port), ("2001:db8::1", Some(5070)));
    assert_eq!(request.uri.to_string(), "sip:a@[2001:db8::1]:5070;lr");
    assert_eq!(meta.via.to_string(), "SIP/2.0/UDP [2001:db8::9]:5099;branch=z9hG4bK1");
    assert_eq!(request.headers.list("Via").count(), 2);
    assert_eq!(meta.from.display.as_deref(), Some("A \"quoted\" <name>"));
    assert_eq!((meta.from.uri.scheme.as_str(), meta.caller_tag()), ("tel", "9"));
    assert_eq!((meta.to_tag(), meta.cseq), ("88", 9));
    assert_eq!(request.headers.list("contact").count(), 2);
    assert_eq!(request.body, b"ab");
}

#[test]
fn bytes_that_are_not_utf_8_are_replaced_in_names_only() {
    let mut text = GOOD.as_bytes().to_vec();
    let place = text.windows(5).position(|w| w == b"Alice").unwrap();
    text[place] = 0xff;
    let Ok((_, meta)) = read(&text) else { panic!("read") };
    assert_eq!(meta.from.display.as_deref(), Some("\u{fffd}lice"));
}

#[test]
fn a_response_is_read() {
    let text = "SIP/2.0 180 Ringing with spaces\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\nFrom: <sip:a@b>;tag=1\n\
        To: <sip:c@d>;tag=2\nCall-ID: i\nCSeq: 1 INVITE\n\n";
    let Ok((Message::Response(response), meta)) = read(text.as_bytes()) else { panic!("read") };
    assert_eq!((response.status, response.reason.as_str()), (180, "Ringing with spaces"));
    assert_eq!(meta.method, Method::Invite);
}

#[test]
fn cases_3_and_4_bad_messages_have_their_verdicts() {
    let with = |from: &str, to: &str| GOOD.replace(from, to).into_bytes();
    assert_eq!(problem(b"\r\n\r\n"), Problem::KeepAlive);
    assert_eq!(problem(b""), Problem::KeepAlive);
    assert_eq!(problem(b"hello"), Problem::NotSip);
    assert_eq!(problem(b"GET / HTTP/1.1\r\n\r\n"), Problem::NotSip);
    assert_eq!(problem(b"SIP/2.0 99 Low\r\n\r\n"), Problem::NotSip);
    assert_eq!(problem(&with("SIP/2.0\r\nVia", "SIP/3.0\r\nVia")), Problem::Version);
    for (from, to) in [
        ("Content-Length: 4", "Content-Length: -1"),
        ("Content-Length: 4", "Content-Length: 99999999999999999999"),
        ("Content-Length: 4", "Content-Length: 5"),
        ("Content-Length: 4", "Content-Length: 4\r\nl: 3"),
        ("CSeq: 7 INVITE", "CSeq: 4294967296 INVITE"),
        ("CSeq: 7 INVITE", "CSeq: 7 BYE"),
        ("CSeq: 7 INVITE", "CSeq: 7"),
        ("Call-ID: x1", "Call-ID: x1\r\nCall-ID: x2"),
        ("From: Alice <sip:alice@example.com>;tag=1\r\n", ""),
        ("To: <sip:bob@example.com>", "To: <sip:bob@example.com"),
        ("Max-Forwards: 70", "what is this"),
        ("sip:bob@example.com SIP", "<sip:bob@example.com> SIP"),
        ("sip:bob@example.com SIP", "sip:bob@exa mple.com SIP"),
        ("\r\n\r\nbody", ""),
    ] {
        let Err(bad) = read(&with(from, to)) else { panic!("{to}") };
        assert!(matches!(bad.problem, Problem::Bad(_)), "{to}: {:?}", bad.problem);
        assert!(bad.answerable.is_some(), "{to}");
    }
    assert_eq!(problem(&with("Alice", &"A".repeat(9000))), Problem::TooLarge);
    assert_eq!(problem(&with("Max-Forwards: 70", &"A: b\r\n".repeat(10_000))), Problem::TooLarge);
}

#[test]
fn an_ack_is_never_answerable() {
    let text = GOOD.replace("INVITE", "ACK").replace("Call-ID: x1\r\n", "");
    assert!(read(text.as_bytes()).unwrap_err().answerable.is_none());
}

#[test]
fn case_45_nothing_that_is_written_breaks_out_of_its_line() {
    let (mut request, _) = request(GOOD);
    request.headers.push("Subject", "x\r\nEvil: yes\0");
    request.headers.push("X-Folded", "a\n b");
    let text = String::from_utf8(request.to_bytes()).unwrap();
    assert!(!text.lines().any(|l| l.starts_with("Evil")), "{text}");
    assert!(text.contains("Subject: x  Evil: yes \r\n"));
    let mut response = request.response(400);
    response.reason = "Bad\r\nEvil: yes".into();
    assert!(!String::from_utf8(response.to_bytes()).unwrap().lines().any(|l| l.starts_with("Evil")));
    let name = NameAddr { display: Some("a\"b\\c\r\nd".into()), ..NameAddr::read("<sip:x@y>").unwrap() };
    assert_eq!(name.to_string(), "\"a\\\"b\\\\cd\" <sip:x@y>");
    assert_eq!(escape_user("a b@c\r\n<>"), "a%20b%40c%0D%0A%3C%3E");
}

#[test]
fn rsip_reads_what_is_written() {
    let (request, _) = request(GOOD);
    let bytes = request.to_bytes();
    let theirs = rsip::Request::try_from(bytes.as_slice()).expect("rsip reads our request");
    assert_eq!(theirs.method, rsip::Method::Invite);
    assert_eq!(theirs.body, b"body");
    let response = request.response(486);
    assert_eq!(response.reason, "Busy Here");
    let theirs = rsip::Response::try_from(response.to_bytes().as_slice()).expect("rsip reads our response");
    assert_eq!(theirs.status_code, rsip::StatusCode::BusyHere);
}

#[test]
fn reasons_are_words() {
    assert_eq!(reason_phrase(200), "OK");
    assert_eq!(reason_phrase(100), "Trying");
    assert_eq!(reason_phrase(180), "Ringing");
    assert_eq!(reason_phrase(487), "Request Terminated");
    assert_eq!(reason_phrase(299), "Unknown");
}

#[test]
fn uris_are_read_and_written_back() {
    for text in [
        "sip:bob@example.com",
        "sips:bob:secret@example.com:5061;transport=tcp;lr?Subject=x",
        "sip:[::1]:5060",
        "sip:a;b=c@host;d=e",
        "sip:+1-212-555-1212@gateway.com;user=phone",
        "tel:+49-30-123;phone-context=example.com",
        "urn:service:sos",
    ] {
        assert_eq!(Uri::read(text).map(|u| u.to_string()).as_deref(), Some(text));
    }
    for text in ["", "sip:", "bob", "sip:bob@", "sip:bob@host:99999", "sip:a@[1.2.3.4]", "sip:a@ho st", "1:x", "tel:"] {
        assert_eq!(Uri::read(text), None, "{text}");
    }
}

#[test]
fn lists_are_split_outside_quotes_and_brackets() {
    let parts: Vec<_> = split_list(r#""a, \"b" <sip:x@y;p=1,2>;q=1 , <sip:z@y>,, c"#).collect();
    assert_eq!(parts, [r#""a, \"b" <sip:x@y;p=1,2>;q=1"#, "<sip:z@y>", "c"]);
}

#[test]
fn the_via_notes_the_source() {
    let source = "192.0.2.5:1234".parse().unwrap();
    let mut via = Via::read("SIP/2.0/UDP 10.1.1.1:5066;branch=z9hG4bKx;rport").unwrap();
    via.mark_source(source);
    assert_eq!(via.to_string(), "SIP/2.0/UDP 10.1.1.1:5066;branch=z9hG4bKx;rport=1234;received=192.0.2.5");
    assert_eq!(via.seen_address(), Some(source));
    assert_eq!(via.response_address(source), source);
    let mut old = Via::read("SIP/2.0/UDP 10.1.1.1:5066;branch=z9hG4bKx").unwrap();
    old.mark_source(source);
    assert_eq!(old.response_address(source), "192.0.2.5:5066".parse().unwrap());
}

#[test]
fn a_description_is_found_in_a_multipart_body() {
    let mut headers = Headers::default();
    headers.push("Content-Type", "multipart/mixed;boundary=\"b1\"");
    let body =
        b"--b1\r\nContent-Type: text/plain\r\n\r\nhi\r\n--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b1--\r\n";
    assert_eq!(body_text(&headers, body, "application/sdp").as_deref(), Some("v=0\r\n"));
    assert_eq!(body_text(&headers, body, "image/png"), None);
}
