//! Each account tried for real, from a port of its own: its name, whether it answers, whether it takes us, what it sees of us.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use control::types::{AccountState, Status};
use signaling::net::{Command, Endpoint, Traced, local_ip_towards};
use signaling::trace::{CallTrace, Flow};
use signaling::{Event, UserAgentConfig};

use super::{Health, Report, audio, names, nat};
use crate::config::{Account, Config, Srtp, Transport};
use crate::serve;

/// A server that has not answered by then is not answering.
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// A trace is given at once.
const TRACE_LIMIT: Duration = Duration::from_secs(2);
/// Asked once; the next time would be after the doctor has gone.
const OPTIONS: Duration = Duration::from_secs(60);

/// What was learnt of an account.
#[derive(Debug, Default)]
struct Learnt {
    answered: Option<Result<Duration, String>>,
    seen_as: Option<SocketAddr>,
    trace: Option<Box<CallTrace>>,
}

/// Tries every account. One that a running daemon has registered is not registered again, for there are registrars that keep
/// one binding only; it is asked by OPTIONS.
pub(super) fn check(config: &Config, running: Option<&Status>, report: &mut Report) {
    let mut addresses = BTreeMap::new();
    for account in &config.accounts {
        addresses.insert(account.name.as_str(), names::check(config, account, report));
    }
    let mut learnt = ask(config, false, report);
    for account in &config.accounts {
        let mut text = String::new();
        let health = match learnt.get(&account.name).and_then(|learnt| learnt.answered.as_ref()) {
            Some(Ok(after)) => {
                text += &format!("answers OPTIONS over {} in {} ms", over(account), after.as_millis());
                Health::Good
            }
            Some(Err(reason)) => {
                text += &format!("{reason}; {}", fix(reason, account));
                Health::Bad
            }
            None => {
                text += &format!(
                    "no answer to OPTIONS over {} within {} s; {}",
                    over(account),
                    ANSWER_LIMIT.as_secs(),
                    fix("", account)
                );
                Health::Bad
            }
        };
        report.add("reachable", health, format!("{}: {text}", account.name));
        advise(account, config, report);
    }
    match running {
        Some(status) => as_the_daemon_says(status, report),
        None if config.accounts.iter().any(|account| account.register) => {
            learnt = ask(config, true, report);
            registrations(config, &learnt, report);
        }
        None => {}
    }
    for account in &config.accounts {
        let seen =
            learnt.get(&account.name).and_then(|learnt| learnt.seen_as).or_else(|| daemon_sees(running, account));
        let to = addresses.get(account.name.as_str()).and_then(|found| found.first().copied());
        audio::one_way(config, account, to, seen, report);
    }
}

/// What the daemon that runs knows of its accounts.
pub(super) fn as_the_daemon_says(status: &Status, report: &mut Report) {
    for account in &status.accounts {
        let reason = account.reason.clone().unwrap_or_default();
        let (health, text) = match account.state {
            AccountState::Registered => (
                Health::Good,
                match &account.seen_as {
                    Some(seen) => format!("is registered by the daemon, seen as {seen}: there is a NAT in between"),
                    None => "is registered by the daemon".to_owned(),
                },
            ),
            AccountState::Unregistered => (Health::Weak, "is not registered".to_owned()),
            AccountState::Reachable => (Health::Good, "answers the daemon".to_owned()),
            AccountState::Failed | AccountState::Unreachable => (Health::Bad, reason),
        };
        report.add("account", health, format!("{}: {text}", account.account));
    }
}

fn daemon_sees(running: Option<&Status>, account: &Account) -> Option<SocketAddr> {
    let known = running?.accounts.iter().find(|known| known.account == account.name)?;
    known.seen_as.as_ref()?.parse().ok()
}

