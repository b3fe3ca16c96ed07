//! From a name to servers: RFC 3263 section 4 over NAPTR, SRV, A and AAAA records and the hosts file.
//!
//! | given | asked |
//! |---|---|
//! | a port | the host's addresses |
//! | a transport | its SRV records, else the host's addresses at its default port |
//! | neither | NAPTR, which names SRV records; else the SRV records of UDP, TCP and TLS; else the host's addresses, by UDP |
//!
//! What may be needed is asked for at once rather than one after the other: a person waits for the call, and name servers
//! that swallow NAPTR questions exist. Whatever else was found comes after the best as a further choice.
//!
//! A name of the hosts file, and one without a dot, has addresses only: no zone can say more of it.

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::Query,
        rr::{
            Name, RData, Record, RecordType,
            rdata::{NAPTR, SRV},
        },
    },
    system_conf::read_system_conf,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{local_ip_towards, resolver::NOT_FOUND_LIFE};
use crate::{
    agent::{Resolve, Target},
    transport::Transport,
};

/// How long a whole lookup may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long NAPTR records are waited for: a firewall that drops such questions must not cost the call.
const NAPTR_LIMIT: Duration = Duration::from_millis(1200);
/// How long SRV records are waited for, so that time is left for addresses.
const SRV_LIMIT: Duration = Duration::from_secs(2);
/// How long a name server may take before it is asked again.
const TRY_LIMIT: Duration = Duration::from_millis(1500);
/// How long the addresses of one family wait for those of the other.
const FAMILY_GRACE: Duration = Duration::from_millis(300);
/// What a record may live, whatever it says: so that a zone that is being changed is not asked for each message, and a
/// zone's mistake ends some day.
const LIFE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(24 * 3600));
/// What a name of the hosts file lives.
const HOSTS_LIFE: Duration = Duration::from_secs(60);
/// SRV records that are followed for one service, and services of NAPTR.
const RECORDS: usize = 16;
/// Questions to one name server at once.
const AT_ONCE: usize = 512;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// Who answers for names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsConfig {
    /// Name servers; none: those of the system's configuration, read afresh when it changes.
    pub servers: Vec<SocketAddr>,
}

/// Where a name's servers are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Best first; empty: the name was not found.
    pub(super) targets: Vec<Target>,
    /// How long that holds.
    pub(super) life: Duration,
}

impl Answer {
    fn nothing() -> Answer {
        Answer { targets: Vec::new(), life: NOT_FOUND_LIFE }
    }
}

/// Names and their records.
pub(super) struct Dns {
    config: DnsConfig,
    limits: Limits,
    /// The resolver, and when the files were changed that it was made from.
    current: Mutex<Option<(Stamp, Source)>>,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    whole: Duration,
    naptr: Duration,
    srv: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { whole: LIMIT, naptr: NAPTR_LIMIT, srv: SRV_LIMIT }
    }
}

type Stamp = [Option<SystemTime>; 2];

#[derive(Clone)]
struct Source {
    resolver: TokioResolver,
    hosts: Arc<Hosts>,
}

/// What was found of one kind: values, and how long they live.
struct Found<T> {
    values: Vec<T>,
    life: Duration,
}

impl<T> Found<T> {
    fn none() -> Found<T> {
        Found { values: Vec::new(), life: LIFE.1 }
    }
}

impl Dns {
    pub(super) fn new(config: DnsConfig) -> Dns {
        Dns { config, limits: Limits::default(), current: Mutex::new(None) }
    }

    /// Looks a name up; takes five seconds at most.
    pub(super) async fn look_up(&self, question: &Resolve) -> Answer {
        let Some(source) = self.source() else { return Answer::nothing() };
        let asked = timeout(self.limits.whole, source.look_up(question, self.limits)).await;
        let answer = asked.unwrap_or_else(|_| {
            log::info!("no name server has answered for {:?}", question.host);
            Answer::nothing()
        });
        if answer.targets.is_empty() {
            log::info!("name {:?} not found", question.host);
        } else {
            log::debug!("{:?} is at {:?} for {:?}", question.host, answer.targets, answer.life);
        }
        answer
    }

