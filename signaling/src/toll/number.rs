//! From what is dialled to what it can be read as.
//!
//! What must hold: whatever a switch, gateway or far end could take the address for, is among its [`Destination::readings`],
//! so that no spelling evades a pattern that denies; and what leaves room for doubt — digits that are none, an address in an
//! unusual form — is refused rather than guessed at (case 15).

use std::net::IpAddr;

use crate::message::Uri;

/// A longer address is refused; real ones stay below 100.
const LONGEST: usize = 512;
/// `%25252B` is a `+` to whoever decodes three times. Nobody writes that for a good reason.
const MOST_ESCAPES: usize = 3;

/// Where one is at home: which numbers are written without a country's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home {
    /// The country's number, digits only: `49`, `1`.
    pub country: String,
    /// What is dialled before a number within the country: `0` in most, `1` in North America, nothing in some.
    pub trunk: String,
}

/// A destination, normalised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    /// What it most probably is: a number without its separators, or a name in lower case.
    pub(super) user: String,
    /// In lower case, without brackets or a last dot.
    pub(super) host: Option<String>,
    /// Everything else that somebody could take the user part for.
    others: Vec<String>,
}

impl Destination {
    /// Reads what is to be dialled: a `sip:`, `sips:` or `tel:` URI, `user@host`, a number or a name.
    ///
    /// # Errors
    /// Why it is none, or not one without doubt.
    pub(super) fn read(text: &str, home: Option<&Home>, prefixes: &[String]) -> Result<Destination, &'static str> {
        let text = text.trim();
        if text.is_empty() || text.len() > LONGEST {
            return Err("it is empty or longer than 512 bytes");
        }
        let (user, host) = split(text)?;
        let host = host.map(|host| plain_host(&host)).transpose()?;
        let decoded = unescaped(&user)?;
        check_characters(&decoded)?;
        // a password or parameters within the user part are not dialled
        let dialled = decoded.split([':', ';']).next().unwrap_or("").trim();
        let primary = if is_dialable(dialled) { keys(dialled) } else { dialled.to_lowercase() };
        let mut others = vec![decoded.to_lowercase(), keys(&decoded)];
        others.extend(rereadings(&primary, home, prefixes));
        others.retain(|reading| *reading != primary && !reading.is_empty());
        Ok(Destination { user: primary, host, others })
    }

    /// All that it can be read as; the likeliest first.
    pub(super) fn readings(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.user).chain(&self.others).map(String::as_str)
    }
}

/// The marks that people write into numbers (RFC 3966 section 3, and the blank).
pub(super) fn is_separator(c: char) -> bool {
    " -()./".contains(c)
}

fn is_dialable(user: &str) -> bool {
    let digit = |c: char| c.is_ascii_digit() || "+*#".contains(c) || is_separator(c);
    user.chars().all(digit) && user.contains(|c: char| c.is_ascii_digit() || "*#".contains(c))
}

/// Only what has a key on a telephone, and the plus. Of what holds letters, only the separators are taken out.
fn keys(user: &str) -> String {
    let letters = user.contains(|c: char| c.is_alphabetic());
    let kept = |c: &char| match letters {
        true => !is_separator(*c),
        false => c.is_ascii_digit() || "+*#".contains(*c),
    };
    user.to_lowercase().chars().filter(kept).collect()
}

/// User part and host, as the agent will read them.
fn split(text: &str) -> Result<(String, Option<String>), &'static str> {
    let has_scheme = |scheme: &str| text.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    if has_scheme("tel:") {
        return Ok((text.get(4..).unwrap_or("").to_owned(), None));
    }
    let sip = has_scheme("sip:") || has_scheme("sips:");
    if !sip && !text.contains('@') {
        return match text.contains(':') {
            true => Err("its scheme is not sip or tel"),
            false => Ok((text.to_owned(), None)),
        };
    }
    let uri = if sip { Uri::read(text) } else { Uri::read(&format!("sip:{text}")) };
    let uri = uri.ok_or("it is not a SIP address")?;
    if uri.params.has("maddr") {
        return Err("its parameter maddr would send it elsewhere");
    }
    let user = uri.user.unwrap_or_default();
    // which of the two is meant, every proxy decides for itself
    if user.contains('@') { Err("it has more than one @") } else { Ok((user, Some(uri.host))) }
}

