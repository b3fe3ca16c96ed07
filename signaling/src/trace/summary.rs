//! A message in few words, for the ladder: read loosely, for whatever went over the wire is to be shown, good or bad.
//!
//! What must hold: nothing but printable ASCII comes out, so that no message can write on the terminal of who looks at it
//! (case 45).

/// No word or line of a message is shown beyond this.
const LONGEST: usize = 60;

/// A message in few words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Summary {
    /// `INVITE`, `180 Ringing`.
    pub(super) what: String,
    /// `INVITE`, `180`.
    pub(super) short: String,
    /// Of a response the method that it answers.
    pub(super) method: Option<String>,
    /// `PCMU 10.0.0.1:4000 sendonly`.
    pub(super) media: Option<String>,
}

impl Summary {
    pub(super) fn of(bytes: &[u8]) -> Summary {
        let mut lines = bytes.split(|b| *b == b'\n').map(|line| line.trim_ascii_end());
        let start = lines.by_ref().find(|line| !line.is_empty()).map(printable).unwrap_or_default();
        let cseq = lines.by_ref().take_while(|line| !line.is_empty()).find_map(|line| {
            let line = std::str::from_utf8(line).ok()?;
            let (name, value) = line.split_once(':')?;
            name.trim_end().eq_ignore_ascii_case("CSeq").then(|| printable(value.as_bytes()))
        });
        let media = media(bytes);
        let is_response = start.get(..4).is_some_and(|s| s.eq_ignore_ascii_case("SIP/"));
        if !is_response {
            let what = start.split_whitespace().next().unwrap_or("(nothing)").to_owned();
            return Summary { short: what.clone(), what, method: None, media };
        }
        let what = start.split_once(' ').map_or("(no status)", |(_, rest)| rest.trim()).to_owned();
        let short = what.split_whitespace().next().unwrap_or("").to_owned();
        let method = cseq.and_then(|cseq| cseq.split_whitespace().nth(1).map(str::to_owned));
        Summary { what, short, method, media }
    }

    /// All of it, on one line.
    pub(super) fn label(&self) -> String {
        let to = self.method.as_ref().map(|method| format!(" to {method}")).unwrap_or_default();
        let media = self.media.as_ref().map(|media| format!(" ({media})")).unwrap_or_default();
        format!("{}{to}{media}", self.what)
    }
}

/// What can be shown of bytes, a question mark for the rest.
pub(super) fn printable(bytes: &[u8]) -> String {
    let shown = bytes.iter().take(LONGEST).map(|b| match b {
        b' '..=b'~' => char::from(*b),
        b'\t' => ' ',
        _ => '?',
    });
    shown.collect::<String>().trim().to_owned()
}

/// The first audio line of a session description: codec, address, and the direction if it is not both ways.
fn media(bytes: &[u8]) -> Option<String> {
    let (mut address, mut audio, mut in_audio) = (None, None, false);
    let (mut codec, mut direction) = (None, None);
    let lines = bytes.split(|b| *b == b'\n').map(|line| line.trim_ascii_end());
    for line in lines.skip_while(|line| !line.starts_with(b"v=0")).take(500).map(printable) {
        if let Some(rest) = line.strip_prefix("m=") {
            let mut words = rest.split_whitespace();
            in_audio = audio.is_none() && words.next() == Some("audio");
            if in_audio {
                audio = Some((words.next()?.to_owned(), words.nth(1).unwrap_or("?").to_owned()));
            }
        } else if audio.is_some() && !in_audio {
            // of another medium
        } else if let Some(rest) = line.strip_prefix("c=") {
            address = rest.split_whitespace().nth(2).map(str::to_owned);
        } else if let (Some(rest), Some((_, first))) = (line.strip_prefix("a=rtpmap:"), &audio) {
            let named = rest.split_once(' ').filter(|(number, _)| number == first);
            codec = codec.or(named.and_then(|(_, name)| name.split('/').next()).map(str::to_owned));
        } else if ["a=sendonly", "a=recvonly", "a=inactive"].contains(&line.as_str()) {
            direction = line.strip_prefix("a=").map(|word| format!(" {word}"));
        }
    }
    let (port, first) = audio?;
    let codec = codec.unwrap_or_else(|| static_codec(&first).to_owned());
    let address = address.unwrap_or_else(|| "?".to_owned());
    let address = if address.contains(':') { format!("[{address}]") } else { address };
    Some(format!("{codec} {address}:{port}{}", direction.unwrap_or_default()))
}

/// RFC 3551 section 6.
fn static_codec(payload_type: &str) -> &str {
    match payload_type {
        "0" => "PCMU",
        "3" => "GSM",
        "4" => "G723",
        "8" => "PCMA",
        "9" => "G722",
        "18" => "G729",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_in_few_words() {
        let invite = b"INVITE sip:bob@host SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nc=IN IP4 10.0.0.1\r\nm=audio 4000 RTP/AVP 0 101\r\n\
            a=rtpmap:101 telephone-event/8000\r\na=sendonly\r\nm=video 5000 RTP/AVP 99\r\nc=IN IP4 10.9.9.9\r\n";
        assert_eq!(Summary::of(invite).label(), "INVITE (PCMU 10.0.0.1:4000 sendonly)");
        let ok = b"\r\nSIP/2.0 200 OK\nVia: x\ncseq : 7 BYE\n\n";
        assert_eq!(Summary::of(ok).label(), "200 OK to BYE");
        let v6 = b"SIP/2.0 183 Session Progress\r\nCSeq: 1 INVITE\r\n\r\nv=0\r\nm=audio 4000 RTP/SAVP 96\r\nc=IN IP6 2001:db8::1\r\n\
            a=rtpmap:96 opus/48000/2\r\n";
        assert_eq!(Summary::of(v6).label(), "183 Session Progress to INVITE (opus [2001:db8::1]:4000)");
        assert_eq!(Summary::of(v6).short, "183");
    }

    #[test]
    fn case_45_nothing_but_printable_ascii_comes_out() {
        assert_eq!(Summary::of(b"BYE\x1b[2J\x07 sip:a SIP/2.0\r\n\r\n").label(), "BYE?[2J?");
        assert_eq!(Summary::of("SIP/2.0 486 Besetzt \u{202e}\r\n\r\n".as_bytes()).label(), "486 Besetzt ???");
        for junk in [&b""[..], b"\r\n\r\n", b"SIP/2.0", b"SIP/2.0 ", b"\0\xff", b"v=0\r\nm=audio\r\n"] {
            let label = Summary::of(junk).label();
            assert!(label.bytes().all(|b| (b' '..=b'~').contains(&b)), "{label}");
        }
        assert!(Summary::of(&[b'A'; 60_000]).label().len() <= LONGEST);
    }
}
