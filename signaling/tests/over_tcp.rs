//! What is odd about calls, over TCP: redirections, challenges within a call, and transfers that are refused.

mod common;

use std::time::Duration;

use common::{
    Link, MINUTE, Net, Seen, address, header,
    peer::{Asking, CONTACT_SDP, peer, response, tag_of},
    sdp,
};
use mr_sip_signaling::{
    Account, CallId, ConnectionId, Dial, EndCause, Event, Password, Peer, Transport, UserAgentConfig,
};

const CHALLENGE: &str = "Proxy-Authenticate: Digest realm=\"home\", nonce=\"n1\", algorithm=SHA-256, qop=\"auth\"\r\n";
const UNAUTHORIZED: &str = "WWW-Authenticate: Digest realm=\"home\", nonce=\"n2\", algorithm=SHA-256, qop=\"auth\"\r\n";

/// Agent 0, and a far end that speaks TCP by one connection.
struct Line {
    net: Net,
}

impl Line {
    fn new(set: impl FnOnce(&mut UserAgentConfig)) -> Line {
        let mut config = UserAgentConfig::new(address(1));
        config.tcp_port = Some(5060);
        config.accounts = vec![Account {
            register: false,
            options: None,
            transport: Some(Transport::Tcp),
            ..Account::new("pbx", "10.0.0.50", "alice", Password::new("wonderland"))
        }];
        set(&mut config);
        Line { net: Net::new(vec![config], Link::GOOD, 505) }
    }

    fn says(&mut self, bytes: &[u8]) {
        let far = Peer { transport: Transport::Tcp, connection: Some(ConnectionId(5)), ..Peer::udp(peer()) };
        let text = String::from_utf8(bytes.to_vec()).unwrap().replace("SIP/2.0/UDP", "SIP/2.0/TCP");
        let now = self.net.now;
        self.net.agents[0].handle_message(now, &far, text.as_bytes());
        self.net.soon();
    }

    /// The last request of a kind, which came by TCP.
    #[track_caller]
    fn asked(&self, kind: &str) -> Seen {
        let seen = self.net.to_peer(kind);
        assert_eq!(seen.transport, Transport::Tcp, "{kind}");
        seen
    }

    #[track_caller]
    fn answers(&mut self, kind: &str, status: &str, headers: &str, body: &str) {
        let request = self.asked(kind);
        self.says(&response(&request, status, "far", headers, body));
    }

    /// The last request of a kind is challenged, and comes again with credentials and the next number.
    #[track_caller]
    fn challenges(&mut self, kind: &str) {
        let number =
            |seen: &Seen| header(&seen.text, "CSeq").unwrap().split(' ').next().unwrap().parse::<u32>().unwrap();
        let before = number(&self.asked(kind));
        let (status, challenge, credentials) = match kind {
            "BYE" | "REFER" => ("401 Unauthorized", UNAUTHORIZED, "Authorization"),
            _ => ("407 Proxy Authentication Required", CHALLENGE, "Proxy-Authorization"),
        };
        self.answers(kind, status, challenge, "");
        let again = self.asked(kind);
        assert!(header(&again.text, credentials).is_some(), "{}", again.text);
        assert_eq!(number(&again), before + 1, "{kind}");
    }

    fn dial(&mut self) -> CallId {
        let dial = Dial { account: Some("pbx".into()), ..common::dial("100") };
        let call = self.net.agents[0].dial(self.net.now, dial).unwrap();
        self.net.soon();
        call
    }

    fn call_up(&mut self, headers: &str) -> CallId {
        let call = self.dial();
        self.answers("INVITE", "200 OK", &format!("{CONTACT_TCP}{headers}"), &sdp(7000));
        self.net.answered(0);
        call
    }

    /// A request of the far end in the dialog of the last INVITE.
    fn asks(&mut self, method: &str, cseq: u32, headers: &str, body: &str) {
        let invite = self.net.to_peer("INVITE");
        let (call_id, tag) = (header(&invite.text, "Call-ID").unwrap().to_owned(), tag_of(&invite, "From"));
        let branch = format!("{method}{cseq}");
        let ask =
            Asking { method, branch: &branch, from_tag: "far", to_tag: &tag, call_id: &call_id, cseq, headers, body };
        self.says(&ask.bytes());
    }

