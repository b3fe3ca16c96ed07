//! The four transaction machines of RFC 3261 section 17 with the Accepted state of RFC 6026.
//!
//! Pure: the time and the status come in, what to send and whether to tell the layer above comes out. What must hold: a
//! machine sends nothing on its own but what it was given, and ends by itself, whatever the far end does — except a server
//! transaction that its user has not answered, and an INVITE client transaction that has had a provisional response; both are
//! bounded by the ringing limit above.

use std::time::{Duration, Instant};

/// Estimate of the round trip; RFC 3261's default.
pub(crate) const T1: Duration = Duration::from_millis(500);
/// The longest pause between retransmissions of anything but INVITE.
pub(crate) const T2: Duration = Duration::from_secs(4);
/// How long a message may stay in the network.
pub(crate) const T4: Duration = Duration::from_secs(5);
/// 64 * T1: timers B, F, H, J, L and M, and how long a 200 waits for its ACK.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(32);
/// Timer D: how long a client keeps acknowledging a final response ("at least 32 s").
const TIMER_D: Duration = Duration::from_secs(32);

/// Something that is sent again and again, at growing intervals.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resend {
    pub(crate) at: Instant,
    interval: Duration,
    longest: Duration,
}

impl Resend {
    pub(crate) fn start(now: Instant, longest: Duration) -> Resend {
        Resend { at: now + T1, interval: T1, longest }
    }

    /// The time has come: plans the next one.
    pub(crate) fn again(&mut self, now: Instant) {
        self.interval = (self.interval * 2).min(self.longest);
        self.at = now + self.interval;
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    a.into_iter().chain(b).min()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClientState {
    /// Sent, nothing heard. "Trying" for requests other than INVITE.
    Calling,
    Proceeding,
    /// A final response came that is not a 2xx to INVITE; waits for it to stop being repeated.
    Completed,
    /// A 2xx to INVITE came; waits for more of them, of other forks or repeated.
    Accepted,
    Terminated,
}

/// A request that we sent.
#[derive(Debug)]
pub(crate) struct ClientTransaction {
    invite: bool,
    /// The transport loses nothing: nothing is sent again, and nothing can come again (timers D and K are zero).
    reliable: bool,
    state: ClientState,
    resend: Option<Resend>,
    /// When the state ends: B, F, D, K or M.
    deadline: Option<Instant>,
}

/// What to do with a response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OnResponse {
    /// Tell the layer above.
    pub(crate) deliver: bool,
    /// Acknowledge it: a refusal of an INVITE (2xx are acknowledged by the layer above).
    pub(crate) acknowledge: bool,
}

/// What to do when a timer fired.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OnTimeout {
    Nothing,
    /// Send the request, or the last response, again.
    Resend,
    /// Timers B and F: nobody answered. Timer H: nobody acknowledged.
    TimedOut,
}

impl ClientTransaction {
    /// The request has just been sent for the first time.
    pub(crate) fn new(now: Instant, invite: bool, reliable: bool) -> ClientTransaction {
        // timer A doubles without a limit of its own, timer E up to T2
        let longest = if invite { TIMEOUT } else { T2 };
        ClientTransaction {
            invite,
            reliable,
            state: ClientState::Calling,
            resend: (!reliable).then(|| Resend::start(now, longest)),
            deadline: Some(now + TIMEOUT),
        }
    }

    pub(crate) fn state(&self) -> ClientState {
        self.state
    }

