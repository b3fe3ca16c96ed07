//! Names that JACK can carry: of servers, clients and calls, which are refused if it cannot, and of far ends, which are
//! made to fit.

use super::JackError;

/// Longest server, client or call name taken: JACK's port names have 64 bytes for client and port together (jackd1), and a
/// server's name is part of a shared memory name.
const NAME_MAX: usize = 32;
/// Longest name made of a far end's address: with the client's name before it and the port's after it, it fits 64 bytes
/// where the client's is short.
const PEER_MAX: usize = 40;

/// Checks a name before it gets near a C string, a regular expression (port searches) or a file name (the server's).
pub(super) fn check_name(name: &str) -> Result<(), JackError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > NAME_MAX || !name.chars().all(good) {
        return Err(JackError::Name { name: name.chars().take(80).collect() });
    }
    Ok(())
}

/// A call's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CallName {
    /// Ours: `c17`.
    pub(super) label: String,
    /// The far end's, made safe; empty when nothing is left of it.
    pub(super) peer: String,
}

impl CallName {
    pub(super) fn new(label: &str, far_end: &str) -> Result<Self, JackError> {
        check_name(label)?;
        Ok(Self { label: label.to_owned(), peer: peer_name(far_end) })
    }

    /// The far end's name for this call's ports: told apart by the label where other calls have the same.
    pub(super) fn alias<'a>(&self, mut others: impl Iterator<Item = &'a str>) -> Option<String> {
        if self.peer.is_empty() {
            return None;
        }
        let taken = others.any(|other| other == self.peer);
        Some(if taken { format!("{}-{}", self.peer, self.label) } else { self.peer.clone() })
    }
}

/// What a far end is called in a port's alias: the number, or `user@host`, of a SIP address with or without display name;
/// characters that have a meaning to JACK, to shells or to patch bays become `_`.
fn peer_name(far_end: &str) -> String {
    let address = far_end.rsplit_once('<').map_or(far_end, |(_, rest)| rest);
    let address = address.split(['>', ';', '?']).next().unwrap_or_default().trim();
    let address = ["sips:", "sip:", "tel:"]
        .iter()
        .find_map(|scheme| {
            let head = address.get(..scheme.len())?;
            head.eq_ignore_ascii_case(scheme).then(|| &address[scheme.len()..])
        })
        .unwrap_or(address);
    let is_number = |user: &str| {
        user.chars().any(|c| c.is_ascii_digit()) && user.chars().all(|c| c.is_ascii_digit() || "+-.()*# ".contains(c))
    };
    // a number means the same wherever it comes from; a name does not
    let name = match address.split_once('@') {
        Some((user, _)) if is_number(user) => user,
        _ => address,
    };
    let safe = |c: char| if c.is_ascii_alphanumeric() || "+-_.@".contains(c) { c } else { '_' };
    name.chars().take(PEER_MAX).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_far_end_is_called_by_its_number_or_address_and_nothing_in_it_can_harm() {
        for (far_end, name) in [
            ("sip:+4930123456@example.com;transport=udp", "+4930123456"),
            ("\"Eve: <x>\" <sip:eve@example.com:5070>", "eve@example.com_5070"),
            ("tel:+49-30-1", "+49-30-1"),
            ("SIPS:bob@example.com?Subject=x", "bob@example.com"),
            ("100", "100"),
            ("sip:example.com", "example.com"),
            ("sip:a:b/c d\0|é@h", "a_b_c_d___@h"),
            ("sip:", ""),
            ("", ""),
            ("\u{20AC}uro", "_uro"),
        ] {
            assert_eq!(peer_name(far_end), name, "{far_end:?}");
        }
        assert_eq!(peer_name(&"1".repeat(10_000)).len(), PEER_MAX);
    }

    #[test]
    fn calls_with_the_same_far_end_are_told_apart() {
        let name = CallName::new("c2", "sip:100@example.com").unwrap();
        assert_eq!(name.alias(["200"].into_iter()).as_deref(), Some("100"));
        assert_eq!(name.alias(["200", "100"].into_iter()).as_deref(), Some("100-c2"));
        assert_eq!(CallName::new("c2", "").unwrap().alias([].into_iter()), None);
    }
}
