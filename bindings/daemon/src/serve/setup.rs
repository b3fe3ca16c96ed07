//! The configuration in the words of each room.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use asr::http::{HttpConfig, HttpRecognizers};
use asr::vad::DetectorKind;
use asr::{AsrError, EarsConfig};
use engine::jack::{ConnectRule, JackClients, JackConfig};
use engine::{EngineConfig, NetIo};
use signaling::guard::{GuardConfig, Rate, Strangers};
use signaling::net::{DnsConfig, EndpointConfig, TcpListen, TlsConfig};
use signaling::{Account, Password, ReferPolicy, Transport, UserAgentConfig};

use super::MEDIA_LOST;
use crate::config::{self, Config, JackMode};

/// Calls that have ended and whose media is still being taken down.
const ENDING_CALLS: usize = 16;
/// The longest that a client may let a call ring (`call.dial`, `timeout_ms`); the switchboard gives up before signaling.
const LONGEST_RING: Duration = Duration::from_secs(605);
/// `SCHED_FIFO` priority of the media thread: above jackd's usual 10, below the kernel's own threads at 99 and 50.
const MEDIA_PRIORITY: u8 = 60;

/// The engine as the configuration wants it; also what `doctor` tries.
pub(crate) fn engine_config(config: &Config) -> EngineConfig {
    let jack = (config.jack.mode != JackMode::Off).then(|| JackConfig {
        server_name: (!config.jack.server.is_empty()).then(|| config.jack.server.clone()),
        client_name: config.jack.client.clone(),
        clients: match config.jack.clients {
            config::JackClients::One => JackClients::One,
            config::JackClients::PerCall => JackClients::PerCall,
        },
        max_clients: config.jack.max_clients,
        max_calls: config.sip.max_calls,
        patch_agent: config.jack.patch_agent,
        // what is no rule was refused when the configuration was read
        connect: config.jack.connect.iter().filter_map(|rule| ConnectRule::new(&rule.from, &rule.to).ok()).collect(),
        wait_for_server: config.jack.mode == JackMode::On,
        ..JackConfig::default()
    });
    EngineConfig {
        bind_ip: config.media.bind_ip,
        rtp_ports: config.media.rtp_ports.clone(),
        cores: config.media.cores.clone(),
        realtime_priority: config.media.realtime.then_some(MEDIA_PRIORITY),
        lock_memory: config.media.realtime,
        net_io: match config.media.packets {
            config::Packets::Auto => NetIo::Auto,
            config::Packets::Plain => NetIo::Plain,
            config::Packets::IoUring => NetIo::Uring,
        },
        // a call that has ended is counted until the media thread's next tick
        max_calls: config.sip.max_calls + ENDING_CALLS,
        media_lost_after: MEDIA_LOST,
        jack,
    }
}

/// Requests to a server that recognises, at once: it waits and does not compute.
const HTTP_WORKERS: usize = 4;

/// The server that recognises, if one is configured.
pub(crate) fn http_recognizers(config: &Config) -> Option<Result<HttpRecognizers, AsrError>> {
    let asr = &config.asr;
    let key = asr.url_key.reveal();
    (!asr.url.is_empty()).then(|| {
        HttpRecognizers::new(HttpConfig {
            url: asr.url.clone(),
            key: (!key.is_empty()).then(|| key.to_owned()),
            model: asr.url_model.clone(),
            language: asr.language.clone(),
            timeout: Duration::from_secs(asr.url_timeout_s),
            ca: asr.url_ca.clone(),
        })
    })
}

pub(super) fn ears_config(config: &Config, model: PathBuf) -> EarsConfig {
    let mut ears = EarsConfig::new(model);
    ears.workers = match config.asr.workers {
        0 if !config.asr.url.is_empty() => HTTP_WORKERS,
        workers => workers,
    };
    ears.detector = match config.asr.detector {
        config::SpeechDetector::Webrtc => DetectorKind::WebRtc,
        config::SpeechDetector::Earshot => DetectorKind::Earshot,
    };
    ears.partial_interval = Duration::from_millis(config.asr.partial_interval_ms);
    ears.turns = super::turns::configured(config).turns;
    ears.language = config.asr.language.clone();
    ears
}

