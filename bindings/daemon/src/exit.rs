//! Exit codes of the command line: scripts can tell busy, no answer, a wrong password, media and network trouble apart.

use std::process::ExitCode;

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what was asked.
    Ok = 0,
    /// Something else went wrong; the last line on stderr says what.
    Error = 1,
    /// The command line could not be understood.
    Usage = 2,
    /// The configuration is wrong.
    Config = 3,
    /// The far end is busy.
    Busy = 10,
    /// Nobody answered in time.
    NoAnswer = 11,
    /// The provider refused the credentials.
    Auth = 12,
    /// No codec in common, or the audio failed.
    Media = 13,
    /// The far end or the provider could not be reached.
    Network = 14,
    /// The call was declined, rejected, or the number does not exist.
    Declined = 15,
    /// The daemon is not running.
    NoDaemon = 20,
}

impl Exit {
    /// The code for a `cause` of the control protocol's `call.state` event.
    pub fn from_cause(cause: &str) -> Self {
        match cause {
            "hangup" | "remote_hangup" | "transferred" | "replaced" | "time_limit" => Self::Ok,
            "busy" => Self::Busy,
            "no_answer" => Self::NoAnswer,
            "auth" => Self::Auth,
            "media" => Self::Media,
            "network" | "timeout" => Self::Network,
            "declined" | "rejected" | "not_found" | "cancelled" => Self::Declined,
            _ => Self::Error,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn causes_that_users_act_on_differently_have_codes_of_their_own() {
        let causes = ["busy", "no_answer", "auth", "media", "network", "declined"];
        let mut codes: Vec<u8> = causes.iter().map(|cause| Exit::from_cause(cause) as u8).collect();
        codes.dedup();
        assert_eq!(codes.len(), causes.len());
    }
}