    fn notifies(&mut self, cseq: u32, text: &str) {
        let headers = "Event: refer\r\nSubscription-State: terminated;reason=noresource\r\n\
                       Content-Type: message/sipfrag;version=2.0\r\n";
        self.asks("NOTIFY", cseq, headers, text);
    }

    #[track_caller]
    fn transferred(&mut self) -> (CallId, bool, Option<u16>) {
        self.net.wait(0, MINUTE, |e| match e {
            Event::TransferEnded { call, accepted, status, .. } => Some((*call, *accepted, *status)),
            _ => None,
        })
    }
}

const CONTACT_TCP: &str = "Contact: <sip:peer@10.0.0.50;transport=tcp>\r\nContent-Type: application/sdp\r\n";

#[test]
fn case_14_a_redirection_is_followed_over_tcp_and_from_there_to_udp() {
    let mut line = Line::new(|config| config.redirects = true);
    line.dial();
    let contacts = "Contact: <sip:first@10.0.0.50;transport=tcp>;q=0.9, <sip:second@10.0.0.50;transport=udp>;q=0.5\r\n";
    line.answers("INVITE", "302 Moved Temporarily", contacts, "");
    let first = line.asked("INVITE");
    assert!(first.text.starts_with("INVITE sip:first@10.0.0.50;transport=tcp SIP/2.0\r\n"), "{}", first.text);
    assert_eq!(line.net.outside.iter().filter(|s| s.kind() == "ACK").count(), 1, "the 302 is acknowledged");
    line.answers("INVITE", "480 Temporarily Unavailable", "", "");
    let second = line.net.to_peer("INVITE");
    assert!(second.text.starts_with("INVITE sip:second@10.0.0.50;transport=udp SIP/2.0\r\n"), "{}", second.text);
    line.net.peer_says(&response(&second, "200 OK", "far", CONTACT_SDP, &sdp(7000)));
    line.net.answered(0);

    let mut line = Line::new(|_| {});
    line.dial();
    line.answers("INVITE", "302 Moved Temporarily", contacts, "");
    assert_eq!(line.net.ended(0).1, EndCause::Rejected, "unless it is switched off");
}

#[test]
fn case_10_every_request_within_a_call_over_tcp_is_challenged_once() {
    let mut line = Line::new(|_| {});
    let call = line.dial();
    line.challenges("INVITE");
    line.answers("INVITE", "200 OK", CONTACT_TCP, &sdp(7000));
    line.net.answered(0);

    let hold = sdp(4000).replace("sendrecv", "sendonly");
    line.net.agents[0].reoffer(line.net.now, call, hold).unwrap();
    line.net.soon();
    line.challenges("INVITE");
    line.answers("INVITE", "200 OK", CONTACT_TCP, &sdp(7000));
    line.net.reoffered(0).unwrap();

    line.net.agents[0].info(line.net.now, call, "application/dtmf".into(), "1".into()).unwrap();
    line.net.soon();
    line.challenges("INFO");
    line.answers("INFO", "200 OK", "", "");

    line.net.agents[0].transfer(line.net.now, call, "sip:carol@10.0.0.60").unwrap();
    line.net.soon();
    line.challenges("REFER");
    line.answers("REFER", "603 Decline", "", "");
    assert_eq!(line.transferred(), (call, false, Some(603)));

    line.net.agents[0].hangup(line.net.now, call).unwrap();
    line.net.soon();
    line.challenges("BYE");
    line.answers("BYE", "200 OK", "", "");
    line.net.run(MINUTE * 2);
    assert!(line.net.agents[0].is_idle());
}

