//! Networks that are trusted, as ranges that do not overlap: found by halving.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

#[derive(Debug)]
pub(super) struct Trusted {
    /// First and last address, ascending.
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Trusted {
    pub(super) fn new(networks: &[IpNet]) -> Trusted {
        let plain: Vec<IpNet> = networks.iter().map(|net| unmapped(*net)).collect();
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for net in IpNet::aggregate(&plain) {
            match net {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        v4.sort_unstable();
        v6.sort_unstable();
        Trusted { v4, v6 }
    }

    pub(super) fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => within(&self.v4, ip.to_bits()),
            IpAddr::V6(ip) => within(&self.v6, ip.to_bits()),
        }
    }
}

fn within<T: Ord>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|i| ranges.get(i)).is_some_and(|(_, last)| address <= *last)
}

/// An IPv4 network that is written as a mapped IPv6 one is meant as IPv4.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let v4: Option<Ipv4Addr> = v6.network().to_ipv4_mapped();
    let length = v6.prefix_len().checked_sub(96);
    let v4 = v4.zip(length).and_then(|(ip, length)| Ipv4Net::new(ip, length).ok());
    v4.map_or(net, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_own_addresses_and_no_others() {
        let nets =
            ["10.0.0.0/8", "10.1.0.0/16", "192.0.2.7/32", "::ffff:198.51.100.0/120", "2001:db8::/32", "0.0.0.0/32"];
        let trusted = Trusted::new(&nets.map(|net| net.parse().unwrap()));
        let inside = ["10.0.0.0", "10.1.2.3", "10.255.255.255", "::ffff:10.2.3.4", "198.51.100.9", "2001:db8:ffff::1"];
        let outside =
            ["9.255.255.255", "11.0.0.0", "192.0.2.6", "192.0.2.8", "198.51.101.0", "2001:db9::", "::1", "0.0.0.1"];
        for ip in inside {
            assert!(trusted.contains(ip.parse().unwrap()), "{ip}");
        }
        for ip in outside {
            assert!(!trusted.contains(ip.parse().unwrap()), "{ip}");
        }
    }

    #[test]
    fn all_of_ipv6_is_not_all_of_ipv4() {
        let trusted = Trusted::new(&["::/0".parse().unwrap()]);
        assert!(trusted.contains("2001:db8::1".parse().unwrap()));
        assert!(!trusted.contains("192.0.2.1".parse().unwrap()));
        assert!(!Trusted::new(&[]).contains("127.0.0.1".parse().unwrap()));
    }
}