    pub(crate) fn on_response(&mut self, now: Instant, status: u16) -> OnResponse {
        use ClientState::*;
        let nothing = OnResponse { deliver: false, acknowledge: false };
        match (self.state, status) {
            (Calling | Proceeding, 100..=199) => {
                self.state = Proceeding;
                if self.invite {
                    self.resend = None;
                    self.deadline = None;
                } else if let Some(resend) = &mut self.resend {
                    // timer E goes on at T2
                    resend.interval = T2;
                }
                OnResponse { deliver: true, acknowledge: false }
            }
            (Calling | Proceeding, 200..=299) if self.invite => {
                self.enter(Accepted, now + TIMEOUT);
                OnResponse { deliver: true, acknowledge: false }
            }
            (Accepted, 200..=299) => OnResponse { deliver: true, acknowledge: false },
            (Calling | Proceeding, _) => {
                self.enter(Completed, now + if self.invite { TIMER_D } else { T4 });
                if self.reliable {
                    self.terminate();
                }
                OnResponse { deliver: true, acknowledge: self.invite }
            }
            (Completed, 300..) if self.invite => OnResponse { deliver: false, acknowledge: true },
            _ => nothing,
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) -> OnTimeout {
        if self.deadline.is_some_and(|d| now >= d) {
            let waiting = matches!(self.state, ClientState::Calling | ClientState::Proceeding);
            self.terminate();
            return if waiting { OnTimeout::TimedOut } else { OnTimeout::Nothing };
        }
        match &mut self.resend {
            Some(resend) if now >= resend.at => {
                resend.again(now);
                OnTimeout::Resend
            }
            _ => OnTimeout::Nothing,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.resend.map(|r| r.at), self.deadline)
    }

    pub(crate) fn terminate(&mut self) {
        self.state = ClientState::Terminated;
        self.resend = None;
        self.deadline = None;
    }

    /// After CANCEL, an INVITE that was answered provisionally is not waited for without end (section 9.1).
    pub(crate) fn cancelled(&mut self, now: Instant) {
        if self.state == ClientState::Proceeding {
            self.deadline = Some(now + TIMEOUT);
        }
    }

    fn enter(&mut self, state: ClientState, until: Instant) {
        self.state = state;
        self.resend = None;
        self.deadline = Some(until);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerState {
    /// Not finally answered yet.
    Proceeding,
    /// Finally answered; an INVITE's refusal is repeated until it is acknowledged.
    Completed,
    /// An INVITE's refusal was acknowledged.
    Confirmed,
    /// An INVITE was answered 2xx: repetitions of it are absorbed, the 2xx is repeated by the layer above.
    Accepted,
    Terminated,
}

/// A request that we received.
#[derive(Debug)]
pub(crate) struct ServerTransaction {
    invite: bool,
    /// The transport loses nothing: timer G is off, timers I and J are zero.
    reliable: bool,
    state: ServerState,
    resend: Option<Resend>,
    /// When the state ends: H, I, J or L.
    deadline: Option<Instant>,
}

impl ServerTransaction {
    pub(crate) fn new(invite: bool, reliable: bool) -> ServerTransaction {
        ServerTransaction { invite, reliable, state: ServerState::Proceeding, resend: None, deadline: None }
    }

    pub(crate) fn state(&self) -> ServerState {
        self.state
    }

    /// The layer above answers; false if that comes too late, and nothing must be sent.
    pub(crate) fn on_answer(&mut self, now: Instant, status: u16) -> bool {
        if self.state != ServerState::Proceeding {
            return false;
        }
        match status {
            100..=199 => {}
            200..=299 if self.invite => self.enter(ServerState::Accepted, now + TIMEOUT),
            _ => {
                self.enter(ServerState::Completed, now + TIMEOUT);
                match (self.invite, self.reliable) {
                    (true, false) => self.resend = Some(Resend::start(now, T2)),
                    (false, true) => self.terminate(),
                    _ => {}
                }
            }
        }
        true
    }

    /// The request came again; true: send the last response again, if there is one.
    pub(crate) fn on_repeated(&self) -> bool {
        matches!(self.state, ServerState::Proceeding | ServerState::Completed)
    }

    /// An ACK came that belongs to this transaction, which is one of a refused INVITE.
    pub(crate) fn on_ack(&mut self, now: Instant) {
        if self.invite && self.state == ServerState::Completed {
            self.enter(ServerState::Confirmed, now + T4);
            if self.reliable {
                self.terminate();
            }
        }
    }

    pub(crate) fn on_timeout(&mut self, now: Instant) -> OnTimeout {
        if self.deadline.is_some_and(|d| now >= d) {
            let unacknowledged = self.invite && self.state == ServerState::Completed;
            self.terminate();
            return if unacknowledged { OnTimeout::TimedOut } else { OnTimeout::Nothing };
        }
        match &mut self.resend {
            Some(resend) if now >= resend.at => {
                resend.again(now);
                OnTimeout::Resend
            }
            _ => OnTimeout::Nothing,
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        earlier(self.resend.map(|r| r.at), self.deadline)
    }

    fn terminate(&mut self) {
        self.state = ServerState::Terminated;
        self.resend = None;
        self.deadline = None;
    }

    fn enter(&mut self, state: ServerState, until: Instant) {
        self.state = state;
        self.resend = None;
        self.deadline = Some(until);
    }
}

#[cfg(test)]
mod tests;