#[test]
fn case_10_the_update_of_a_session_timer_is_challenged_over_tcp() {
    let mut line = Line::new(|config| config.session_expires = Some(Duration::from_secs(600)));
    let call =
        line.call_up("Session-Expires: 600;refresher=uac\r\nRequire: timer\r\nSupported: timer\r\nAllow: UPDATE\r\n");
    line.net.run(Duration::from_secs(310));
    line.challenges("UPDATE");
    line.answers("UPDATE", "200 OK", "Session-Expires: 600;refresher=uac\r\n", "");
    line.net.run(Duration::from_secs(250));
    assert!(line.net.live(0, call));
}

/// Two calls through the account; the first's far end is to be connected with the second's.
fn attended(line: &mut Line) -> (CallId, CallId) {
    let first = line.call_up("");
    let second = line.dial();
    line.answers("INVITE", "200 OK", CONTACT_TCP, &sdp(7002));
    line.net.answered(0);
    line.net.agents[0].transfer_to(line.net.now, first, second).unwrap();
    line.net.soon();
    let refer = line.asked("REFER");
    assert!(header(&refer.text, "Refer-To").unwrap().contains("?Replaces="), "{}", refer.text);
    (first, second)
}

#[test]
fn an_attended_transfer_that_is_refused_leaves_both_calls_up() {
    let mut line = Line::new(|_| {});
    let (first, second) = attended(&mut line);
    line.challenges("REFER");
    line.answers("REFER", "603 Decline", "", "");
    assert_eq!(line.transferred(), (first, false, Some(603)));
    assert!(line.net.live(0, first) && line.net.live(0, second));

    // and another try is another transfer
    line.net.agents[0].transfer_to(line.net.now, first, second).unwrap();
    line.net.soon();
    line.challenges("REFER");
    line.answers("REFER", "202 Accepted", "", "");
    assert!(line.net.live(0, first) && line.net.live(0, second));
}

#[test]
fn an_attended_transfer_to_a_far_end_that_has_forgotten_the_call_ends_that_call_only() {
    let mut line = Line::new(|_| {});
    let (first, second) = attended(&mut line);
    line.answers("REFER", "481 Call/Transaction Does Not Exist", "", "");
    assert_eq!(line.transferred(), (first, false, Some(481)));
    assert_eq!(line.net.ended(0), (first, EndCause::RemoteHangup, Some(481)), "its dialog is gone (RFC 5057)");
    assert!(line.net.live(0, second));
}

#[test]
fn news_of_a_failure_lead_back_to_a_call_in_which_one_talks() {
    for (text, status) in [
        ("SIP/2.0 481 Call/Transaction Does Not Exist\r\n", 481),
        ("SIP/2.0 603 Decline\r\n", 603),
        ("SIP/2.0 486 Busy Here\r\n", 486),
        ("SIP/2.0 503 Service Unavailable\r\n", 503),
    ] {
        let mut line = Line::new(|_| {});
        let call = line.call_up("");
        let hold = sdp(4000).replace("sendrecv", "sendonly");
        line.net.agents[0].reoffer(line.net.now, call, hold).unwrap();
        line.net.soon();
        line.answers("INVITE", "200 OK", CONTACT_TCP, &sdp(7000).replace("sendrecv", "recvonly"));
        line.net.reoffered(0).unwrap();
        line.net.agents[0].transfer(line.net.now, call, "sip:carol@10.0.0.60").unwrap();
        line.net.soon();
        line.answers("REFER", "202 Accepted", "", "");
        line.notifies(2, text);
        assert_eq!(line.net.to_peer("200 NOTIFY").transport, Transport::Tcp);
        assert_eq!(line.transferred(), (call, false, Some(status)));
        // off hold, and digits go as ever
        line.net.agents[0].reoffer(line.net.now, call, sdp(4000)).unwrap();
        line.net.soon();
        line.answers("INVITE", "200 OK", CONTACT_TCP, &sdp(7000));
        assert!(line.net.reoffered(0).unwrap().contains("sendrecv"));
        line.net.agents[0].info(line.net.now, call, "application/dtmf".into(), "1".into()).unwrap();
        line.net.soon();
        line.answers("INFO", "200 OK", "", "");
        // the far end hangs up when it likes
        line.asks("BYE", 3, "", "");
        assert_eq!(line.net.ended(0), (call, EndCause::RemoteHangup, None));
    }
}
