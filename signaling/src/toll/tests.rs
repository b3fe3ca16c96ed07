//! What may be called and what may not; by the numbers of the attack cases.

use super::*;

fn patterns(list: &[&str]) -> Vec<Pattern> {
    list.iter().map(|text| Pattern::read(text).unwrap()).collect()
}

fn toll(change: impl FnOnce(&mut TollConfig)) -> (TollGuard, Instant) {
    let now = Instant::now();
    let mut config = TollConfig { rate: None, ..TollConfig::default() };
    change(&mut config);
    (TollGuard::new(config).unwrap(), now)
}

/// Why it is not called; empty if it is.
fn refused(guard: &mut TollGuard, now: Instant, to: &str) -> String {
    guard.ask(now, to, 0).err().map(|e| e.to_string()).unwrap_or_default()
}

#[test]
fn case_15_no_spelling_of_a_number_evades_what_denies_it() {
    let (mut guard, now) = toll(|c| {
        c.deny = patterns(&["+1900*"]);
        c.home = Some(Home { country: "1".into(), trunk: "1".into() });
    });
    for to in [
        "+19005551234",
        "+1 (900) 555-1234",
        "tel:+1-900-555-1234",
        "sip:+19005551234@example.com",
        "SIP:+19005551234@example.com;user=phone",
        "sip:%2B19005551234@example.com",
        "sip:%2b%31%39%30%305551234@example.com",
        "sip:%252B19005551234@example.com",
        "sip:+1%20900%205551234@example.com",
        "sip:+19005551234;phone-context=x@example.com",
        "sip:+1;900;5551234@example.com",
        "sip:+19005551234:password@example.com",
        "sip:+19005551234%3Apassword@example.com",
        "tel:+19005551234;ext=5",
        "  +19005551234\t",
        "19005551234",
        "01119005551234",
        "0019005551234",
        "*6719005551234",
        "*67+19005551234#",
        "+1,900,5551234",
        "+1_900_5551234",
        "+\u{ff11}900",
        "+1\u{200b}900",
        "sip:+1\u{ad}900@example.com",
        "+١٩٠٠",
        "+1900\u{0}",
        "sip:+1900\r\n@example.com",
    ] {
        assert_ne!(refused(&mut guard, now, to), "", "{to:?} was let through");
    }
    for to in ["+18005551234", "sip:+4930123@example.com", "sip:alice1900@example.com", "900"] {
        assert_eq!(refused(&mut guard, now, to), "");
    }
}

#[test]
fn case_15_what_is_denied_stays_so_whatever_allows_it() {
    let (mut guard, now) = toll(|c| {
        c.allow = patterns(&["+49*", "sip:*@example.com"]);
        c.deny = patterns(&["+49900*", "sip:mallory@*"]);
    });
    assert_eq!(refused(&mut guard, now, "+4930123456"), "");
    assert_eq!(refused(&mut guard, now, "sip:bob@EXAMPLE.com"), "");
    assert_eq!(refused(&mut guard, now, "+49900123"), "\"+49900123\" is denied by +49900* in toll.deny");
    assert_eq!(
        refused(&mut guard, now, "sip:%4Dallory@example.com"),
        "\"sip:%4Dallory@example.com\" is denied by sip:mallory@* in toll.deny, read as mallory"
    );
    assert_eq!(refused(&mut guard, now, "+44123"), "\"+44123\" is fitted by no pattern in toll.allow");
    assert_eq!(refused(&mut guard, now, "bob"), "\"bob\" is fitted by no pattern in toll.allow");
    assert_ne!(refused(&mut guard, now, "sip:bob@example.com.evil.net"), "");
    assert_ne!(
        refused(&mut guard, now, "sip:bob@evil.net;x=@example.com"),
        "",
        "the last @ decides, then the host is bad"
    );
}

#[test]
fn case_15_international_calls_are_denied_by_their_prefix_whichever_way_they_are_dialled() {
    let germany = Home { country: "49".into(), trunk: "0".into() };
    let (mut guard, now) = toll(|c| (c.deny, c.home) = (patterns(&["00*"]), Some(germany)));
    for to in ["0044123", "+44123", "tel:+44-123", "01144123"] {
        assert_ne!(refused(&mut guard, now, to), "", "{to}");
    }
    for to in ["+4930123", "030123"] {
        assert_eq!(refused(&mut guard, now, to), "");
    }
}