    /// The resolver; a new one if the system's configuration has changed, as it does when a machine moves.
    fn source(&self) -> Option<Source> {
        let changed = |path: &str| Path::new(path).metadata().and_then(|m| m.modified()).ok();
        let stamp = [changed(RESOLV_CONF), changed(HOSTS)];
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, source)) = &*current
            && *made == stamp
        {
            return Some(source.clone());
        }
        let source = Source::new(&self.config).map_err(|e| log::error!("names cannot be looked up: {e}")).ok()?;
        *current = Some((stamp, source.clone()));
        Some(source)
    }
}

impl Source {
    fn new(config: &DnsConfig) -> Result<Source, Box<dyn std::error::Error + Send + Sync>> {
        let (servers, mut options) = if config.servers.is_empty() {
            read_system_conf().unwrap_or_else(|e| {
                log::warn!("{RESOLV_CONF} cannot be read, the local name server is asked: {e}");
                (name_servers(&[(IpAddr::from([127, 0, 0, 1]), 53).into()]), ResolverOpts::default())
            })
        } else {
            (name_servers(&config.servers), ResolverOpts::default())
        };
        options.timeout = options.timeout.min(TRY_LIMIT);
        options.attempts = options.attempts.clamp(2, 3);
        options.max_active_requests = AT_ONCE;
        // what was found is kept by whoever asked, for as long as we say
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        let resolver = TokioResolver::builder_with_config(servers, TokioRuntimeProvider::default());
        let resolver = resolver.with_options(options).build()?;
        let hosts = Hosts::from_system().unwrap_or_default();
        Ok(Source { resolver, hosts: Arc::new(hosts) })
    }

    async fn look_up(&self, question: &Resolve, limits: Limits) -> Answer {
        let Resolve { host, port, transport, secure, .. } = question;
        let transport = if *secure { Some(Transport::Tls) } else { *transport };
        let default = transport.unwrap_or(Transport::Udp);
        let has_zone = host.trim_end_matches('.').contains('.');
        if let Some(port) = port {
            return at(default, *port, self.addresses(host).await);
        }
        if !has_zone || self.in_hosts(host).is_some() {
            return at(default, default.default_port(), self.addresses(host).await);
        }
        // all begun together, and each one awaited only when it is its turn
        let begin = Instant::now();
        let naptr =
            async { if transport.is_none() { self.naptr(host, begin + limits.naptr).await } else { Found::none() } };
        let by = begin + limits.srv;
        let asked = |of: Transport| async move {
            if transport.is_none_or(|t| t == of) { Some(self.services(&service(of, host), by).await) } else { None }
        };
        let services = async { tokio::join!(asked(Transport::Udp), asked(Transport::Tcp), asked(Transport::Tls)) };
        let (naptr, (udp, tcp, tls), plain) = tokio::join!(naptr, services, self.addresses(host));
        let mut found = Vec::new();
        if naptr.values.is_empty() {
            let all = [(Transport::Udp, udp), (Transport::Tcp, tcp), (Transport::Tls, tls)];
            found.extend(all.into_iter().filter_map(|(transport, records)| Some((transport, records?))));
        } else {
            let by = Instant::now() + limits.srv;
            for (transport, name) in &naptr.values {
                found.push((*transport, self.services(name, by).await));
            }
        }
        found.retain(|(_, records)| !records.values.is_empty());
        if found.is_empty() {
            let mut answer = at(default, default.default_port(), plain);
            answer.life = answer.life.min(naptr.life);
            return answer;
        }
        self.follow(found, naptr.life).await
    }