/// Opens an endpoint with the accounts, to register or only to ask, and takes in what they say.
fn ask(config: &Config, register: bool, report: &mut Report) -> BTreeMap<String, Learnt> {
    let mut accounts = serve::accounts(config);
    accounts.retain(|account| account.register || !register);
    for account in &mut accounts {
        account.register = register;
        account.options = (!register).then_some(OPTIONS);
    }
    let mut waiting: Vec<String> = accounts.iter().map(|account| account.name.clone()).collect();
    let mut learnt: BTreeMap<String, Learnt> = BTreeMap::new();
    // one of IPv6 reaches both families, where there is IPv6
    let any: IpAddr =
        if config.sip.bind.is_ipv6() { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    let bind = SocketAddr::new(any, 0);
    let agent = UserAgentConfig { accounts, ..UserAgentConfig::new(bind) };
    let mut endpoint = match Endpoint::start(serve::client_endpoint(config, bind, agent), || {}) {
        Ok(endpoint) => endpoint,
        Err(error) => {
            report.add("account", Health::Bad, error.to_string());
            return learnt;
        }
    };
    let began = Instant::now();
    while let Some(left) = ANSWER_LIMIT.checked_sub(began.elapsed()).filter(|_| !waiting.is_empty()) {
        let (account, outcome, seen) = match endpoint.recv_timeout(left) {
            Some(Event::Registered { account, seen_as, .. }) => (account, Ok(began.elapsed()), seen_as),
            Some(Event::Reachable { account }) => (account, Ok(began.elapsed()), None),
            Some(Event::RegistrationFailed { account, reason, .. } | Event::Unreachable { account, reason }) => {
                (account, Err(reason), None)
            }
            _ => continue,
        };
        waiting.retain(|name| *name != account);
        let known = learnt.entry(account).or_default();
        known.answered.get_or_insert(outcome);
        known.seen_as = known.seen_as.or(seen);
    }
    if register {
        take_traces(&endpoint, &mut learnt);
    }
    endpoint.close();
    learnt
}

/// The messages of the registrations.
fn take_traces(endpoint: &Endpoint, learnt: &mut BTreeMap<String, Learnt>) {
    let names: Vec<String> = learnt.keys().cloned().collect();
    for (tag, name) in names.iter().enumerate() {
        let _ = endpoint.command(Command::Trace { tag: tag as u64, of: Traced::Account(name.clone()) });
    }
    let began = Instant::now();
    let mut left = names.len();
    while let Some(time) = TRACE_LIMIT.checked_sub(began.elapsed()).filter(|_| left > 0) {
        if let Some(Event::Trace { tag, trace }) = endpoint.recv_timeout(time) {
            left -= 1;
            let known = usize::try_from(tag).ok().and_then(|tag| names.get(tag)).and_then(|name| learnt.get_mut(name));
            if let Some(known) = known {
                known.trace = trace;
            }
        }
    }
}

/// Whether registrars took us in, and what their answers tell of the way.
fn registrations(config: &Config, learnt: &BTreeMap<String, Learnt>, report: &mut Report) {
    for account in config.accounts.iter().filter(|account| account.register) {
        let known = learnt.get(&account.name);
        let (health, text) = match known.and_then(|known| known.answered.as_ref()) {
            Some(Ok(after)) => (Health::Good, format!("registered in {} ms", after.as_millis())),
            Some(Err(reason)) => (Health::Bad, format!("{reason}; {}", fix(reason, account))),
            None => (
                Health::Bad,
                format!("the registrar did not answer within {} s; {}", ANSWER_LIMIT.as_secs(), fix("", account)),
            ),
        };
        report.add("registered", health, format!("{}: {text}", account.name));
        let Some(trace) = known.and_then(|known| known.trace.as_deref()) else { continue };
        // a stream's port is the connection's, which the trace does not tell
        if !matches!(account.transport, Some(Transport::Tcp | Transport::Tls))
            && let Some((request, response, own)) = first_pair(trace)
        {
            for (what, health, text) in nat::judge(&request, &response, own) {
                report.add(what, health, format!("{}: {text}", account.name));
            }
        }
    }
}

/// The first answer, and the request that it answers.
fn first_pair(trace: &CallTrace) -> Option<(String, String, SocketAddr)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let response = trace.messages.iter().find(|message| message.path.flow == Flow::Received)?;
    let answer = text(&response.bytes);
    let cseq = nat::header(&answer, "CSeq", "CSeq")?.to_owned();
    let request = trace.messages.iter().filter(|message| message.path.flow == Flow::Sent).find_map(|message| {
        let sent = text(&message.bytes);
        (nat::header(&sent, "CSeq", "CSeq") == Some(cseq.as_str())).then_some((sent, message.path))
    })?;
    let (request, path) = request;
    let own = if path.local.ip().is_unspecified() {
        SocketAddr::new(local_ip_towards(path.remote), path.local.port())
    } else {
        path.local
    };
    Some((request, answer, own))
}

/// What does not fit together in an account.
fn advise(account: &Account, config: &Config, report: &mut Report) {
    let srtp = account.srtp.unwrap_or(config.media.srtp);
    if srtp != Srtp::Off && account.transport != Some(Transport::Tls) {
        let text = format!(
            "{}: srtp is on, but the keys go over {} where everybody on the way reads them; set transport = \"tls\"",
            account.name,
            over(account)
        );
        report.add("SRTP", Health::Weak, text);
    }
    if !account.register && account.password.reveal().is_empty() && account.peers.is_empty() {
        let text = format!(
            "{}: a trunk without password and peers: calls come in only from the addresses of its registrar and proxy",
            account.name
        );
        report.add("trunk", Health::Weak, text);
    }
}

fn over(account: &Account) -> &'static str {
    match account.transport {
        Some(Transport::Tls) => "TLS",
        Some(Transport::Tcp) => "TCP",
        Some(Transport::Udp) => "UDP",
        None => "what DNS says, else UDP",
    }
}

/// What to do about it, by what was said.
fn fix(reason: &str, account: &Account) -> String {
    let has = |words: &[&str]| words.iter().any(|word| reason.to_ascii_lowercase().contains(word));
    if has(&["has expired"]) {
        return "whoever runs the registrar must renew it; if it is new, look at this machine's clock".to_owned();
    }
    if has(&["valid only from", "not valid yet"]) {
        return "set this machine's clock".to_owned();
    }
    if has(&["not made out for"]) {
        return "write one of these names as the account's registrar (or proxy)".to_owned();
    }
    if has(&["a wildcard"]) {
        return "the key is sip.tls_wildcards".to_owned();
    }
    if has(&["self-signed", "not trusted here"]) {
        return "if the server is your own, name the file with its certificate, or its authority's, as sip.tls_ca"
            .to_owned();
    }
    if has(&["certificate", "tls"]) {
        return "is it the port for TLS, and is the registrar's name the one in its certificate?".to_owned();
    }
    if has(&["401", "403", "407", "password", "credential", "refused the"]) {
        return "check user, password and auth_user; some providers block for a while after wrong ones".to_owned();
    }
    if has(&["not found", "no address", "name"]) {
        return "check the registrar's name and the name servers".to_owned();
    }
    let port = match account.transport {
        Some(Transport::Tls) => "TCP port 5061",
        Some(Transport::Tcp) => "TCP port 5060",
        _ => "UDP port 5060",
    };
    format!(
        "check its name and port, and that no firewall stops {port} there and back; another transport may get through"
    )
}

/// The address that we would be on the way there.
pub(super) fn own_ip(to: Option<IpAddr>) -> Option<IpAddr> {
    to.map(|ip| local_ip_towards(SocketAddr::new(ip, 5060))).filter(|ip| !ip.is_unspecified())
}
