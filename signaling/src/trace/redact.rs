//! Secrets out of a message, in place.
//!
//! What must hold: every byte stays where it was, line ends above all, so that Content-Length and everything that points into
//! the message stays true; a byte of a secret becomes an `x`. Whatever bytes come, the time is linear in their number. When in
//! doubt, too much goes rather than too little (case 46).
//!
//! | what | what of it goes |
//! |---|---|
//! | `Authorization`, `Proxy-Authorization`, `Authentication-Info` | all but what is no secret: realm, nonce, user name and so on |
//! | `Cookie`, `Set-Cookie`, and headers with a word such as `password` or `token` in their name | the value |
//! | `sip:user:password@host` | the password |
//! | `a=crypto:... inline:KEY`, `k=`, `a=ice-pwd:`, `a=key-mgmt:` | the key |
//! | `password=...`, `"pin": "..."`, `secret is ...` in any header or body | what follows |

/// Parameters of credentials that can be shown (RFC 7616). The rest goes: `response`, `rspauth`, and what is not known.
const OPEN_PARAMETERS: [&[u8]; 12] = [
    b"username",
    b"username*",
    b"userhash",
    b"realm",
    b"nonce",
    b"nextnonce",
    b"uri",
    b"algorithm",
    b"qop",
    b"nc",
    b"cnonce",
    b"opaque",
];

const CREDENTIALS: [&[u8]; 4] =
    [b"authorization", b"proxy-authorization", b"authentication-info", b"proxy-authentication-info"];

/// Words that say that a secret follows.
const WORDS: [&[u8]; 16] = [
    b"password",
    b"passwd",
    b"passwort",
    b"passphrase",
    b"passcode",
    b"pwd",
    b"secret",
    b"pin",
    b"token",
    b"apikey",
    b"api-key",
    b"api_key",
    b"auth-key",
    b"auth_key",
    b"credential",
    b"credentials",
];

/// What the value of an SDP line is a key of, whole.
const KEY_LINES: [&[u8]; 3] = [b"k=", b"a=ice-pwd:", b"a=key-mgmt:"];

/// Takes the secrets out of a message (or anything else); see the file's head.
pub fn redact(bytes: &mut [u8]) {
    redact_head(bytes);
    redact_key_lines(bytes);
    redact_inline_keys(bytes);
    redact_words(bytes);
    redact_passwords_in_uris(bytes);
}

/// Every byte but those of line ends, and the blanks before the first.
fn cross_out(bytes: &mut [u8]) {
    bytes
        .iter_mut()
        .skip_while(|b| matches!(**b, b' ' | b'\t'))
        .filter(|b| !matches!(b, b'\r' | b'\n'))
        .for_each(|b| *b = b'x');
}

fn cross_out_range(bytes: &mut [u8], from: usize, to: usize) {
    if let Some(part) = bytes.get_mut(from..to.max(from)) {
        cross_out(part);
    }
}

/// Where the line ends that begins there, without its line end; where the next begins.
fn line_at(bytes: &[u8], start: usize) -> (usize, usize) {
    let rest = bytes.get(start..).unwrap_or_default();
    let end = rest.iter().position(|b| *b == b'\n').map(|i| start + i);
    (end.unwrap_or(bytes.len()), end.map_or(bytes.len(), |e| e + 1))
}

/// Headers that are secret by their name, folded lines included.
fn redact_head(bytes: &mut [u8]) {
    let mut start = 0;
    while start < bytes.len() {
        let (mut end, mut next) = line_at(bytes, start);
        while next < bytes.len() && matches!(bytes.get(next), Some(b' ' | b'\t')) {
            (end, next) = line_at(bytes, next);
        }
        if let Some(header) = bytes.get_mut(start..end) {
            redact_header(header);
        }
        start = next;
    }
}

fn redact_header(header: &mut [u8]) {
    let Some(colon) = header.iter().position(|b| *b == b':') else { return };
    let (name, value) = header.split_at_mut(colon + 1);
    let name = name.get(..colon).unwrap_or_default().trim_ascii().to_ascii_lowercase();
    // a body may hold lines like these too, all the better; but no line of prose is a header
    if name.iter().any(|b| b.is_ascii_whitespace()) {
        return;
    }
    if CREDENTIALS.contains(&name.as_slice()) {
        redact_credentials(value, name.ends_with(b"-info"));
    } else if name.ends_with(b"cookie") || names_a_secret(&name) {
        cross_out(value);
    }
}

