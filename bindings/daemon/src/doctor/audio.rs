//! Whether audio can come back: addresses that the far end could not send to, ports that are taken, descriptors that run out.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::accounts::own_ip;
use super::{Health, Report};
use crate::config::{Account, Config};
use crate::serve::{is_private, stun};

/// As many ports of the range are tried; a whole range of ten thousand would take a while.
const TRIED: usize = 32;
/// RTP, RTCP, and room for signaling, recordings and the rest.
const DESCRIPTORS_A_CALL: u64 = 4;

/// Whether the address that we would tell an account for audio can be reached from there: the usual reason for audio that goes
/// one way only.
pub(super) fn one_way(
    config: &Config,
    account: &Account,
    to: Option<IpAddr>,
    seen_as: Option<SocketAddr>,
    report: &mut Report,
) {
    let Some((to, own)) = to.zip(own_ip(to)) else { return };
    let name = &account.name;
    let ports = format!("{}-{}", config.media.rtp_ports.start(), config.media.rtp_ports.end());
    let (health, text) = match (config.sip.public_address, seen_as) {
        (Some(public), Some(seen)) if public != seen.ip() => (
            Health::Bad,
            format!(
                "{name}: sip.public_address is {public}, but the registrar sees {}: audio would be sent elsewhere; correct it, or \
                 leave it out",
                seen.ip()
            ),
        ),
        (Some(public), _) => (Health::Good, format!("{name}: audio is wanted at {public} (sip.public_address)")),
        (None, _) if is_private(to) || !is_private(own) => {
            (Health::Good, format!("{name}: audio is wanted at {own}, which {to} can reach"))
        }
        (None, Some(seen)) => (
            Health::Good,
            format!(
                "{name}: behind NAT; audio is wanted at {}, as the registrar sees us. If nothing is heard, forward UDP {ports} to \
                 {own} in the router",
                seen.ip()
            ),
        ),
        (None, None) => match config.sip.stun_server.as_deref().map(stun::ask) {
            Some(Ok(seen)) => (
                Health::Good,
                format!("{name}: behind NAT; audio is wanted at {}, as the STUN server sees us", seen.ip()),
            ),
            Some(Err(error)) => (
                Health::Bad,
                format!("{name}: behind NAT, and the STUN server does not help: {error}; set another sip.stun_server"),
            ),
            None => (
                Health::Weak,
                format!(
                    "{name}: audio would be wanted at {own}, a private address that {to} cannot send to: nothing may be heard. Set \
                     sip.public_address, or sip.stun_server"
                ),
            ),
        },
    };
    report.add("audio", health, text);
}

/// Whether RTP ports are free and descriptors suffice.
pub(super) fn ports(config: &Config, running: bool, report: &mut Report) {
    let range = &config.media.rtp_ports;
    let step = usize::from((range.end() - range.start()) / TRIED as u16).max(2);
    let tried: Vec<u16> = range.clone().step_by(step).take(TRIED).collect();
    let free = tried.iter().filter(|port| UdpSocket::bind((config.media.bind_ip, **port)).is_ok()).count();
    let calls = usize::from(range.end() - range.start()) / 2;
    let text = format!(
        "{free} of {} tried in {}-{} on {} are free",
        tried.len(),
        range.start(),
        range.end(),
        config.media.bind_ip
    );
    if free == 0 {
        let fix = "set media.bind_ip to an address of this machine, or another media.rtp_ports";
        report.add("RTP ports", Health::Bad, format!("{text}; {fix}"));
    } else if calls < config.sip.max_calls {
        let fix =
            format!("room for {calls} calls, and sip.max_calls is {}: widen media.rtp_ports", config.sip.max_calls);
        report.add("RTP ports", Health::Weak, format!("{text}; {fix}"));
    } else if free * 2 < tried.len() && !running {
        report.add(
            "RTP ports",
            Health::Weak,
            format!("{text}; another program uses them: set another media.rtp_ports"),
        );
    } else {
        report.add("RTP ports", Health::Good, text);
    }
    let needed = config.sip.max_calls as u64 * DESCRIPTORS_A_CALL;
    if let Ok((soft, hard)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        && soft < needed
    {
        let text = format!(
            "{soft} file descriptors (at most {hard}), and {} calls need {needed}: ulimit -n {needed}, or LimitNOFILE of the service",
            config.sip.max_calls
        );
        report.add("descriptors", Health::Weak, text);
    }
}
