//! What is known of common providers and PBXs, so that an account is three lines.
//!
//! A preset holds only what the provider itself documents for all its customers. What differs from customer to customer it asks for
//! (`needs`), and what a customer must set on the provider's side it says (`notes`). Providers change; keys in the file win.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::account::Transport;
use super::rooms::{CodecName, Srtp};

/// The presets by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Preset {
    #[serde(rename = "voip.ms")]
    VoipMs,
    Twilio,
    Telnyx,
    Vonage,
    FreeSwitch,
    Asterisk,
    Kamailio,
}

/// What a preset fills in.
#[derive(Debug, Clone, Copy)]
pub struct Facts {
    /// As the file writes it.
    pub name: &'static str,
    /// What it is for.
    pub title: &'static str,
    /// `None`: the user must say.
    pub registrar: Option<&'static str>,
    pub transport: Option<Transport>,
    pub register: bool,
    pub expires_s: Option<u32>,
    /// 0: none.
    pub options_s: u64,
    pub codecs: Option<&'static [CodecName]>,
    pub srtp: Option<Srtp>,
    /// Keys that are still needed, each with what goes there.
    pub needs: &'static [(&'static str, &'static str)],
    /// What else one should know.
    pub notes: &'static [&'static str],
}

const G711: &[CodecName] = &[CodecName::Pcmu, CodecName::Pcma];
const WIDE_FIRST: &[CodecName] = &[CodecName::Opus, CodecName::G722, CodecName::Pcmu, CodecName::Pcma];

impl Preset {
    /// In the order in which they are listed.
    pub const ALL: [Self; 7] =
        [Self::VoipMs, Self::Twilio, Self::Telnyx, Self::Vonage, Self::FreeSwitch, Self::Asterisk, Self::Kamailio];

    /// What it fills in.
    pub fn facts(self) -> &'static Facts {
        match self {
            Self::VoipMs => &VOIP_MS,
            Self::Twilio => &TWILIO,
            Self::Telnyx => &TELNYX,
            Self::Vonage => &VONAGE,
            Self::FreeSwitch => &FREESWITCH,
            Self::Asterisk => &ASTERISK,
            Self::Kamailio => &KAMAILIO,
        }
    }
}

impl Facts {
    /// The keys that it fills in, in the order of the example file.
    pub fn sets(&self) -> Map<String, Value> {
        [
            ("registrar", self.registrar.map(Value::from)),
            ("transport", self.transport.map(|transport| json!(transport))),
            ("register", Some(self.register.into())),
            ("expires_s", self.expires_s.map(Value::from)),
            ("options_s", Some(self.options_s.into())),
            ("codecs", self.codecs.map(|codecs| json!(codecs))),
            ("srtp", self.srtp.map(|srtp| json!(srtp))),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value?)))
        .collect()
    }
}

const VOIP_MS: Facts = Facts {
    name: "voip.ms",
    title: "VoIP.ms, registered",
    registrar: None,
    transport: Some(Transport::Udp),
    register: true,
    expires_s: Some(300),
    options_s: 0,
    codecs: Some(&[CodecName::Pcmu]),
    srtp: Some(Srtp::Off),
    needs: &[
        ("registrar", "the server (POP) that your number is on, such as \"atlanta1.voip.ms\""),
        ("user", "the main account's six digits, or a sub account such as \"123456_agent\""),
        ("password", "the SIP password of that account, not that of the web site"),
    ],
    notes: &[
        "calls come in only where the number's POP is the one that you register at",
        "for encryption switch it on for the (sub) account there, then: transport = \"tls\", srtp = \"required\"",
    ],
};