    /// The addresses of SRV records, in their order.
    async fn follow(&self, found: Vec<(Transport, Found<SRV>)>, life: Duration) -> Answer {
        let mut life = life;
        let mut places = Vec::new();
        for (transport, records) in found {
            life = life.min(records.life);
            let records = in_order(records.values, &mut rand::random::<u32>);
            // a record for the root says that there is no such service (RFC 2782)
            let there = records.into_iter().filter(|r| !r.target.is_root() && r.port != 0);
            places.extend(there.take(RECORDS).map(|record| (transport, record)));
        }
        places.truncate(RECORDS);
        let asked: Vec<_> = places
            .iter()
            .map(|(_, record)| {
                let (this, host) = (self.clone(), record.target.to_utf8());
                tokio::spawn(async move { this.addresses(&host).await })
            })
            .collect();
        let mut targets = Vec::new();
        for ((transport, record), asked) in places.into_iter().zip(asked) {
            let Ok(addresses) = asked.await else { continue };
            life = life.min(addresses.life);
            let found = addresses.values.into_iter().map(|ip| SocketAddr::new(ip, record.port));
            targets.extend(found.map(|address| Target { transport, address }));
        }
        targets.dedup();
        if targets.is_empty() { Answer::nothing() } else { Answer { targets, life: life.clamp(LIFE.0, LIFE.1) } }
    }

    /// The services that NAPTR names and that are spoken here, best first.
    async fn naptr(&self, host: &str, by: Instant) -> Found<(Transport, Name)> {
        let Some(name) = absolute(host) else { return Found::none() };
        let found = self.ask(name, RecordType::NAPTR, by, |data| match data {
            RData::NAPTR(record) => Some(record),
            _ => None,
        });
        let Found { mut values, life } = found.await;
        values.sort_by_key(|record| (record.order, record.preference));
        let services = values.iter().filter_map(|record| Some((transport_of(record)?, record.replacement.clone())));
        Found { values: services.take(RECORDS).collect(), life }
    }

    /// SRV records.
    async fn services(&self, name: &Name, by: Instant) -> Found<SRV> {
        let name = name.clone();
        self.ask(name, RecordType::SRV, by, |data| match data {
            RData::SRV(record) => Some(record),
            _ => None,
        })
        .await
    }

    /// A host's addresses, of both families; those that there is a way to come first, IPv6 before IPv4.
    async fn addresses(&self, host: &str) -> Found<IpAddr> {
        if let Ok(ip) = host.parse() {
            return Found { values: vec![ip], life: LIFE.1 };
        }
        if let Some(values) = self.in_hosts(host) {
            return Found { values: preferred(values), life: HOSTS_LIFE };
        }
        let Ok(mut name) = Name::from_utf8(host) else { return Found::none() };
        // names with a dot are whole; others are tried with the system's search list
        name.set_fqdn(host.trim_end_matches('.').contains('.') && self.resolver.options().ndots <= 1 || name.is_fqdn());
        let by = Instant::now() + LIMIT;
        let v4 = self.ask(name.clone(), RecordType::A, by, |data| match data {
            RData::A(ip) => Some(IpAddr::from(ip.0)),
            _ => None,
        });
        let v6 = self.ask(name, RecordType::AAAA, by, |data| match data {
            RData::AAAA(ip) => Some(IpAddr::from(ip.0)),
            _ => None,
        });
        let Found { values, life } = both(v4, v6).await;
        Found { values: preferred(values), life }
    }

    fn in_hosts(&self, host: &str) -> Option<Vec<IpAddr>> {
        let name = absolute(host)?;
        let of = |kind| self.hosts.lookup_static_host(&Query::query(name.clone(), kind));
        let found: Vec<_> = [of(RecordType::A), of(RecordType::AAAA)].into_iter().flatten().collect();
        let mut values: Vec<_> =
            found.iter().flat_map(|lookup| lookup.answers()).filter_map(|record| record.data.ip_addr()).collect();
        if values.is_empty() && host.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
            // RFC 6761: never asked for
            values = vec![IpAddr::from([127, 0, 0, 1])];
        }
        (!values.is_empty()).then_some(values)
    }

    /// Records of one kind, with the least of the lives on the way to them; nothing if there are none or nobody answers.
    async fn ask<T>(&self, name: Name, kind: RecordType, by: Instant, pick: impl Fn(RData) -> Option<T>) -> Found<T> {
        let lookup = match timeout_at(by, self.resolver.lookup(name.clone(), kind)).await {
            Ok(Ok(lookup)) => lookup,
            Ok(Err(e)) => {
                log::trace!("{kind} of {name}: {e}");
                return Found::none();
            }
            Err(_) => {
                log::debug!("{kind} of {name}: no answer in time");
                return Found::none();
            }
        };
        let records: &[Record] = lookup.answers();
        let life = records.iter().map(|r| Duration::from_secs(r.ttl.into())).min().unwrap_or(LIFE.1);
        let values = records.iter().filter_map(|record| pick(record.data.clone())).collect();
        Found { values, life: life.clamp(LIFE.0, LIFE.1) }
    }
}