/// The host in the one form that patterns are written in.
fn plain_host(host: &str) -> Result<String, &'static str> {
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix('.').unwrap_or(&host);
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ip.to_canonical().to_string());
    }
    // 0x7f.1, 2130706433, 010.0.0.1: resolvers take them for addresses
    let last = host.rsplit('.').next().unwrap_or("");
    let number = last.bytes().all(|b| b.is_ascii_digit())
        || last.strip_prefix("0x").is_some_and(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
    if number {
        Err("its host is an address in an unusual form; write it as four numbers")
    } else {
        Ok(host.to_owned())
    }
}

/// Undoes `%` escapes until there are none.
fn unescaped(user: &str) -> Result<String, &'static str> {
    let mut bytes = user.as_bytes().to_vec();
    for _ in 0..=MOST_ESCAPES {
        if !bytes.contains(&b'%') {
            return String::from_utf8(bytes).map_err(|_| "it is not UTF-8");
        }
        bytes = unescape_once(&bytes).ok_or("it holds a % that is no escape")?;
    }
    Err("it is escaped again and again")
}

fn unescape_once(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digit = |b: Option<&u8>| char::from(*b?).to_digit(16);
                let (high, low) = (digit(rest.next())?, digit(rest.next())?);
                u8::try_from(high * 16 + low).ok()?
            }
            byte => *byte,
        });
    }
    Some(out)
}

/// Digits of other scripts and letters that are not seen must not make a number look like another.
fn check_characters(user: &str) -> Result<(), &'static str> {
    for c in user.chars() {
        if c.is_control() || (c.is_whitespace() && c != ' ') {
            return Err("it holds a control character or an unusual blank");
        }
        if !c.is_ascii() && !c.is_alphabetic() {
            return Err("it holds digits or signs other than those of a telephone: write 0-9, +, * and #");
        }
    }
    // NFKC would make ASCII of these, and who is called may apply it
    let lookalike = |c: char| ('\u{ff00}'..='\u{ffef}').contains(&c) || ('\u{1d400}'..='\u{1d7ff}').contains(&c);
    if user.contains(lookalike) {
        return Err("it holds letters of full width or of mathematics");
    }
    Ok(())
}

/// A number in its other spellings: after a service code, with and without the country, with each international prefix.
fn rereadings(number: &str, home: Option<&Home>, prefixes: &[String]) -> Vec<String> {
    let mut all = after_service_codes(number);
    for number in std::iter::once(number.to_owned()).chain(all.clone()) {
        // the form with the plus, from each that it can have come from
        let mut global: Vec<String> = Vec::new();
        let international = number.strip_prefix('+').or_else(|| number.strip_prefix("00"));
        global.extend(international.map(str::to_owned));
        global.extend(
            prefixes
                .iter()
                .filter(|p| !p.is_empty())
                .filter_map(|p| number.strip_prefix(p.as_str()).map(str::to_owned)),
        );
        if let Some(home) = home
            && international.is_none()
            && let Some(national) = number.strip_prefix(home.trunk.as_str())
        {
            global.push(home.country.clone() + national);
        }
        for number in global.into_iter().filter(|n| n.starts_with(|c: char| c.is_ascii_digit())) {
            let national = home.and_then(|home| Some(home.trunk.clone() + number.strip_prefix(home.country.as_str())?));
            // in one's own country, a plus is not an international call
            match national {
                Some(national) => all.push(national),
                None => all.extend(prefixes.iter().map(|p| p.clone() + &number)),
            }
            all.push(format!("+{number}"));
        }
    }
    all
}