const TWILIO: Facts = Facts {
    name: "twilio",
    title: "Twilio Elastic SIP Trunking",
    registrar: None,
    transport: Some(Transport::Udp),
    register: false,
    expires_s: None,
    options_s: 60,
    codecs: Some(G711),
    srtp: Some(Srtp::Off),
    needs: &[
        ("registrar", "the trunk's termination URI, \"NAME.pstn.twilio.com\""),
        ("user", "a user name of the trunk's credential list"),
        ("password", "its password"),
        ("peers", "for calls that come in: Twilio's signaling addresses of your region, from its documentation"),
    ],
    notes: &[
        "a trunk does not register; calls come in to the origination URI that you set there, \"sip:YOUR-ADDRESS:5060\"",
        "numbers are dialled with plus and country, \"+15551234567\", and your caller number must be one of the trunk's",
        "with Secure Trunking switched on there: transport = \"tls\", srtp = \"required\"",
    ],
};

const TELNYX: Facts = Facts {
    name: "telnyx",
    title: "Telnyx SIP connection with credentials",
    registrar: Some("sip.telnyx.com"),
    transport: Some(Transport::Udp),
    register: true,
    expires_s: Some(300),
    options_s: 0,
    codecs: Some(&[CodecName::Opus, CodecName::G722, CodecName::Pcmu, CodecName::Pcma]),
    srtp: Some(Srtp::Off),
    needs: &[("user", "the connection's user name"), ("password", "its password")],
    notes: &[
        "outside of North America use the region's own name, such as registrar = \"sip.telnyx.eu\"",
        "the codecs must be switched on in the connection too",
        "for encryption set it in the connection, then: transport = \"tls\", srtp = \"required\"",
    ],
};

const VONAGE: Facts = Facts {
    name: "vonage",
    title: "Vonage (Nexmo) API SIP trunking",
    registrar: Some("sip.nexmo.com"),
    transport: Some(Transport::Udp),
    register: false,
    expires_s: None,
    options_s: 60,
    codecs: Some(G711),
    srtp: Some(Srtp::Off),
    needs: &[
        ("user", "your API key"),
        ("password", "your API secret"),
        ("peers", "for calls that come in: Vonage's SIP addresses, from its documentation"),
    ],
    notes: &[
        "it does not register; calls come in where you link the number to, \"sip:agent@YOUR-ADDRESS:5060\"",
        "numbers are dialled with the country and without plus, \"15551234567\"",
    ],
};

const FREESWITCH: Facts = Facts {
    name: "freeswitch",
    title: "a user of a FreeSWITCH (its internal profile, port 5060)",
    registrar: None,
    transport: Some(Transport::Udp),
    register: true,
    expires_s: Some(300),
    options_s: 0,
    codecs: Some(WIDE_FIRST),
    srtp: Some(Srtp::Off),
    needs: &[
        ("registrar", "its address or domain"),
        ("user", "the user of its directory, such as \"1000\""),
        ("password", "the user's password"),
    ],
    notes: &[
        "a FreeSWITCH as shipped makes who uses its default password wait before every call: change it there",
        "for a trunk to its external profile: registrar = \"HOST:5080\", register = false",
    ],
};

const ASTERISK: Facts = Facts {
    name: "asterisk",
    title: "an endpoint of an Asterisk (PJSIP), FreePBX or Issabel",
    registrar: None,
    transport: Some(Transport::Udp),
    register: true,
    expires_s: Some(300),
    options_s: 0,
    codecs: Some(WIDE_FIRST),
    srtp: Some(Srtp::Off),
    needs: &[
        ("registrar", "its address"),
        ("user", "the endpoint's (extension's) name, such as \"6001\""),
        ("password", "that of its auth section (the extension's secret)"),
    ],
    notes: &[
        "what is spoken is decided by allow= of the endpoint there",
        "behind NAT it wants rtp_symmetric, force_rport and rewrite_contact set for the endpoint",
    ],
};

const KAMAILIO: Facts = Facts {
    name: "kamailio",
    title: "a subscriber of a Kamailio or OpenSIPS",
    registrar: None,
    transport: Some(Transport::Udp),
    register: true,
    expires_s: Some(300),
    options_s: 0,
    codecs: None,
    srtp: None,
    needs: &[("registrar", "its domain"), ("user", "the subscriber's name"), ("password", "the subscriber's password")],
    notes: &["it carries signaling only: codecs and encryption are those of whoever is behind it"],
};
