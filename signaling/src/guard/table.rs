//! The strangers that are remembered: a table of a fixed size, in sets of [`WAYS`] places.
//!
//! What must hold: every look-up reads one set, whatever the table holds; nothing is allocated after it was made; which set an
//! address falls into cannot be told from outside, so that nobody can choose addresses that fight for one set; and who is
//! banned is never displaced.

use std::{
    fmt,
    hash::BuildHasher,
    net::{IpAddr, Ipv6Addr},
};

use super::{Offence, bucket::Bucket, hash::Secret};

/// Places in a set. Eight keys of 16 bytes are two cache lines.
pub(super) const WAYS: usize = 8;
/// Places in a set that may hold bans, so that those who get others banned in our name do not fill the table with them.
const MOST_BANS: usize = 6;
const SMALLEST: usize = 64;
const LARGEST: usize = 1 << 20;

/// An IPv4 address, or the first 64 bits of an IPv6 address: who has one address of those usually has them all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

impl Key {
    /// No address: IPv6 keys end in 64 zeros, and IPv4 keys begin with 80.
    const EMPTY: Key = Key(u128::MAX);

    pub(super) fn of(ip: IpAddr) -> Key {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Key(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Key(ip.to_bits() >> 64 << 64),
        }
    }

    /// The one address, all of its bits.
    pub(super) fn exact(ip: IpAddr) -> Key {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Key(ip.to_ipv6_mapped().to_bits()),
            IpAddr::V6(ip) => Key(ip.to_bits()),
        }
    }

    pub(super) fn address(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

/// What is remembered of an address. Times are nanoseconds on the guard's clock.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Slot {
    pub(super) bucket: Bucket,
    pub(super) seen: u64,
    /// When the offences began to be counted.
    pub(super) window: u64,
    pub(super) banned_until: u64,
    pub(super) offences: u16,
    /// Bans in a row.
    pub(super) bans: u8,
    pub(super) offence: Option<Offence>,
}

impl Slot {
    pub(super) fn is_banned(&self, now: u64) -> bool {
        now < self.banned_until
    }
}

pub(super) struct Table {
    secret: Secret,
    keys: Vec<Key>,
    slots: Vec<Slot>,
    sets: usize,
    /// Sets that were read.
    #[cfg(test)]
    pub(super) probes: std::cell::Cell<u64>,
}

impl fmt::Debug for Table {
    /// Not its thousands of places.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("places", &self.slots.len()).finish_non_exhaustive()
    }
}

impl Table {
    pub(super) fn new(places: usize, secret: Secret) -> Table {
        let places = places.clamp(SMALLEST, LARGEST).next_power_of_two();
        Table {
            secret,
            keys: vec![Key::EMPTY; places],
            slots: vec![Slot::default(); places],
            sets: places / WAYS,
            #[cfg(test)]
            probes: Default::default(),
        }
    }

    /// Where the key's set begins.
    fn set(&self, key: Key) -> usize {
        #[cfg(test)]
        self.probes.set(self.probes.get() + 1);
        // the number of sets is a power of two
        (self.secret.hash_one(key.0) as usize & (self.sets - 1)) * WAYS
    }

    fn place(&self, set: usize, key: Key) -> Option<usize> {
        let keys = self.keys.get(set..set + WAYS)?;
        keys.iter().position(|k| *k == key).map(|way| set + way)
    }

    pub(super) fn get(&self, key: Key) -> Option<&Slot> {
        self.slots.get(self.place(self.set(key), key)?)
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut Slot> {
        let place = self.place(self.set(key), key)?;
        self.slots.get_mut(place)
    }

    /// No further ban fits into the key's set.
    pub(super) fn is_crowded(&self, now: u64, key: Key) -> bool {
        let set = self.set(key);
        self.slots.get(set..set + WAYS).is_some_and(|s| s.iter().filter(|s| s.is_banned(now)).count() >= MOST_BANS)
    }

    /// The address's slot; a new one in the place of who was not heard for longest. `None`: never, for not all of a set are
    /// banned.
    ///
    /// Nothing but the time counts: were offenders kept more gladly, a flood of them would push out the others.
    pub(super) fn enter(&mut self, now: u64, key: Key) -> Option<&mut Slot> {
        let set = self.set(key);
        if let Some(place) = self.place(set, key) {
            return self.slots.get_mut(place);
        }
        let free = self.place(set, Key::EMPTY);
        let place = free.or_else(|| {
            let ways = self.slots.get(set..set + WAYS)?.iter().enumerate();
            let (way, _) = ways.filter(|(_, s)| !s.is_banned(now)).min_by_key(|(_, s)| s.seen)?;
            Some(set + way)
        })?;
        *self.keys.get_mut(place)? = key;
        let slot = self.slots.get_mut(place)?;
        *slot = Slot { seen: now, window: now, ..Slot::default() };
        Some(slot)
    }

    /// Everybody in the table, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &Slot)> {
        self.keys.iter().copied().zip(&self.slots).filter(|(key, _)| *key != Key::EMPTY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_and_a_mapped_address_as_ipv4() {
        let key = |text: &str| Key::of(text.parse().unwrap());
        assert_eq!(key("2001:db8:1:2:3::4"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::"), key("2001:db8:1:3::"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("::1"), key("0.0.0.1"));
        assert_ne!(key("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), Key::EMPTY);
        assert_ne!(key("255.255.255.255"), Key::EMPTY);
        for text in ["192.0.2.1", "2001:db8:1:2::"] {
            assert_eq!(key(text).address().to_string(), text);
        }
    }

    #[test]
    fn addresses_are_spread_evenly_over_the_sets_whatever_their_pattern() {
        let patterns: [fn(u32) -> IpAddr; 5] = [
            |i| IpAddr::V4((0x0a00_0000 + i).into()),
            |i| IpAddr::V4((i << 16).into()),
            |i| IpAddr::V4((i * 0x0001_0001).into()),
            |i| IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(i) << 64).into()),
            |i| IpAddr::V6((0x2001_0db8_u128 << 96 | u128::from(i) << 80).into()),
        ];
        for seed in [[0; 32], [1; 32], [0xff; 32], std::array::from_fn(|i| (i * 37) as u8)] {
            for (pattern, address) in patterns.iter().enumerate() {
                let table = Table::new(1024, Secret::of(&seed));
                let mut load = vec![0; table.sets];
                for i in 0..12_800_u32 {
                    load[table.set(Key::of(address(i))) / WAYS] += 1;
                }
                assert!(load.iter().all(|n| (40..=170).contains(n)), "pattern {pattern}, seed {}: {load:?}", seed[1]);
            }
        }
    }

    #[test]
    fn the_size_is_bounded_both_ways() {
        assert_eq!(Table::new(0, Secret::of(&[1; 32])).slots.len(), SMALLEST);
        assert_eq!(Table::new(1000, Secret::of(&[1; 32])).slots.len(), 1024);
        assert!(size_of::<Slot>() + size_of::<Key>() <= 56);
    }
}
