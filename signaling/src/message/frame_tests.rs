use super::*;

const HEAD: &str = "OPTIONS sip:bob@example.com SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n";

fn message(length: &str, body: &str) -> String {
    format!("{HEAD}{length}\r\n\r\n{body}")
}

/// Everything that comes of a stream given in pieces of this size.
fn frames(stream: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let (mut framer, mut found) = (Framer::new(), Vec::new());
    for bytes in stream.chunks(piece) {
        framer.push(bytes);
        loop {
            match framer.next() {
                Ok(Some(frame)) => found.push(frame),
                Ok(None) => break,
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

fn error(stream: &str) -> Option<FrameError> {
    let (found, error) = frames(stream.as_bytes(), usize::MAX);
    assert_eq!(found, []);
    assert_eq!(frames(stream.as_bytes(), 1), (found, error));
    error
}

#[test]
fn the_same_messages_come_out_whatever_the_split() {
    let all = [
        message("Content-Length: 4", "body"),
        message("l:0", ""),
        message("CONTENT-LENGTH \t:\r\n \t 0003", "abc"),
        message("Subject: x\r\n Content-Length: 99\r\nl: 5\r\nContent-Length: 5", "\r\n\r\n\n"),
        message("Content-Length: 2", "ab").replace("\r\n", "\n"),
    ];
    let stream = format!("\n{}\r\n{}{}\n\n{}{}", all[0], all[1], all[2], all[3], all[4]);
    for piece in 1..stream.len() {
        let (found, error) = frames(stream.as_bytes(), piece);
        assert_eq!(error, None);
        let found: Vec<_> = found
            .into_iter()
            .filter_map(|frame| match frame {
                Frame::Message(bytes) => Some(String::from_utf8(bytes).unwrap()),
                _ => None,
            })
            .collect();
        assert_eq!(found, all, "in pieces of {piece}");
    }
}

#[test]
fn keep_alives_are_told_apart() {
    let kinds = |pushes: &[&str]| {
        let (mut framer, mut kinds) = (Framer::new(), String::new());
        for bytes in pushes {
            framer.push(bytes.as_bytes());
            while let Some(frame) = framer.next().unwrap() {
                kinds.push(match frame {
                    Frame::Message(_) => 'm',
                    Frame::Ping => '4',
                    Frame::Pong => '2',
                });
            }
        }
        assert!(!framer.is_mid_message());
        kinds
    };
    let m = &*message("l: 0", "");
    assert_eq!(kinds(&["\r\n\r\n"]), "4");
    assert_eq!(kinds(&["\r\n"]), "2");
    assert_eq!(kinds(&["\r\n\r\n\r\n\r\n"]), "44");
    assert_eq!(kinds(&["\r\n\r\n\r\n"]), "42");
    assert_eq!(kinds(&[m, "\r\n\r\n", m, "\r\n", m]), "m4m2m");
    // in two halves
    assert_eq!(kinds(&["\r\n", "\r\n"]), "24");
    assert_eq!(kinds(&["\r\n\r", "\n"]), "4");
    assert_eq!(kinds(&["\r", "\n\r\n"]), "4");
    assert_eq!(kinds(&["\r\n", m, "\r\n"]), "2m2");
    assert_eq!(kinds(&["\n", "\n\n"]), "");
}

#[test]
fn case_4_a_length_that_cannot_be_believed_closes_the_stream() {
    for length in ["-1", "", "0x0", "+0", "1 1", "1\r\n 1", "18446744073709551616", "1\r\nl: 2", "1, 1"] {
        let stream = message(&format!("Content-Length: {length}"), "");
        assert_eq!(error(&stream), Some(FrameError::BadLength), "{length:?}");
    }
    assert_eq!(error(&message("Max-Forwards: 70", "")), Some(FrameError::NoLength));
    assert_eq!(error("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), Some(FrameError::NoLength));
    assert_eq!(error(&message(&format!("l: {}", MAX_BODY + 1), "")), Some(FrameError::BodyTooLong));
    assert_eq!(error(&message("l: 9999999999999", "")), Some(FrameError::BodyTooLong));
    assert_eq!(error(&message(&format!("l: {}", "0".repeat(100)), "")), Some(FrameError::BadLength));
}

#[test]
fn case_3_a_head_without_an_end_closes_the_stream() {
    assert_eq!(error(&"x".repeat(MAX_HEAD + 1)), Some(FrameError::HeadTooLong));
    assert_eq!(error(&format!("{HEAD}{}", "A: b\r\n".repeat(MAX_HEAD / 6))), Some(FrameError::HeadTooLong));
    // one that ends where it must is read, with the longest body
    let line = "\r\nl: 65536";
    let filler = MAX_HEAD - HEAD.len() - line.len() - 4;
    let stream = message(&format!("{}{line}", "x".repeat(filler)), &"b".repeat(MAX_BODY));
    assert_eq!(stream.len(), MAX_HEAD + MAX_BODY);
    assert_eq!(frames(stream.as_bytes(), usize::MAX), (vec![Frame::Message(stream.into_bytes())], None));
}

#[test]
fn a_lost_stream_stays_lost_and_holds_nothing() {
    let mut framer = Framer::new();
    framer.push(message("l: -1", "").as_bytes());
    assert_eq!(framer.next(), Err(FrameError::BadLength));
    framer.push(message("l: 0", "").as_bytes());
    assert_eq!(framer.next(), Err(FrameError::BadLength));
    assert_eq!(framer.buffered(), 0);
}

#[test]
fn case_18_half_a_message_shows() {
    let mut framer = Framer::new();
    assert!(!framer.is_mid_message());
    let text = message("l: 2", "ab");
    for (i, byte) in text.bytes().enumerate() {
        framer.push(&[byte]);
        let whole = framer.next().unwrap().is_some();
        assert_eq!(whole, i + 1 == text.len());
        assert_eq!((framer.is_mid_message(), framer.buffered()), if whole { (false, 0) } else { (true, i + 1) });
    }
}

#[test]
fn bytes_one_by_one_are_looked_at_once() {
    // 64 kB of head byte by byte: looked at anew each time, that would be two thousand million looks, and minutes here
    let stream = message(&"Subject: yes\r\n".repeat(4_500), "");
    assert_eq!(frames(stream.as_bytes(), 1), (vec![], Some(FrameError::NoLength)));
    // and many messages in one push are not moved each time
    let stream = message("l: 0", "").repeat(20_000);
    assert_eq!(frames(stream.as_bytes(), usize::MAX).0.len(), 20_000);
}

#[test]
fn case_1_two_requests_of_rfc_4475_in_one_read_are_two() {
    let (found, error) = frames(include_bytes!("../../tests/torture/rfc4475/dblreq.dat"), usize::MAX);
    // the second one's body is longer than it says, and what is left of it is no message
    assert_eq!((found.len(), error), (3, Some(FrameError::NoLength)));
    assert!(matches!(found.as_slice(), [Frame::Message(_), Frame::Pong, Frame::Message(_)]));
    for (bytes, expected) in [
        (&include_bytes!("../../tests/torture/rfc4475/ncl.dat")[..], FrameError::BadLength),
        (include_bytes!("../../tests/torture/rfc4475/mcl01.dat"), FrameError::BadLength),
        (include_bytes!("../../tests/torture/rfc4475/inv2543.dat"), FrameError::NoLength),
    ] {
        assert_eq!(frames(bytes, usize::MAX), (vec![], Some(expected)));
    }
}