/// A header's name with one of the words in it, as a word.
fn names_a_secret(name: &[u8]) -> bool {
    let parts = || name.split(|b| *b == b'-' || *b == b'_');
    parts().any(|part| WORDS.contains(&part)) || name.ends_with(b"api-key") || name.ends_with(b"auth-key")
}

/// `Digest name=value, ...`: all values but the open ones. Another scheme: everything after its name.
fn redact_credentials(value: &mut [u8], is_info: bool) {
    let Some(begin) = value.iter().position(|b| !b.is_ascii_whitespace()) else { return };
    let Some(value) = value.get_mut(begin..) else { return };
    let scheme = if is_info { 0 } else { value.iter().position(u8::is_ascii_whitespace).unwrap_or(value.len()) };
    let (scheme, mut rest) = value.split_at_mut(scheme);
    if !is_info && !scheme.eq_ignore_ascii_case(b"digest") {
        cross_out(rest);
        return;
    }
    while !rest.is_empty() {
        let end = end_of_parameter(rest);
        let (parameter, after) = rest.split_at_mut(end);
        redact_parameter(parameter);
        rest = after.get_mut(1..).unwrap_or_default();
    }
}

/// The next comma outside quotes.
fn end_of_parameter(bytes: &[u8]) -> usize {
    let (mut quoted, mut escaped) = (false, false);
    for (i, b) in bytes.iter().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return i,
            _ => {}
        }
    }
    bytes.len()
}

fn redact_parameter(parameter: &mut [u8]) {
    let Some(equals) = parameter.iter().position(|b| *b == b'=') else {
        return cross_out(parameter);
    };
    let (name, value) = parameter.split_at_mut(equals + 1);
    let name = name.get(..equals).unwrap_or_default().trim_ascii();
    if OPEN_PARAMETERS.iter().any(|open| open.eq_ignore_ascii_case(name)) {
        // a quote that does not close would take what follows along
        let quotes = value.iter().filter(|b| **b == b'"').count();
        if quotes == 0 || quotes == 2 {
            return;
        }
    }
    let kept = |b: &u8| b.is_ascii_whitespace() || *b == b'"';
    value.iter_mut().filter(|b| !kept(b)).for_each(|b| *b = b'x');
}

/// Lines of a session description that are keys.
fn redact_key_lines(bytes: &mut [u8]) {
    let mut start = 0;
    while start < bytes.len() {
        let (end, next) = line_at(bytes, start);
        let line = bytes.get(start..end).unwrap_or_default();
        let key = KEY_LINES.iter().find(|key| starts_with(line, key)).map(|key| key.len());
        if let Some(length) = key {
            cross_out_range(bytes, start + length, end);
        }
        start = next;
    }
}

fn starts_with(bytes: &[u8], word: &[u8]) -> bool {
    bytes.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// SDES keys (RFC 4568): `inline:KEY|lifetime|MKI`, several separated by semicolons.
fn redact_inline_keys(bytes: &mut [u8]) {
    let word = b"inline:";
    let mut at = 0;
    while at < bytes.len() {
        if !starts_with(bytes.get(at..).unwrap_or_default(), word) {
            at += 1;
            continue;
        }
        let from = at + word.len();
        let rest = bytes.get(from..).unwrap_or_default();
        let length = rest.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'|' | b';'));
        at = from + length.unwrap_or(rest.len());
        cross_out_range(bytes, from, at);
    }
}

/// What follows a word such as `password`, if something does: after `=`, `:`, `is` or the end of an XML tag.
fn redact_words(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let begins = at == 0 || bytes.get(at - 1).is_none_or(|b| !b.is_ascii_alphanumeric());
        let rest = bytes.get(at..).unwrap_or_default();
        let word = WORDS.iter().filter(|word| begins && starts_with(rest, word)).map(|word| word.len()).max();
        // a word may also end a longer one, as in newPassword; and a digest's response may stand where none should
        let inner =
            [&b"password"[..], b"secret", b"response=", b"rspauth="].into_iter().find(|word| starts_with(rest, word));
        let word = word.or(inner.map(|word| word.strip_suffix(b"=").unwrap_or(word).len()));
        let Some(word) = word else {
            at += 1;
            continue;
        };
        at += word;
        if let Some((from, to)) = value_after(bytes, at) {
            cross_out_range(bytes, from, to);
            at = to;
        }
    }
}