/// `*67` hides the number of a caller, `*31#` and `#31#` too; what follows is dialled. A `#` at the end means: that was all.
fn after_service_codes(number: &str) -> Vec<String> {
    let mut all = Vec::new();
    let plain = number.trim_end_matches('#');
    if plain != number {
        all.push(plain.to_owned());
    }
    let code = plain.trim_start_matches(['*', '#']);
    if code.len() < plain.len() {
        for digits in [2, 3] {
            let rest = code.get(digits..).map(|rest| rest.trim_start_matches(['*', '#']));
            all.extend(rest.filter(|rest| !rest.is_empty()).map(str::to_owned));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Destination, &'static str> {
        let home = Home { country: "49".into(), trunk: "0".into() };
        Destination::read(text, Some(&home), &["00".into()])
    }

    #[test]
    fn a_number_is_itself_however_it_is_written() {
        for text in [
            "+19005551234",
            " +1 (900) 555-1234 ",
            "tel:+1-900-555-1234",
            "TEL:+1.900.555.1234;phone-context=example.com",
            "sip:+19005551234@example.com",
            "SIP:%2B19005551234@example.com;user=phone",
            "sip:%252B1%2D900%205551234@example.com",
            "sip:+19005551234;postd=22@example.com",
            "sip:+19005551234:secret@example.com",
            "+1-900-5551234@example.com",
            "sips:+19005551234@Example.COM.:5061;transport=tls?Subject=hi",
        ] {
            let destination = read(text).unwrap();
            assert_eq!(destination.user, "+19005551234", "{text}");
            assert!(destination.host.is_none_or(|host| host == "example.com"), "{text}");
        }
    }

    #[test]
    fn a_number_has_all_the_readings_that_a_switch_could_give_it() {
        for (text, reading) in [
            ("0019005551234", "+19005551234"),
            ("+19005551234", "0019005551234"),
            ("+499001234", "09001234"),
            ("00499001234", "09001234"),
            ("09001234", "+499001234"),
            ("*6709001234", "09001234"),
            ("*6709001234", "+499001234"),
            ("#31#09001234", "09001234"),
            ("09001234#", "09001234"),
            ("+1;900@host", "+1900"),
            ("1_900@host", "1900"),
            ("+1-900-flowers@host", "+1900flowers"),
        ] {
            let destination = read(text).unwrap();
            assert!(destination.readings().any(|r| r == reading), "{text}: {destination:?}");
        }
        let home = read("+4930123456").unwrap();
        assert!(!home.readings().any(|r| r.starts_with("00")), "not international: {home:?}");
    }

    #[test]
    fn names_are_left_alone_but_for_their_case() {
        let alice = read("sip:Alice.Smith@Example.com").unwrap();
        assert_eq!((alice.user.as_str(), alice.host.as_deref()), ("alice.smith", Some("example.com")));
        assert_eq!(read("sip:j%C3%BCrgen@example.com").unwrap().user, "jürgen");
        let nobody = read("sip:example.com").unwrap();
        assert_eq!((nobody.user.as_str(), nobody.host.as_deref()), ("", Some("example.com")));
        assert_eq!(read("sip:a@[::FFFF:10.0.0.1]").unwrap().host.unwrap(), "10.0.0.1");
    }

    #[test]
    fn what_leaves_room_for_doubt_is_refused() {
        for text in [
            "",
            "+\u{ff11}900",
            "+\u{0661}900",
            "\u{ff0b}1900",
            "+1\u{200b}900",
            "+1\u{a0}900",
            "+1\u{202e}900",
            "sip:%EF%BC%911900@host",
            "sip:1%00900@host",
            "sip:1%0d%0a@host",
            "sip:1%@host",
            "sip:1%G0@host",
            "sip:%2525252B1900@host",
            "sip:%FF@host",
            "+1\t900",
            "http://example.com",
            "urn:service:sos",
            "mailto:bob",
            "sip:bob@evil.net;x=@host",
            "sip:bob@host;maddr=192.0.2.1",
            "sip:bob@0x7f.1",
            "sip:bob@2130706433",
            "sip:bob@010.0.0.1",
            "sip:bob@127.1",
            &"1".repeat(600),
        ] {
            assert!(read(text).is_err(), "{text:?}: {:?}", read(text));
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_makes_it_panic_or_grow(text in "\\PC*|[0-9+*#%;:@. -]{0,60}|(sip:|tel:)[0-9a-f%+;:@]{0,40}") {
            if let Ok(destination) = read(&text) {
                proptest::prop_assert!(destination.readings().count() < 40);
                proptest::prop_assert!(destination.readings().map(str::len).sum::<usize>() < 40 * 2 * LONGEST);
            }
        }
    }
}
