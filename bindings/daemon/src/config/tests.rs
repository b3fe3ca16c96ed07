//! The configuration as a user meets it: the example file, the errors, the environment.

use std::path::Path;

use super::*;

fn no_environment(_: &str) -> Option<String> {
    None
}

fn error_of(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path), &no_environment).unwrap_err().to_string()
}

#[test]
fn the_example_file_says_the_defaults() {
    let example = Config::parse(EXAMPLE, Path::new("example")).unwrap();
    assert_eq!(example, Config::default());
}

#[test]
fn every_commented_key_of_the_example_is_known() {
    let uncommented: String = EXAMPLE
        .lines()
        .map(|line| {
            let inner = line.trim_start_matches("# ");
            let is_key =
                inner.split_once(" = ").is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
            if line.starts_with("# ") && (is_key || inner.starts_with("[[")) { inner } else { line }
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let config = Config::parse(&uncommented, Path::new("example")).unwrap();
    assert_eq!(config.accounts[0].user, "1000");
}

#[test]
fn an_unknown_key_is_named_with_file_line_and_what_is_allowed() {
    let error = error_of("[sip]\nbind = \"127.0.0.1:5060\"\nincomming = \"auto\"\n");
    for part in ["config.toml", "line 3", "incomming", "incoming"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn a_wrong_choice_lists_the_choices() {
    let error = error_of("[jack]\nmode = \"maybe\"\n");
    for part in ["line 2", "auto", "on", "off"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn a_rule_for_jack_that_is_no_regular_expression_is_refused_with_its_line_and_the_fix() {
    let rules = "[jack]\n[[jack.connect]]\nfrom = \"mr-sip:.*:caller\"\nto = \"system:playback_1\"\n[[jack.connect]]\n";
    let error = error_of(&format!("{rules}from = \"mr-sip:(\"\nto = \"x\"\n"));
    for part in ["line 6", "jack.connect.from", "mr-sip:(", "regular expression", "put \\ before it"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
    let error = error_of("[[jack.connect]]\nfrom = \"a\"\n");
    assert!(error.contains("to"), "{error}");
    let error = error_of("[jack]\nclients = \"many\"\n");
    assert!(error.contains("one") && error.contains("per_call"), "{error}");
}

#[test]
fn a_bad_port_range_says_how_to_write_one() {
    let error = error_of("[media]\nrtp_ports = \"9\"\n");
    assert!(error.contains("LOW-HIGH") && error.contains("line 2"), "{error}");
}

#[test]
fn a_value_that_cannot_be_used_is_named_with_its_line() {
    let error = error_of("[sip]\nmax_calls = 10\n\n[turns]\n# too short\nend_of_turn_ms = 20\n");
    for part in ["line 6", "turns.end_of_turn_ms = 20", "200 to 5000"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn the_environment_makes_the_default_account_and_its_password_never_shows() {
    let environment = |name: &str| {
        Some(match name {
            "SIP_GATEWAY" => "sip.example.com".to_owned(),
            "SIP_USER" => "1000".to_owned(),
            "SIP_PASSWORD" => "hunter2".to_owned(),
            "WHISPER_MODEL" => "tiny.en".to_owned(),
            "AUDIO_DIR" => "/srv/calls".to_owned(),
            _ => return None,
        })
    };
    let mut config = Config::default();
    config.apply_environment(&environment).unwrap();
    assert_eq!(config.accounts[0].password.reveal(), "hunter2");
    assert_eq!(config.asr.model, "tiny.en");
    assert_eq!(config.recordings_folder(), Path::new("/srv/calls"));
    let shown = format!("{config:?}{}", toml::to_string(&config).unwrap());
    assert!(!shown.contains("hunter2"), "case 46: a secret was shown: {shown}");
}

#[test]
fn a_user_with_a_line_break_is_refused() {
    let error = error_of("[[account]]\nregistrar = \"a\"\nuser = \"x\\r\\nEvil: 1\"\n");
    assert!(error.contains("account.user") && error.contains("line 3"), "{error}");
}

#[test]
fn a_preset_fills_in_what_the_file_does_not_say() {
    let config = Config::parse(
        "[[account]]\npreset = \"telnyx\"\nuser = \"me\"\n[[account]]\nname = \"b\"\npreset = \"twilio\"\nuser = \"me\"\n\
         registrar = \"x.pstn.twilio.com\"\ntransport = \"tls\"\nsrtp = \"required\"\noptions_s = 0\n",
        Path::new("example"),
    )
    .unwrap();
    let [telnyx, twilio] = config.accounts.as_slice() else { panic!() };
    assert_eq!((telnyx.registrar.as_str(), telnyx.register, telnyx.expires_s), ("sip.telnyx.com", true, 300));
    assert!(!twilio.register && twilio.options_s == 0);
    assert_eq!((twilio.transport, twilio.srtp), (Some(Transport::Tls), Some(Srtp::Required)));
    assert_eq!(twilio.codecs.as_deref(), Some(&[CodecName::Pcmu, CodecName::Pcma][..]));
}

#[test]
fn a_preset_that_needs_more_says_what_and_where() {
    let error = error_of(
        "[[account]]\npreset = \"telnyx\"\nuser = \"me\"\n\n[[account]]\nname = \"b\"\npreset = \"voip.ms\"\n",
    );
    for part in ["line 5", "account.registrar", "voip.ms needs", "atlanta1.voip.ms"] {
        assert!(error.contains(part), "{part} is missing in: {error}");
    }
}

#[test]
fn every_preset_is_read_by_its_name() {
    for facts in presets::Preset::ALL.map(presets::Preset::facts) {
        let text = format!(
            "[[account]]\npreset = {:?}\nuser = \"me\"\nregistrar = \"sip.example.com\"\npassword = \"x\"\n",
            facts.name
        );
        let config = Config::parse(&text, Path::new("example")).unwrap();
        let checker = check::Checker { path: None, text: &text, first_is_environment: false };
        checker.check(&config).unwrap();
        assert_eq!(config.accounts[0].register, facts.register);
    }
}

#[test]
fn values_of_an_account_are_checked_with_their_own_line() {
    let account = "[[account]]\nuser = \"a\"\nregistrar = \"b\"\n";
    for (line, key, allowed) in [
        ("expires_s = 5", "account.expires_s = 5", "from 20 to 86400 seconds"),
        ("options_s = 1", "account.options_s = 1", "from 5 to 3600 seconds; 0: never"),
        ("codecs = []", "account.codecs", "OPUS"),
        ("srtp = \"maybe\"", "srtp", "`off`, `optional`, `required`"),
        ("transport = \"ws\"", "transport", "`udp`, `tcp`, `tls`"),
        ("proxy = [\"ok\", \"sip:x y\"]", "account.proxy", "host or host:port"),
        ("peers = [\"10.0.0.0/33\"]", "peers", "is no network"),
        ("allow_dial = [\"\"]", "account.allow_dial", "write \"+49*\""),
        ("codec = [\"PCMU\"]", "codec", "codecs"),
        ("preset = \"voipms\"", "preset", "voip.ms"),
    ] {
        let second = account.replace("user", "name = \"second\"\nuser");
        let error = error_of(&format!("[sip]\n\n{account}\n{second}{line}\n"));
        for part in ["line 11", key, allowed] {
            assert!(error.contains(part), "{line}: {part} is missing in: {error}");
        }
    }
}

#[test]
fn half_a_tls_listener_is_refused() {
    let error = error_of("[sip]\ntls_bind = \"0.0.0.0:5061\"\n");
    assert!(error.contains("line 2: sip.tls_bind") && error.contains("tls_certificate"), "{error}");
    let error = error_of("[sip]\ntls_ca = \"/nonexistent/ca.pem\"\n");
    assert!(error.contains("line 2: sip.tls_ca") && error.contains("cannot be read"), "{error}");
}

#[test]
fn an_authority_of_the_recogniser_that_cannot_be_read_is_refused() {
    let error = error_of("[asr]\nurl = \"https://localhost/v1\"\nurl_ca = \"/nonexistent/ca.pem\"\n");
    assert!(error.contains("line 3: asr.url_ca") && error.contains("cannot be read"), "{error}");
}

/// An account that the environment gives stands before those of the file, and shifts no line.
#[test]
fn beside_an_account_of_the_environment_the_files_lines_are_right() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.toml");
    std::fs::write(&path, "[[account]]\nname = \"b\"\nuser = \"a b\"\nregistrar = \"b\"\n").unwrap();
    let environment = |name: &str| matches!(name, "SIP_GATEWAY" | "SIP_USER").then(|| "x".to_owned());
    let error = Config::load(Some(&path), &environment).unwrap_err().to_string();
    assert!(error.contains("line 3: account.user"), "{error}");
}