/// Where the value stands of the word that ends there.
fn value_after(bytes: &[u8], word_end: usize) -> Option<(usize, usize)> {
    let blank = |b: &u8| matches!(b, b' ' | b'\t');
    let skip = |at: usize, skipped: &dyn Fn(&u8) -> bool| {
        at + bytes.get(at..).unwrap_or_default().iter().take_while(|b| skipped(b)).count()
    };
    let sign = skip(skip(word_end, &|b| matches!(b, b'"' | b'\'')), &blank);
    let rest = bytes.get(sign..)?;
    let sign_length = match rest.first()? {
        b'=' | b':' | b'>' => 1,
        _ if starts_with(rest, b"is ") || starts_with(rest, b"is:") => 3,
        _ => return None,
    };
    let from = skip(sign + sign_length, &blank);
    let rest = bytes.get(from..)?;
    let line_end = |b: &u8| matches!(b, b'\r' | b'\n');
    if let Some(quote) = rest.first().filter(|b| matches!(b, b'"' | b'\'')) {
        let inner = rest.get(1..)?;
        let mut escaped = false;
        let end = inner.iter().position(|b| {
            let ends = line_end(b) || (!escaped && b == quote);
            escaped = !escaped && *b == b'\\';
            ends
        });
        return Some((from + 1, from + 1 + end.unwrap_or(inner.len())));
    }
    // without quotes a value may hold blanks; what ends it depends on the form it stands in, none of which has these within
    let end = rest.iter().position(|b| line_end(b) || matches!(b, b'&' | b'<' | b'>' | b';' | b'}'));
    Some((from, from + end.unwrap_or(rest.len())))
}