pub(super) fn endpoint_config(config: &Config) -> EndpointConfig {
    let sip = &config.sip;
    let mut agent = UserAgentConfig::new(sip.bind);
    agent.advertised = sip.public_address.map(|ip| (ip, sip.bind.port()).into());
    agent.max_calls = sip.max_calls;
    agent.ring_limit = Duration::from_secs(sip.ring_timeout_s + 5).max(LONGEST_RING);
    agent.accounts = accounts(config);
    agent.guard = guard(sip);
    agent.session_expires = (sip.session_expires_s > 0).then(|| Duration::from_secs(sip.session_expires_s));
    agent.refer = match sip.incoming_refer {
        config::ReferPolicy::Refuse => ReferPolicy::Refuse,
        config::ReferPolicy::Ask => ReferPolicy::Ask,
    };
    agent.redirects = sip.redirects;
    agent.stun_servers = sip.stun_server.iter().cloned().collect();
    agent.trace.calls = sip.trace_calls;
    agent.toll = super::dialing::patterns_only(&config.dialing).ok();
    EndpointConfig {
        tcp: if sip.tcp { TcpListen::LikeUdp } else { TcpListen::Off },
        tls: sip.tls_bind,
        ..client_endpoint(config, sip.bind, agent)
    }
}

/// An endpoint that listens at `bind` by UDP alone, with the configured name servers and certificates: what `doctor` tries.
pub(crate) fn client_endpoint(config: &Config, bind: SocketAddr, agent: UserAgentConfig) -> EndpointConfig {
    let sip = &config.sip;
    EndpointConfig {
        tcp: TcpListen::Off,
        tls_files: TlsConfig {
            ca_file: sip.tls_ca.clone(),
            wildcards: sip.tls_wildcards,
            certificate: sip.tls_certificate.clone(),
            key: sip.tls_key.clone(),
        },
        dns: DnsConfig { servers: sip.dns_servers.clone() },
        ..EndpointConfig::new(bind, agent)
    }
}

/// Who may talk to us, and how much.
fn guard(sip: &config::Sip) -> GuardConfig {
    // at once may come twice what may come in a second
    let rate = |a_second: u32| Rate::new(f64::from(a_second), a_second.saturating_mul(2));
    let mut guard = GuardConfig {
        trusted: sip.trusted.clone(),
        strangers: match sip.strangers {
            config::Strangers::Ignore => Strangers::Ignore,
            config::Strangers::Refuse => Strangers::Refuse,
            config::Strangers::Answer => Strangers::Answer,
        },
        stranger_rate: rate(sip.stranger_rate),
        strangers_rate: rate(sip.strangers_rate),
        peer_rate: (sip.peer_rate > 0).then(|| rate(sip.peer_rate)),
        connections_per_address: sip.connections_per_address,
        ..GuardConfig::default()
    };
    guard.ban.offences = if sip.ban_offences == 0 { u16::MAX } else { sip.ban_offences };
    guard.ban.first = Duration::from_secs(sip.ban_s);
    guard.ban.longest = Duration::from_secs(sip.ban_longest_s);
    guard
}

/// The accounts as signaling wants them; also what `doctor` tries.
pub(crate) fn accounts(config: &Config) -> Vec<Account> {
    config.accounts.iter().map(account).collect()
}

fn account(account: &config::Account) -> Account {
    Account {
        name: account.name.clone(),
        registrar: account.registrar.clone(),
        user: account.user.clone(),
        auth_user: account.auth_user.clone(),
        password: Password::new(account.password.reveal()),
        realm: account.realm.clone(),
        proxies: account.proxy.clone(),
        transport: account.transport.map(|transport| match transport {
            config::Transport::Udp => Transport::Udp,
            config::Transport::Tcp => Transport::Tcp,
            config::Transport::Tls => Transport::Tls,
        }),
        register: account.register,
        expires: Duration::from_secs(account.expires_s.into()),
        options: (account.options_s > 0).then(|| Duration::from_secs(account.options_s)),
        peers: account.peers.clone(),
    }
}
