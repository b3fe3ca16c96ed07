//! Session timers (RFC 4028): a call whose other end has vanished does not stay up for ever, held or not.
//!
//! Either end refreshes; whoever does not hear of a refresh in time hangs up. We ask for the configured interval, take a
//! shorter one down to [`MIN_SE`], and leave the refreshing to the caller where nobody says otherwise.

use std::time::{Duration, Instant};

use super::{
    UserAgent, limits,
    requests::{has_option, seconds},
};
use crate::{
    call::SessionTimer,
    event::{CallId, EndCause},
    message::{Headers, Request, Response},
};

/// The shortest interval that anybody may ask for (section 5).
pub(super) const MIN_SE: Duration = Duration::from_secs(90);
/// How long before its end a session is given up, at most; else a third of the interval (section 10).
const MARGIN: Duration = Duration::from_secs(32);
/// The pause after a refresh that came to nothing, at least.
const LATER: Duration = Duration::from_secs(10);

impl SessionTimer {
    fn start(now: Instant, interval: Duration, ours: bool) -> SessionTimer {
        let end_at = now + interval - MARGIN.min(interval / 3);
        SessionTimer { interval, ours, refresh_at: ours.then(|| now + interval / 2), end_at }
    }

    /// A refresh failed, but the call may live: another one is made while there is time.
    pub(crate) fn try_later(&mut self, now: Instant) {
        let left = self.end_at.saturating_duration_since(now);
        self.refresh_at = self.ours.then(|| now + LATER.max(left / 3)).filter(|at| *at < self.end_at);
    }
}

/// A Session-Expires header: seconds, and whether the caller (of this request) refreshes, if it says who.
fn read(headers: &Headers) -> Option<(Duration, Option<bool>)> {
    let value = headers.get("Session-Expires")?;
    let interval = Duration::from_secs(seconds(headers, "Session-Expires")?).min(limits::LONGEST_SESSION);
    let refresher = value.split(';').skip(1).find_map(|param| {
        let (name, who) = param.split_once('=')?;
        name.trim().eq_ignore_ascii_case("refresher").then(|| who.trim().eq_ignore_ascii_case("uac"))
    });
    Some((interval, refresher))
}

fn supports(headers: &Headers) -> bool {
    has_option(headers, "Supported", "timer") || has_option(headers, "Require", "timer")
}

/// The refusal of an interval that is too short; only for those who understand it (section 9).
pub(super) fn too_short(request: &Request) -> Option<Response> {
    let (interval, _) = read(&request.headers)?;
    (interval < MIN_SE && supports(&request.headers)).then(|| {
        let mut response = request.response(422);
        response.headers.push("Min-SE", MIN_SE.as_secs().to_string());
        response
    })
}

/// Puts our wish into a request within the dialog: the interval as it is, and who refreshes.
pub(super) fn ask(timer: Option<SessionTimer>, headers: &mut Headers) {
    let Some(timer) = timer else { return };
    let refresher = if timer.ours { "uac" } else { "uas" };
    headers.push("Session-Expires", format!("{};refresher={refresher}", timer.interval.as_secs()));
    headers.push("Min-SE", MIN_SE.as_secs().to_string());
}

impl UserAgent {
    /// Puts our wish into the first INVITE; who refreshes is left to the called.
    pub(super) fn ask_session(&self, headers: &mut Headers) {
        if let Some(interval) = self.config.session_expires {
            headers.push("Session-Expires", interval.as_secs().to_string());
            headers.push("Min-SE", MIN_SE.as_secs().to_string());
        }
    }

    /// Decides about the session in the 2xx to an INVITE or UPDATE of theirs (section 9).
    pub(super) fn answer_session(&mut self, now: Instant, id: CallId, request: &Request, response: &mut Response) {
        let supported = supports(&request.headers);
        let least = seconds(&request.headers, "Min-SE").map_or(MIN_SE, Duration::from_secs);
        let least = least.clamp(MIN_SE, limits::LONGEST_SESSION);
        let wish = self.config.session_expires;
        let decided = match read(&request.headers) {
            // a proxy has asked for less than anybody may
            Some((interval, _)) if interval < MIN_SE => None,
            Some((interval, refresher)) => {
                let interval = wish.map_or(interval, |wish| interval.min(wish.max(least)));
                Some((interval, supported && refresher.unwrap_or(true)))
            }
            None => wish.filter(|_| supported).map(|wish| (wish.max(least), false)),
        };
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.timer = decided.map(|(interval, theirs)| SessionTimer::start(now, interval, !theirs));
        if let Some((interval, theirs)) = decided {
            let refresher = if theirs { "uac" } else { "uas" };
            response.headers.push("Session-Expires", format!("{};refresher={refresher}", interval.as_secs()));
            if theirs {
                response.headers.push("Require", "timer");
            }
        }
        self.refresh_call(id);
    }

    /// A 2xx to an INVITE or UPDATE of ours says how long the session lasts (section 7.2); without a word, for ever.
    pub(super) fn on_session_answered(&mut self, now: Instant, id: CallId, response: &Response) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        if has_option(&response.headers, "Allow", "UPDATE") {
            call.far.update = true;
        }
        call.timer = read(&response.headers).map(|(interval, refresher)| {
            // less than the minimum would make us a source of floods
            SessionTimer::start(now, interval.max(MIN_SE), refresher.unwrap_or(true))
        });
        self.refresh_call(id);
    }

    /// 422 within the dialog: the interval that it wants instead, if that is one.
    pub(super) fn longer_session(&mut self, id: CallId, response: &Response) -> bool {
        let least = seconds(&response.headers, "Min-SE").map(Duration::from_secs);
        let timer = self.calls.get_mut(&id).and_then(|c| c.timer.as_mut());
        match (least, timer) {
            (Some(least), Some(timer)) if least > timer.interval && least <= limits::LONGEST_SESSION => {
                timer.interval = least;
                true
            }
            _ => false,
        }
    }

    pub(super) fn on_session_timer(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(timer) = &mut call.timer else { return };
        if now >= timer.end_at {
            call.timer = None;
            let reason = "the other side has not shown for the whole session interval that it is still there";
            return self.hang_up_with(now, id, EndCause::Timeout, None, reason);
        }
        if timer.refresh_at.take_if(|at| now >= *at).is_some() {
            call.offering.refresh = true;
            self.go_on(now, id);
        }
    }
}

/// The first INVITE again, for as long as the 422 wants; `None` if it wants nothing sensible.
pub(super) fn lengthen(request: &mut Request, response: &Response) -> Option<()> {
    let least = seconds(&response.headers, "Min-SE").map(Duration::from_secs)?;
    let (before, _) = read(&request.headers)?;
    (least > before && least <= limits::LONGEST_SESSION).then(|| {
        request.headers.set("Session-Expires", least.as_secs().to_string());
        request.headers.set("Min-SE", least.as_secs().to_string());
    })
}