/// `sip:user:password@host`.
fn redact_passwords_in_uris(bytes: &mut [u8]) {
    let mut at = 0;
    while at < bytes.len() {
        let rest = bytes.get(at..).unwrap_or_default();
        let scheme = [&b"sip:"[..], b"sips:"].into_iter().find(|scheme| starts_with(rest, scheme));
        let Some(scheme) = scheme else {
            at += 1;
            continue;
        };
        let user = at + scheme.len();
        let rest = bytes.get(user..).unwrap_or_default();
        let run = rest.iter().position(|b| b.is_ascii_whitespace() || matches!(b, b'<' | b'>' | b'"'));
        let run = rest.get(..run.unwrap_or(rest.len())).unwrap_or_default();
        let Some(host) = run.iter().rposition(|b| *b == b'@') else {
            // no part of the run can be a URI with a user either: what is left of it need not be looked at
            at = user + run.len();
            continue;
        };
        if let Some(colon) = run.iter().take(host).position(|b| *b == b':') {
            cross_out_range(bytes, user + colon + 1, user + host);
        }
        at = user + host + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut bytes = text.as_bytes().to_vec();
        redact(&mut bytes);
        assert_eq!(bytes.len(), text.len());
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn case_46_of_credentials_only_what_is_no_secret_stays() {
        let line = "Authorization: Digest username=\"a\", realm=\"r, \\\"x\\\"\", nonce=\"n\", uri=\"sip:h\", response=\"0123456789abcdef\", \
                    cnonce=\"c\", nc=00000001, qop=auth, secret-thing=hidden\r\n";
        let out = redacted(line);
        assert!(out.contains("response=\"xxxxxxxxxxxxxxxx\"") && out.contains("secret-thing=xxxxxx\r\n"), "{out}");
        for kept in ["username=\"a\"", "nonce=\"n\"", "uri=\"sip:h\"", "cnonce=\"c\"", "nc=00000001", "qop=auth"] {
            assert!(out.contains(kept), "{kept} in {out}");
        }
        assert_eq!(
            redacted("proxy-authorization : Basic dXNlcjpwdw==\n"),
            "proxy-authorization : Basic xxxxxxxxxxxx\n"
        );
        assert_eq!(
            redacted("Authentication-Info: rspauth=\"abc\", nc=1\r\n"),
            "Authentication-Info: rspauth=\"xxx\", nc=1\r\n"
        );
        let folded = redacted("Authorization: Digest realm=\"r\",\r\n response=\"abc\",\r\n\t nc=1\r\nTo: x\r\n");
        assert_eq!(folded, "Authorization: Digest realm=\"r\",\r\n response=\"xxx\",\r\n\t nc=1\r\nTo: x\r\n");
        let open = redacted("Authorization: Digest realm=\"r, response=\"abc\"\r\n");
        assert!(!open.contains("abc"), "{open}");
        let cut = redacted("Authorization: Digest response=\"abcdef");
        assert_eq!(cut, "Authorization: Digest response=\"xxxxxx");
        let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\"\r\n";
        assert_eq!(redacted(challenge), challenge);
    }

    #[test]
    fn case_46_keys_of_media_go() {
        assert_eq!(
            redacted("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:d0RmdmcmVCspeEc3|2^20|1:4;inline:QUJD|2^20|2:4\r\n"),
            "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:xxxxxxxxxxxxxxxx|2^20|1:4;inline:xxxx|2^20|2:4\r\n"
        );
        assert_eq!(redacted("k=clear:abc\r\na=ice-pwd:abc\nm=audio"), "k=xxxxxxxxx\r\na=ice-pwd:xxx\nm=audio");
    }

    #[test]
    fn case_46_passwords_in_addresses_go() {
        for (text, out) in [
            ("INVITE sip:bob:pw@host:5060 SIP/2.0", "INVITE sip:bob:xx@host:5060 SIP/2.0"),
            ("From: <SIPS:bob:p:w@host>;tag=1", "From: <SIPS:bob:xxx@host>;tag=1"),
            ("Contact: <sip:a:b@h>,<sip:c:d@h>", "Contact: <sip:a:x@h>,<sip:c:x@h>"),
            ("To: sip:host:5060;x=1", "To: sip:host:5060;x=1"),
            ("To: <sip:bob@host:5060>", "To: <sip:bob@host:5060>"),
        ] {
            assert_eq!(redacted(text), out);
        }
    }

    #[test]
    fn case_46_what_is_called_a_password_goes_wherever_it_stands() {
        for (text, out) in [
            ("password=abc&user=x", "password=xxx&user=x"),
            ("My password is: hunter 2\r\nBye", "My password is: xxxxxxxx\r\nBye"),
            ("Authorisation: Digest response=\"abc\"", "Authorisation: Digest response=\"xxx\""),
            ("My password is hunter 2\r\nBye", "My password is xxxxxxxx\r\nBye"),
            ("Passwort: geheim", "Passwort: xxxxxx"),
            ("{\"pin\": \"12\\\"34\", \"name\": \"x\"}", "{\"pin\": \"xxxxxx\", \"name\": \"x\"}"),
            ("{\"newPassword\":\"abc\"}", "{\"newPassword\":\"xxx\"}"),
            ("<password>abc</password>", "<password>xxx</password>"),
            ("X-Api-Key: abc\r\n", "X-Api-Key: xxx\r\n"),
            ("X-Auth-Token: abc\r\n", "X-Auth-Token: xxx\r\n"),
            ("Cookie: a=b\r\n", "Cookie: xxx\r\n"),
            ("shopping: list, mapping=1", "shopping: list, mapping=1"),
            ("the secret of the house", "the secret of the house"),
        ] {
            assert_eq!(redacted(text), out);
        }
    }

    #[test]
    fn the_time_is_linear_in_the_bytes() {
        // each of these would take minutes if it were not
        for part in [
            "sip:",
            "sip:a:",
            "inline:",
            "password",
            "password=",
            "password=;",
            "pin=\"",
            "Authorization: Digest ",
            "\"",
            "\r\n ",
            "k=",
            "sip:@",
        ] {
            let mut bytes = part.repeat(1_000_000 / part.len()).into_bytes();
            redact(&mut bytes);
        }
    }

    proptest::proptest! {
        #[test]
        fn length_and_line_ends_stay_whatever_comes(text in "([a-z=:\"@ ,;<>\\r\\n]|sip:|inline:|password|Authorization: Digest |response=){0,60}") {
            let out = redacted(&text);
            let ends = |text: &str| text.bytes().map(|b| matches!(b, b'\r' | b'\n')).collect::<Vec<_>>();
            proptest::prop_assert_eq!(ends(&out), ends(&text));
        }

        #[test]
        fn any_bytes_do(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            redact(&mut bytes);
        }
    }
}
