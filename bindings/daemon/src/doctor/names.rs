//! The way from a name to addresses, step by step as RFC 3263 goes it, so that one sees where it ends.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::system_conf::read_system_conf;

use super::{Health, Report};
use crate::config::{Account, Config, Transport};

/// One question; a name server that has not answered by then is not answering.
const LIMIT: Duration = Duration::from_secs(3);
/// As many records of one kind are shown.
const SHOWN: usize = 4;

/// Looks an account's host up and tells each step. The addresses at its end.
pub(super) fn check(config: &Config, account: &Account, report: &mut Report) -> Vec<IpAddr> {
    let host = account.proxy.first().unwrap_or(&account.registrar);
    let (name, port) = split(host);
    if let Ok(ip) = name.parse() {
        return vec![ip];
    }
    let made = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = made.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(async {
            let resolver = resolver(&config.sip.dns_servers)?;
            Ok(walk(&resolver, &name, port, account.transport).await)
        })
    });
    let (steps, found) = match outcome {
        Ok(walked) => walked,
        Err(error) => (vec![error], Vec::new()),
    };
    let steps = steps.join("; ");
    if found.is_empty() {
        let fix = "check the name, and the name servers (/etc/resolv.conf, or sip.dns_servers)";
        report.add("DNS", Health::Bad, format!("{}: {steps}: no address; {fix}", account.name));
    } else {
        report.add("DNS", Health::Good, format!("{}: {steps}", account.name));
    }
    found
}

/// `host`, `host:port`, `[2001:db8::1]:port`.
fn split(host: &str) -> (String, Option<u16>) {
    if let Some(rest) = host.strip_prefix('[') {
        let (name, port) = rest.split_once(']').unwrap_or((rest, ""));
        return (name.to_owned(), port.trim_start_matches(':').parse().ok());
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') => (name.to_owned(), port.parse().ok()),
        _ => (host.to_owned(), None),
    }
}

fn resolver(servers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let (config, options) = if servers.is_empty() {
        read_system_conf().map_err(|error| format!("/etc/resolv.conf cannot be read: {error}"))?
    } else {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.to_vec())
        });
        (ResolverConfig::from_parts(None, Vec::new(), servers.collect()), ResolverOpts::default())
    };
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        .with_options(options)
        .build()
        .map_err(|error| error.to_string())
}

async fn walk(
    resolver: &TokioResolver,
    name: &str,
    port: Option<u16>,
    transport: Option<Transport>,
) -> (Vec<String>, Vec<IpAddr>) {
    let mut steps = Vec::new();
    let mut hosts = Vec::new();
    if port.is_none() && name.contains('.') {
        if transport.is_none() {
            let naptr = ask(resolver, name, RecordType::NAPTR).await;
            steps.push(step("NAPTR", name, &naptr));
        }
        let services = [(Transport::Udp, "_sip._udp"), (Transport::Tcp, "_sip._tcp"), (Transport::Tls, "_sips._tcp")];
        for (_, service) in services.into_iter().filter(|(of, _)| transport.is_none_or(|wanted| wanted == *of)) {
            let name = format!("{service}.{name}");
            let srv = ask(resolver, &name, RecordType::SRV).await;
            if transport.is_some() || srv.as_ref().is_ok_and(|records| !records.is_empty()) {
                steps.push(step("SRV", &name, &srv));
            }
            hosts.extend(srv.into_iter().flatten().filter_map(|data| match data {
                RData::SRV(srv) if !srv.target.is_root() => Some(srv.target.to_utf8()),
                _ => None,
            }));
        }
        hosts.dedup();
    }
    if hosts.is_empty() {
        hosts.push(name.to_owned());
    }
    let mut found = Vec::new();
    for host in hosts.iter().take(SHOWN) {
        for kind in [RecordType::A, RecordType::AAAA] {
            let addresses = ask(resolver, host, kind).await;
            // few hosts have both; a missing one is only news when nothing else is there
            if addresses.as_ref().is_ok_and(|records| !records.is_empty())
                || (kind == RecordType::A && found.is_empty())
            {
                steps.push(step(&kind.to_string(), host, &addresses));
            }
            found.extend(addresses.into_iter().flatten().filter_map(|data| data.ip_addr()));
        }
    }
    (steps, found)
}

/// The records, or why there are none.
async fn ask(resolver: &TokioResolver, name: &str, kind: RecordType) -> Result<Vec<RData>, String> {
    let mut name = Name::from_utf8(name).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    match tokio::time::timeout(LIMIT, resolver.lookup(name, kind)).await {
        Ok(Ok(lookup)) => Ok(lookup
            .answers()
            .iter()
            .filter(|record| record.record_type() == kind)
            .map(|record| record.data.clone())
            .collect()),
        Ok(Err(error)) if error.is_no_records_found() || error.is_nx_domain() => Ok(Vec::new()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no name server answers".into()),
    }
}

fn step(kind: &str, name: &str, found: &Result<Vec<RData>, String>) -> String {
    match found {
        Ok(records) if records.is_empty() => format!("{kind} {name}: none"),
        Ok(records) => {
            let shown: Vec<String> = records.iter().take(SHOWN).map(short).collect();
            let more =
                if records.len() > SHOWN { format!(" and {} more", records.len() - SHOWN) } else { String::new() };
            format!("{kind} {name}: {}{more}", shown.join(", "))
        }
        Err(error) => format!("{kind} {name}: {error}"),
    }
}

fn short(data: &RData) -> String {
    match data {
        RData::SRV(srv) => format!("{}:{}", srv.target.to_utf8().trim_end_matches('.'), srv.port),
        RData::NAPTR(naptr) => {
            format!(
                "{} {}",
                String::from_utf8_lossy(&naptr.services),
                naptr.replacement.to_utf8().trim_end_matches('.')
            )
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn hosts_and_ports_come_apart() {
        for (text, name, port) in [
            ("sip.example.com", "sip.example.com", None),
            ("sip.example.com:5070", "sip.example.com", Some(5070)),
            ("[2001:db8::1]:5061", "2001:db8::1", Some(5061)),
            ("2001:db8::1", "2001:db8::1", None),
        ] {
            assert_eq!(split(text), (name.to_owned(), port));
        }
    }
}
