//! What a process holds: memory, descriptors, threads, bound UDP ports; and what the system dropped at a port.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cpu;

/// What a process holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Footprint {
    /// Resident memory, KiB.
    pub rss_kib: u64,
    /// Open descriptors.
    pub descriptors: u64,
    /// Threads.
    pub threads: u64,
    /// UDP ports it is bound to.
    pub udp_ports: u64,
}

impl Footprint {
    /// Of a process.
    ///
    /// # Errors
    /// It has ended, or is not ours to look at.
    pub fn of(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).context("a short status file")?;
            Ok(line.split_whitespace().next().context("an empty field of status")?.parse()?)
        };
        let udp: BTreeSet<String> = sockets()?.into_iter().map(|socket| socket.inode).collect();
        let (mut descriptors, mut udp_ports) = (0, 0);
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
            // one that was closed meanwhile is none
            let Ok(target) = entry.and_then(|entry| fs::read_link(entry.path())) else { continue };
            descriptors += 1;
            let target = target.to_string_lossy();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            udp_ports += u64::from(inode.is_some_and(|inode| udp.contains(inode)));
        }
        Ok(Self { rss_kib: field("VmRSS:")?, descriptors, threads: field("Threads:")?, udp_ports })
    }

    /// Resident memory, MiB.
    #[must_use]
    pub fn rss_mib(&self) -> f64 {
        self.rss_kib as f64 / 1024.0
    }
}

/// Processor time of each thread of a process, by its name; threads of one name are added up.
///
/// # Errors
/// The process has ended.
pub fn thread_times(pid: u32) -> Result<BTreeMap<String, Duration>> {
    let mut times = BTreeMap::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let path = entry?.path();
        // one that has ended meanwhile does not count
        let (Ok(name), Ok(stat)) = (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("stat")))
        else {
            continue;
        };
        *times.entry(name.trim().to_owned()).or_default() += cpu::time_of(&stat)?;
    }
    Ok(times)
}

/// Datagrams that the system dropped at these local UDP ports since they were bound, because nobody read them in time.
///
/// # Errors
/// `/proc` cannot be read.
pub fn dropped_at(ports: &BTreeSet<u16>) -> Result<u64> {
    Ok(sockets()?.iter().filter(|socket| ports.contains(&socket.port)).map(|socket| socket.dropped).sum())
}

/// Files below a folder; none if it is not there.
#[must_use]
pub fn files_in(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    entries.flatten().map(|entry| if entry.path().is_dir() { files_in(&entry.path()) } else { 1 }).sum()
}

struct UdpSocket {
    port: u16,
    inode: String,
    dropped: u64,
}

/// All UDP sockets of the machine (proc(5): local address second, inode tenth, drops last).
fn sockets() -> Result<Vec<UdpSocket>> {
    let mut all = Vec::new();
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        // without IPv6 there is no such file
        let text = fs::read_to_string(file).unwrap_or_default();
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let (Some(local), Some(inode), Some(dropped)) = (fields.get(1), fields.get(9), fields.last()) else {
                continue;
            };
            let (_, port) = local.rsplit_once(':').context("an address without a port in /proc/net/udp")?;
            let port = u16::from_str_radix(port, 16)?;
            all.push(UdpSocket { port, inode: (*inode).to_owned(), dropped: dropped.parse()? });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_port_is_counted_as_long_as_it_is_open() {
        let before = Footprint::of(std::process::id()).unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let during = Footprint::of(std::process::id()).unwrap();
        assert!(during.udp_ports > before.udp_ports);
        assert_eq!(dropped_at(&BTreeSet::from([socket.local_addr().unwrap().port()])).unwrap(), 0);
        assert!(during.rss_kib > 0 && during.threads > 0 && during.descriptors > during.udp_ports);
    }
}