fn name_servers(addresses: &[SocketAddr]) -> ResolverConfig {
    let server = |address: &SocketAddr| {
        let ways = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut way| {
            way.port = address.port();
            way
        });
        NameServerConfig::new(address.ip(), true, ways.into())
    };
    ResolverConfig::from_parts(None, Vec::new(), addresses.iter().map(server).collect())
}

/// What both find. The later of the two is waited for only shortly if the other has found something.
async fn both<T>(a: impl Future<Output = Found<T>>, b: impl Future<Output = Found<T>>) -> Found<T> {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (first, second) = tokio::select! {
        found = &mut a => {
            let grace = if found.values.is_empty() { LIMIT } else { FAMILY_GRACE };
            (found, timeout(grace, b).await)
        }
        found = &mut b => {
            let grace = if found.values.is_empty() { LIMIT } else { FAMILY_GRACE };
            (found, timeout(grace, a).await)
        }
    };
    let mut all = first;
    if let Ok(second) = second {
        all.values.extend(second.values);
        all.life = all.life.min(second.life);
    }
    all
}

fn at(transport: Transport, port: u16, found: Found<IpAddr>) -> Answer {
    if found.values.is_empty() {
        return Answer::nothing();
    }
    let targets = found.values.into_iter().map(|ip| Target { transport, address: SocketAddr::new(ip, port) });
    Answer { targets: targets.collect(), life: found.life.clamp(LIFE.0, LIFE.1) }
}

/// Those with a way to them first, and of those IPv6 first, as the system itself prefers it (RFC 6724).
fn preferred(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_by_cached_key(|ip| (local_ip_towards(SocketAddr::new(*ip, 5060)).is_unspecified(), ip.is_ipv4()));
    addresses.dedup();
    addresses
}

fn absolute(host: &str) -> Option<Name> {
    let mut name = Name::from_utf8(host).ok()?;
    name.set_fqdn(true);
    Some(name)
}

/// The name of a transport's SRV records.
fn service(transport: Transport, host: &str) -> Name {
    let prefix = match transport {
        Transport::Udp => "_sip._udp",
        Transport::Tcp => "_sip._tcp",
        Transport::Tls => "_sips._tcp",
    };
    absolute(&format!("{prefix}.{host}")).unwrap_or_default()
}

/// The transport of a NAPTR record that leads to SRV records (RFC 3263 section 4.1).
fn transport_of(record: &NAPTR) -> Option<Transport> {
    if !record.flags.eq_ignore_ascii_case(b"s") || record.replacement.is_root() {
        return None;
    }
    match record.services.to_ascii_uppercase().as_slice() {
        b"SIP+D2U" => Some(Transport::Udp),
        b"SIP+D2T" => Some(Transport::Tcp),
        b"SIPS+D2T" => Some(Transport::Tls),
        _ => None,
    }
}

/// By priority, and within one at random by weight (RFC 2782).
fn in_order(mut records: Vec<SRV>, chance: &mut dyn FnMut() -> u32) -> Vec<SRV> {
    records.sort_by_key(|r| (r.priority, r.weight));
    let mut ordered = Vec::with_capacity(records.len());
    while let Some(first) = records.first() {
        let priority = first.priority;
        let same = records.iter().take_while(|r| r.priority == priority);
        let sum: u64 = same.clone().map(|r| u64::from(r.weight)).sum();
        // 0..=sum, so that a weight of nothing has a small chance
        let mut left = u64::from(chance()) % (sum + 1);
        let chosen = same.enumerate().find_map(|(i, record)| {
            let weight = u64::from(record.weight);
            let is_it = left <= weight;
            left = left.saturating_sub(weight);
            is_it.then_some(i)
        });
        ordered.push(records.remove(chosen.unwrap_or(0)));
    }
    ordered
}

#[cfg(test)]
#[path = "dns_tests.rs"]
mod tests;
