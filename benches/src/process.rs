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

/// What the scheduler did with a thread, or with several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// Time on a processor.
    pub ran: Duration,
    /// Time that it was ready and waited for a processor.
    pub waited: Duration,
    /// Times that it gave its processor back by itself.
    pub voluntary: u64,
    /// Times that its processor was taken from it.
    pub involuntary: u64,
}

impl Scheduling {
    /// Of the threads of a process with such names, added up. What the kernel does not count is 0.
    ///
    /// # Errors
    /// The process has ended.
    pub fn of_threads(pid: u32, wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut all = Self::default();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            // one that has ended meanwhile has none of these files
            let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            if wanted(read("comm").trim()) {
                all.add(&read("schedstat"), &read("status"));
            }
        }
        Ok(all)
    }

    /// Adds one thread: its `schedstat` (nanoseconds run, nanoseconds waited, slices) and `status` (proc(5)).
    fn add(&mut self, schedstat: &str, status: &str) {
        let mut times =
            schedstat.split_whitespace().map(|field| Duration::from_nanos(field.parse().unwrap_or_default()));
        self.ran += times.next().unwrap_or_default();
        self.waited += times.next().unwrap_or_default();
        let count = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.trim().parse().ok()).unwrap_or_default()
        };
        self.voluntary += count("voluntary_ctxt_switches:");
        self.involuntary += count("nonvoluntary_ctxt_switches:");
    }

    /// Adds another's.
    pub fn join(&mut self, other: &Self) {
        self.ran += other.ran;
        self.waited += other.waited;
        self.voluntary += other.voluntary;
        self.involuntary += other.involuntary;
    }

    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            ran: self.ran.saturating_sub(earlier.ran),
            waited: self.waited.saturating_sub(earlier.waited),
            voluntary: self.voluntary.saturating_sub(earlier.voluntary),
            involuntary: self.involuntary.saturating_sub(earlier.involuntary),
        }
    }
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
    fn what_the_scheduler_did_is_read_and_added_up() {
        let mut all = Scheduling::default();
        let status = "Name:\tmedia-0\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t2\n";
        all.add("2000 500 9\n", status);
        let one = all;
        all.add("1000 0 1\n", status);
        all.add("", "");
        let two = all.since(&one);
        assert_eq!((all.ran, two.ran), (Duration::from_nanos(3000), Duration::from_nanos(1000)));
        assert_eq!((all.waited, all.voluntary, all.involuntary), (Duration::from_nanos(500), 14, 4));
        assert_eq!((two.waited, two.voluntary, two.involuntary), (Duration::ZERO, 7, 2));
    }

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
