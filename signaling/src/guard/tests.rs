//! What comes through the door and what does not; by the numbers of the attack cases.

use super::*;

const T1: Duration = Duration::from_millis(500);

struct Door {
    guard: Guard,
    now: Instant,
}

impl Door {
    fn new(change: impl FnOnce(&mut GuardConfig)) -> Door {
        let now = Instant::now();
        let mut config = GuardConfig::default();
        change(&mut config);
        Door { guard: Guard::new(config, [7; 32]).unwrap(), now }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn admit(&mut self, ip: IpAddr) -> Verdict {
        self.guard.admit(self.now, ip)
    }

    fn passes(&mut self, address: &str) -> bool {
        self.admit(ip(address)) == Verdict::Pass
    }

    fn offend(&mut self, address: &str, offence: Offence) -> Option<Ban> {
        self.guard.offend(self.now, ip(address), offence)
    }

    /// Offends until banned.
    fn ban(&mut self, address: &str) -> Ban {
        (0..20).find_map(|_| self.offend(address, Offence::Malformed)).unwrap()
    }

    /// Datagrams from addresses that were never seen before, evenly over the time, each of which offends when it is read.
    /// How many were.
    fn flood(&mut self, from: &mut u32, datagrams: u32, time: Duration) -> u32 {
        let mut passed = 0;
        for _ in 0..datagrams {
            self.wait(time / datagrams);
            let ip = IpAddr::V4(from.wrapping_add(0x1400_0000).into());
            *from += 1;
            if self.admit(ip) == Verdict::Pass {
                passed += 1;
                self.guard.offend(self.now, ip, Offence::NotSip);
            }
        }
        passed
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn case_06_a_stranger_gets_no_answer_and_no_call_by_default() {
    let mut door = Door::new(|_| {});
    assert!(door.passes("192.0.2.1"), "it is read: it may be the answer to something of ours");
    let now = door.now;
    assert!(!door.guard.answers(now, ip("192.0.2.1")) && !door.guard.serves(now, ip("192.0.2.1")));
    assert!(door.guard.answers(now, ip("127.0.0.1")) && door.guard.serves(now, ip("::1")));
    door.guard.vouch(now, ip("192.0.2.1"), now + T1);
    assert!(door.guard.answers(now, ip("192.0.2.1")) && door.guard.serves(now, ip("192.0.2.1")));
    door.wait(T1);
    assert_eq!(door.guard.standing(door.now, ip("192.0.2.1")), Standing::Stranger);
}

#[test]
fn case_07_strangers_may_be_refused_one_and_all_or_let_in() {
    for (policy, answers, serves) in
        [(Strangers::Ignore, false, false), (Strangers::Refuse, true, false), (Strangers::Answer, true, true)]
    {
        let mut door = Door::new(|c| c.strangers = policy);
        let now = door.now;
        let asked = (door.guard.answers(now, ip("192.0.2.1")), door.guard.serves(now, ip("192.0.2.1")));
        assert_eq!(asked, (answers, serves), "{policy:?}");
        door.ban("192.0.2.1");
        assert!(!door.guard.answers(now, ip("192.0.2.1")), "{policy:?}: never when banned");
    }
}

#[test]
fn case_06_a_scanners_name_gets_it_banned_at_once() {
    let mut door = Door::new(|_| {});
    for name in ["friendly-scanner", "SIPVicious/0.3", "x VaxSIPUserAgent/3.1", "sipcli/v1.8"] {
        assert!(door.guard.is_scanner(name), "{name}");
    }
    for name in ["", "Linphone/4", "FPBX-16", "baresip v1.0.0", "Grandstream GXP2160"] {
        assert!(!door.guard.is_scanner(name), "{name}");
    }
    assert!(!door.guard.is_scanner(&"\u{e4}".repeat(100_000)));
    let ban = door.offend("192.0.2.1", Offence::Scanner).unwrap();
    assert_eq!(ban.to_string(), "192.0.2.1 is banned for 600 s: a scanner's name");
    assert_eq!(door.admit(ip("192.0.2.1")), Verdict::Drop(DropReason::Banned));
    assert!(door.passes("192.0.2.2"));
}

#[test]
fn case_08_guessing_is_banned_and_each_ban_is_twice_as_long_up_to_the_longest() {
    let mut door = Door::new(|c| c.ban.longest = Duration::from_secs(2000));
    assert!((0..4).all(|_| door.offend("192.0.2.1", Offence::FailedDigest).is_none()));
    let mut ban = door.offend("192.0.2.1", Offence::FailedDigest).expect("the fifth");
    let mut lengths = Vec::new();
    for _ in 0..4 {
        lengths.push(ban.left.as_secs());
        assert!(door.offend("192.0.2.1", Offence::FailedDigest).is_none(), "no second line about one ban");
        door.wait(ban.left - Duration::from_nanos(1));
        assert!(!door.passes("192.0.2.1"));
        door.wait(Duration::from_nanos(1));
        assert!(door.passes("192.0.2.1"));
        ban = door.ban("192.0.2.1");
    }
    assert_eq!((lengths, ban.count), (vec![600, 1200, 2000, 2000], 5));
    door.wait(Duration::from_secs(2000 + 86_401));
    assert_eq!(door.ban("192.0.2.1").left.as_secs(), 600, "a good day, and it begins anew");
}

#[test]
fn offences_count_within_their_window_only() {
    let mut door = Door::new(|_| {});
    for _ in 0..100 {
        assert_eq!(door.offend("192.0.2.1", Offence::NotSip), None);
        door.wait(Duration::from_secs(7));
    }
    assert!(door.guard.bans(door.now).is_empty());
}

#[test]
fn bans_are_listed_and_can_be_lifted() {
    let mut door = Door::new(|_| {});
    door.ban("192.0.2.1");
    door.wait(T1);
    door.ban("2001:db8:0:7:aaaa::1");
    let bans = door.guard.bans(door.now);
    let lines: Vec<String> = bans.iter().map(Ban::to_string).collect();
    assert_eq!(
        lines,
        [
            "2001:db8:0:7::/64 is banned for 600 s: malformed messages",
            "192.0.2.1 is banned for 599 s: malformed messages",
        ]
    );
    assert!(!door.passes("2001:db8:0:7:bbbb::2"), "its whole network");
    assert!(door.passes("2001:db8:0:8::1"));
    assert!(door.guard.pardon(door.now, ip("192.0.2.1")) && !door.guard.pardon(door.now, ip("192.0.2.1")));
    assert!(door.passes("192.0.2.1"));
    assert_eq!(door.guard.bans(door.now).len(), 1);
}

#[test]
fn trusted_and_known_addresses_are_never_banned() {
    let mut door = Door::new(|c| c.trusted.push("10.0.0.0/8".parse().unwrap()));
    let until = door.now + T1;
    door.guard.vouch(door.now, ip("192.0.2.1"), until);
    for _ in 0..100 {
        assert_eq!(door.offend("10.1.2.3", Offence::Scanner), None);
        assert_eq!(door.offend("::ffff:10.1.2.3", Offence::Scanner), None);
        assert_eq!(door.offend("192.0.2.1", Offence::Scanner), None);
    }
    assert_eq!(door.guard.counters().offences, 300);
    door.wait(T1);
    assert!(door.passes("192.0.2.1"), "what was said in its name meanwhile is not held against it");
    // and one that we turn to is heard, whatever was before
    door.ban("192.0.2.1");
    assert!(!door.passes("192.0.2.1"));
    let until = door.now + T1;
    door.guard.vouch(door.now, ip("192.0.2.1"), until);
    assert!(door.passes("192.0.2.1"));
    door.guard.disown(ip("192.0.2.1"));
    assert!(!door.passes("192.0.2.1"));
}

#[test]
fn case_17_one_stranger_is_held_to_its_rate_and_does_not_slow_another() {
    let mut door = Door::new(|_| {});
    let passed = (0..10_000)
        .filter(|_| {
            door.wait(Duration::from_micros(100));
            door.passes("192.0.2.1")
        })
        .count();
    assert!((58..=60).contains(&passed), "{passed} of 10,000 within a second: 40 at once and 20");
    assert!((0..20).all(|_| door.passes("192.0.2.2")));
    assert_eq!(door.guard.counters().dropped_rate, 10_000 - passed as u64);
}

#[test]
fn case_17_a_flood_leaves_trusted_and_known_peers_alone() {
    let mut door = Door::new(|_| {});
    let until = door.now + Duration::from_secs(3600);
    door.guard.vouch(door.now, ip("192.0.2.1"), until);
    let mut from = 0;
    for _ in 0..100 {
        door.flood(&mut from, 500, Duration::from_millis(10));
        assert!(door.passes("192.0.2.1") && door.passes("127.0.0.1"));
    }
    let counters = door.guard.counters();
    assert_eq!((counters.known, counters.trusted), (100, 100));
    assert!(counters.strangers <= 600, "{} of 50,000 are read: the newcomers' rate", counters.strangers);
    assert_eq!(counters.strangers + counters.dropped(), 50_000);
}

#[test]
fn case_17_a_stranger_that_was_heard_before_the_flood_or_got_in_once_gets_through() {
    let mut door = Door::new(|_| {});
    let mut from = 0;
    assert!(door.passes("198.51.100.1"));
    for second in 0..30 {
        door.flood(&mut from, 20_000, Duration::from_secs(1));
        assert!(door.passes("198.51.100.1"), "second {second}");
    }
    // a new one competes with the flood for the newcomers' budget, but only until it is in
    let mut tries = 0;
    while !door.passes("198.51.100.2") {
        door.flood(&mut from, 101, Duration::from_millis(5));
        door.wait(Duration::from_micros(25));
        tries += 1;
        assert!(tries < 1000);
    }
    door.flood(&mut from, 20_000, Duration::from_secs(1));
    assert!(door.passes("198.51.100.2"));
}

#[test]
fn case_17_a_flood_of_forged_sources_does_not_make_us_forget_a_ban() {
    let mut door = Door::new(|c| c.remembered = 64);
    let banned: Vec<IpAddr> = (1..=16).map(|i| ip(&format!("198.51.100.{i}"))).collect();
    for ip in &banned {
        door.guard.offend(door.now, *ip, Offence::Scanner);
    }
    let bans = door.guard.bans(door.now);
    assert!(bans.len() >= 14, "more than six of sixteen in one of eight sets: {}", bans.len());
    let mut from = 0;
    let read = door.flood(&mut from, 300_000, Duration::from_secs(60));
    assert!((12_000..13_000).contains(&read), "{read}: 200 times as many as are remembered");
    for ban in bans {
        assert_eq!(door.admit(ban.address), Verdict::Drop(DropReason::Banned));
    }
}

#[test]
fn case_17_those_who_are_banned_leave_room_for_the_others() {
    let mut door = Door::new(|c| c.remembered = 64);
    for i in 0..2000_u32 {
        door.guard.offend(door.now, IpAddr::V4((0x0a00_0000 + i).into()), Offence::Scanner);
    }
    assert_eq!(door.guard.bans(door.now).len(), 48, "six of eight in each set");
    assert_eq!(door.guard.counters().refused_bans, 2000 - 48);
    assert!(door.passes("198.51.100.1"));
    door.flood(&mut 0, 20_000, Duration::from_millis(20));
    let verdict = door.admit(ip("198.51.100.250"));
    assert_eq!(verdict, Verdict::Drop(DropReason::Newcomers), "the newcomers' budget is spent");
}

#[test]
fn case_17_the_same_small_work_for_every_datagram() {
    let mut door = Door::new(|_| {});
    let mut from = 0;
    let places = door.guard.table.iter().count();
    assert_eq!(places, 0);
    for round in 0..50 {
        let before = door.guard.table.probes.get();
        for _ in 0..1000 {
            door.wait(Duration::from_micros(20));
            from += 1;
            door.admit(IpAddr::V4((0x1400_0000 + from).into()));
            door.admit(ip("198.51.100.1"));
            door.admit(ip("127.0.0.1"));
        }
        let probes = door.guard.table.probes.get() - before;
        assert!(probes <= 2 * 1000 + 1000, "round {round}: {probes} sets read for 3,000 datagrams");
    }
}

#[test]
fn case_17_all_strangers_together_have_a_limit_and_each_peer_has_its_own() {
    let mut door = Door::new(|c| {
        c.strangers_rate = Rate::new(10.0, 20);
        c.peer_rate = Some(Rate::new(1.0, 3));
    });
    let strangers: Vec<IpAddr> = (1..=100).map(|i| ip(&format!("198.51.100.{i}"))).collect();
    assert!(strangers.iter().all(|ip| door.admit(*ip) == Verdict::Pass), "newcomers have their own");
    let passed = strangers.iter().filter(|ip| door.admit(**ip) == Verdict::Pass).count();
    assert_eq!(passed, 20);
    assert_eq!(door.guard.counters().dropped_strangers, 80);
    let until = door.now + T1;
    for address in ["192.0.2.1", "192.0.2.2"] {
        door.guard.vouch(door.now, ip(address), until);
        assert_eq!((0..10).filter(|_| door.passes(address)).count(), 3);
    }
    let mut open = Door::new(|c| c.peer_rate = None);
    let until = open.now + T1;
    open.guard.vouch(open.now, ip("192.0.2.1"), until);
    assert!((0..100_000).all(|_| open.passes("192.0.2.1")));
}

#[test]
fn no_more_peers_are_kept_than_configured_and_those_who_are_over_make_room() {
    let mut door = Door::new(|c| c.peers = 10);
    let peer = |i: u32| IpAddr::V4((0x0a00_0000 + i).into());
    let until = door.now + Duration::from_secs(2);
    assert!((0..10).all(|i| door.guard.vouch(door.now, peer(i), until)));
    assert!(!door.guard.vouch(door.now, peer(10), until) && door.guard.vouch(door.now, peer(3), until));
    assert!(door.guard.vouch(door.now, ip("127.0.0.1"), until), "trusted ones need no room");
    assert_eq!(door.guard.counters().refused_peers, 1);
    door.wait(Duration::from_secs(2));
    let until = door.now + T1;
    assert!((20..30).all(|i| door.guard.vouch(door.now, peer(i), until)));
    // an earlier end does not take back a later one
    let soon = door.now + Duration::from_millis(1);
    door.guard.vouch(door.now, peer(20), soon);
    door.wait(Duration::from_millis(2));
    assert_eq!(door.guard.standing(door.now, peer(20)), Standing::Known);
}

#[test]
fn case_18_connections_are_capped_by_address_and_for_all_strangers() {
    let mut door = Door::new(|c| (c.connections_per_address, c.connections) = (3, 5));
    let until = door.now + Duration::from_secs(60);
    door.guard.vouch(door.now, ip("192.0.2.99"), until);
    let open = |door: &mut Door, address| door.guard.admit_connection(door.now, ip(address));
    let mut seats: Vec<Seat> = (0..3).map(|_| open(&mut door, "192.0.2.1").unwrap()).collect();
    assert_eq!(open(&mut door, "192.0.2.1").unwrap_err(), DropReason::Connections);
    seats.extend((0..2).map(|_| open(&mut door, "192.0.2.2").unwrap()));
    assert_eq!(open(&mut door, "192.0.2.3").unwrap_err(), DropReason::Connections, "all strangers' places are taken");
    let known: Vec<Seat> = (0..3).map(|_| open(&mut door, "192.0.2.99").unwrap()).collect();
    assert!(open(&mut door, "192.0.2.99").is_err());
    let trusted: Vec<Seat> = (0..100).map(|_| open(&mut door, "127.0.0.1").unwrap()).collect();
    assert_eq!(door.guard.counters().refused_connections, 3);
    // a peer that is no longer known gives back what it took, and no more
    door.guard.disown(ip("192.0.2.99"));
    for seat in known.into_iter().chain(trusted).chain(seats) {
        door.guard.leave(seat);
    }
    assert!(door.guard.connections.is_empty() && door.guard.strangers_connections == 0);
    door.ban("192.0.2.1");
    assert_eq!(open(&mut door, "192.0.2.1").unwrap_err(), DropReason::Banned);
}

#[test]
fn a_senseless_configuration_is_refused_by_the_key_that_is_wrong() {
    let refused = |change: fn(&mut GuardConfig)| {
        let mut config = GuardConfig::default();
        change(&mut config);
        Guard::new(config, [0; 32]).unwrap_err().to_string()
    };
    assert!(refused(|c| c.ban.offences = 0).starts_with("guard.ban.offences "));
    assert!(refused(|c| c.ban.first = Duration::ZERO).starts_with("guard.ban.first "));
    assert!(refused(|c| c.newcomer_rate.per_second = 0.0).starts_with("guard.newcomer_rate "));
    assert!(refused(|c| c.peer_rate = Some(Rate::new(1.0, 0))).starts_with("guard.peer_rate "));
}

#[test]
fn the_longest_of_times_do_no_harm() {
    let mut door = Door::new(|c| {
        c.ban.first = Duration::MAX;
        c.ban.longest = Duration::MAX;
        c.ban.window = Duration::MAX;
        c.ban.forget = Duration::MAX;
    });
    door.ban("192.0.2.1");
    door.wait(Duration::from_secs(100 * 365 * 86_400));
    assert!(!door.passes("192.0.2.1"));
    let past = door.guard.epoch.unwrap() - Duration::from_secs(1);
    assert_eq!(door.guard.admit(past, ip("192.0.2.2")), Verdict::Pass, "a time before the beginning is the beginning");
}