#[test]
fn case_15_premium_numbers_are_denied_by_default() {
    let (mut guard, now) = toll(|_| {});
    for to in ["+19005551234", "19005551234", "0019005551234", "+4990012345", "+882123", "tel:+979-1-2345"] {
        assert!(refused(&mut guard, now, to).contains("toll.deny"), "{to}");
    }
    for to in ["+4930123", "+12125551234", "+442071234567", "1900", "sip:alice@example.com", "101"] {
        assert_eq!(refused(&mut guard, now, to), "");
    }
}

#[test]
fn emergency_numbers_have_an_error_of_their_own() {
    let (mut guard, now) = toll(|_| {});
    for to in [
        "911",
        "tel:112",
        "sip:999@example.com",
        "sip:9%311@example.com",
        "1-1-0",
        "112#",
        "*67911",
        "urn:service:sos.fire",
    ] {
        let error = refused(&mut guard, now, to);
        assert!(error.contains("is an emergency number") && error.contains("toll.emergency"), "{to}: {error}");
    }
    assert_eq!(refused(&mut guard, now, "9115551234"), "");
}

#[test]
fn emergency_numbers_are_called_whatever_the_other_rules_if_so_configured() {
    let (mut guard, now) = toll(|c| {
        c.emergency = Emergency::Allow;
        (c.deny, c.concurrent) = (patterns(&["*"]), Some(0));
    });
    let permit = guard.ask(now, "sip:112@example.com", 7).unwrap();
    assert_eq!(permit, Permit { max_duration: None, emergency: true });
    assert_ne!(refused(&mut guard, now, "*67112"), "", "only as such");
    let (mut guard, now) = toll(|c| c.emergency = Emergency::Ignore);
    let permit = guard.ask(now, "112", 0).unwrap();
    assert!(!permit.emergency && permit.max_duration == guard.max_duration());
}

#[test]
fn case_15_calls_by_the_second_and_at_once_are_limited() {
    let (mut guard, now) = toll(|c| (c.rate, c.concurrent) = (Some(Rate::new(0.5, 2)), Some(3)));
    assert_eq!(guard.ask(now, "123", 3).unwrap_err().to_string(), "3 calls are up, and toll.concurrent is 3");
    assert!(guard.ask(now, "123", 2).is_ok() && guard.ask(now, "123", 0).is_ok(), "a refused call costs nothing");
    let error = guard.ask(now, "123", 0).unwrap_err();
    assert_eq!(error.to_string(), "more calls are made than toll.rate allows: 0.5 per second, 2 at once");
    assert!(guard.ask(now + Duration::from_secs(2), "123", 0).is_ok());
    assert!(guard.ask(now + Duration::from_secs(2), "123", 0).is_err());
}

#[test]
fn case_15_a_quota_holds_for_any_stretch_of_its_length() {
    let day = Duration::from_secs(86_400);
    let quota = Quota { to: Pattern::read("+44*").unwrap(), calls: 3, within: day };
    let (mut guard, start) = toll(|c| c.quotas = vec![quota]);
    let hour = |h: u64| start + Duration::from_secs(h * 3600);
    for h in [0, 10, 20] {
        assert_eq!(refused(&mut guard, hour(h), "+44123"), "");
    }
    assert_eq!(
        refused(&mut guard, hour(23), "0044 123"),
        "3 calls to +44* were made within 86400 s, which is all that toll.quotas allows; the next in 3601 s"
    );
    assert_eq!(refused(&mut guard, hour(23), "+33123"), "", "others do not count");
    assert_eq!(refused(&mut guard, hour(24), "+44123"), "");
    assert_ne!(refused(&mut guard, hour(33), "+44123"), "");
    assert_eq!(refused(&mut guard, hour(34), "+44123"), "");
}

#[test]
fn a_senseless_configuration_is_refused_by_the_key_that_is_wrong() {
    let error = |change: fn(&mut TollConfig)| {
        let mut config = TollConfig::default();
        change(&mut config);
        TollGuard::new(config).unwrap_err().to_string()
    };
    assert!(error(|c| c.rate = Some(Rate::new(0.0, 1))).starts_with("toll.rate "));
    assert!(error(|c| c.international = vec!["+".into()]).starts_with("toll.international "));
    assert!(error(|c| c.home = Some(Home { country: "+49".into(), trunk: "0".into() })).starts_with("toll.home "));
    let all = Pattern::read("*").unwrap();
    assert!(TollConfig::default().deny.len() == PREMIUM.len(), "each of them can be read");
    let quotas = vec![Quota { to: all, calls: 1_000_000, within: Duration::from_secs(1) }];
    let config = TollConfig { quotas, ..TollConfig::default() };
    assert!(TollGuard::new(config).is_err());
}
