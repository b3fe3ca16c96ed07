//! What a registrar's answer tells of the way between: whether there is a NAT, and whether something on it changes messages.
//!
//! A response carries the request's Via back as it arrived (RFC 3261 section 8.2.6.2), with the address that it came from
//! (RFC 3581). What is different in it was changed on the way: by a router's "SIP ALG", which then changes other things, too.

use std::net::{IpAddr, SocketAddr};

use super::Health;

/// One thing that was found, without the account's name.
pub(super) type Finding = (&'static str, Health, String);

/// Judges the first pair of a request of ours and its answer. `own`: the address that we sent from.
pub(super) fn judge(request: &str, response: &str, own: SocketAddr) -> Vec<Finding> {
    let mut found = vec![nat(response, own)];
    let changed = changes(request, response);
    if changed.is_empty() {
        found.push(("SIP ALG", Health::Good, "nothing on the way changes messages".to_owned()));
    } else {
        let fix = "switch SIP ALG (SIP helper, application gateway) off in the router, or use transport = \"tls\", which it cannot read";
        found.push((
            "SIP ALG",
            Health::Bad,
            format!("something on the way changes messages: {}; {fix}", changed.join(", ")),
        ));
    }
    found
}

/// What the registrar saw of us.
fn nat(response: &str, own: SocketAddr) -> Finding {
    let via = header(response, "Via", "v").unwrap_or_default();
    let received: Option<IpAddr> = parameter(via, "received").and_then(|ip| ip.trim_matches(['[', ']']).parse().ok());
    let rport: Option<u16> = parameter(via, "rport").and_then(|port| port.parse().ok());
    match (received, rport) {
        (Some(ip), port) if ip != own.ip() => {
            let port = port.map_or_else(String::new, |port| format!(":{port}"));
            let text = format!(
                "there is a NAT in between: we are {own}, the registrar sees {ip}{port}; registrations go by what it sees"
            );
            ("NAT", Health::Good, text)
        }
        (_, Some(port)) if port != own.port() => (
            "NAT",
            Health::Good,
            format!("the registrar sees port {port} where we have {}: a NAT in between", own.port()),
        ),
        (_, Some(_)) => ("NAT", Health::Good, format!("none: the registrar sees us as we are, {own}")),
        (_, None) => {
            let text = "the registrar does not tell what it sees of us (no rport in its answer): a NAT would go unnoticed; \
                        if calls do not come in, set sip.public_address or sip.stun_server";
            ("NAT", Health::Weak, text.to_owned())
        }
    }
}

/// What came back other than it was sent, in words.
fn changes(request: &str, response: &str) -> Vec<String> {
    let mut changed = Vec::new();
    let (sent, back) =
        (header(request, "Via", "v").unwrap_or_default(), header(response, "Via", "v").unwrap_or_default());
    if sent_by(sent) != sent_by(back) {
        changed.push(format!("our address in Via was {:?} and came back as {:?}", sent_by(sent), sent_by(back)));
    }
    if parameter(sent, "branch") != parameter(back, "branch") {
        changed.push("the branch in Via came back another one".to_owned());
    }
    for (name, short) in [("Call-ID", "i"), ("CSeq", "CSeq"), ("From", "f")] {
        let (sent, back) = (header(request, name, short), header(response, name, short));
        if sent.map(squeezed) != back.map(squeezed) {
            changed.push(format!("{name} came back changed"));
        }
    }
    let length = header(response, "Content-Length", "l").and_then(|length| length.parse::<usize>().ok());
    let body = response.split_once("\r\n\r\n").map_or(0, |(_, body)| body.len());
    if length.is_some_and(|length| length != body) {
        changed.push(format!("an answer says {} bytes of content and has {body}", length.unwrap_or_default()));
    }
    changed
}

/// The value of the first header of that name, long or short.
pub(super) fn header<'a>(message: &'a str, name: &str, short: &str) -> Option<&'a str> {
    message.split("\r\n").take_while(|line| !line.is_empty()).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        let found = found.trim();
        (found.eq_ignore_ascii_case(name) || found.eq_ignore_ascii_case(short)).then(|| value.trim())
    })
}

/// The host and port that follow `SIP/2.0/UDP`.
fn sent_by(via: &str) -> &str {
    let rest = via.split_once(char::is_whitespace).map_or("", |(_, rest)| rest);
    rest.split([';', ',']).next().unwrap_or_default().trim()
}

fn parameter<'a>(via: &'a str, name: &str) -> Option<&'a str> {
    via.split(',').next()?.split(';').skip(1).find_map(|parameter| {
        let (found, value) = parameter.split_once('=')?;
        found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Without white space, of which there may be more or less.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.168.1.5:5060;branch=z9hG4bKa;rport\r\n\
                           From: <sip:a@example.com>;tag=1\r\nCall-ID: abc\r\nCSeq: 1 REGISTER\r\n\r\n";

    fn answer(via: &str) -> String {
        format!(
            "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP {via}\r\nf: <sip:a@example.com>; tag=1\r\ni: abc\r\nCSeq: 1 REGISTER\r\nl: 0\r\n\r\n"
        )
    }

    fn judged(via: &str) -> Vec<(&'static str, Health, String)> {
        judge(REQUEST, &answer(via), "192.168.1.5:5060".parse().unwrap())
    }

    #[test]
    fn no_nat_and_no_gateway_is_good() {
        let found = judged("192.168.1.5:5060;branch=z9hG4bKa;rport=5060;received=192.168.1.5");
        assert!(found.iter().all(|(_, health, _)| *health == Health::Good), "{found:?}");
        assert!(found[0].2.starts_with("none"));
    }

    #[test]
    fn a_nat_is_told_with_what_was_seen() {
        let found = judged("192.168.1.5:5060;branch=z9hG4bKa;received=203.0.113.7;rport=61000");
        assert!(found[0].2.contains("203.0.113.7:61000"), "{found:?}");
        assert_eq!(found[1].1, Health::Good);
    }

    #[test]
    fn without_rport_nothing_is_known() {
        assert_eq!(judged("192.168.1.5:5060;branch=z9hG4bKa;rport")[0].1, Health::Weak);
    }

    #[test]
    fn a_gateway_that_changes_messages_is_found() {
        let found = judged("203.0.113.7:5060;branch=z9hG4bKa;rport=5060");
        assert!(found[1].1 == Health::Bad && found[1].2.contains("203.0.113.7:5060"), "{found:?}");
        let found = judged("192.168.1.5:5060;branch=z9hG4bKother;rport=5060");
        assert!(found[1].2.contains("branch"), "{found:?}");
        let other = answer("192.168.1.5:5060;branch=z9hG4bKa;rport=5060").replace("i: abc", "i: abd");
        let found = judge(REQUEST, &other.replace("l: 0", "l: 7"), "192.168.1.5:5060".parse().unwrap());
        assert!(found[1].2.contains("Call-ID") && found[1].2.contains("7 bytes of content and has 0"), "{found:?}");
    }
}
