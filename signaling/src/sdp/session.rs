//! The `o=` line of one call.

use std::fmt::{self, Write as _};

/// The session id and version of one call's `o=` line.
pub(crate) struct LocalSession {
    id: u64,
    version: u64,
    last: String,
}

impl LocalSession {
    pub(crate) fn new(id: u64) -> LocalSession {
        LocalSession { id, version: id, last: String::new() }
    }

    /// Puts the call's id and version into the description's `o=` line; the version rises when the rest changed.
    pub(crate) fn stamp(&mut self, sdp: &str) -> String {
        if sdp != self.last {
            if !self.last.is_empty() {
                self.version += 1;
            }
            self.last = sdp.to_owned();
        }
        let mut out = String::with_capacity(sdp.len() + 32);
        for line in sdp.split_inclusive('\n') {
            match line.strip_prefix("o=").map(|rest| rest.split_whitespace().collect::<Vec<_>>()) {
                Some(fields) if fields.len() == 6 => {
                    let [user, _, _, nettype, addrtype, addr] = fields[..] else {
                        continue;
                    };
                    let _ = write!(out, "o={user} {} {} {nettype} {addrtype} {addr}\r\n", self.id, self.version);
                }
                _ => out.push_str(line),
            }
        }
        out
    }
}

/// Without the last description, which may have keys in it (case 46).
impl fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSession").field("id", &self.id).field("version", &self.version).finish_non_exhaustive()
    }
}
