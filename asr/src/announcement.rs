//! Is it a machine's announcement that was understood: a voicemail's greeting, or "please hold"?
//!
//! By the phrases that such announcements are made of, in English. Each is worth something, the more of them the surer;
//! one phrase that people say, too, is worth little.

use crate::text::plain;

/// What an announcement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announcement {
    /// An answering machine or voicemail: a message may be left.
    Voicemail,
    /// One waits in a queue, or is asked to hold.
    Hold,
}

/// Less than this is not told.
const LEAST_CONFIDENCE: f32 = 0.5;

/// Phrases in [`plain`] form, and how much each tells alone.
const VOICEMAIL: [(&str, f32); 16] = [
    ("leave a message", 0.8),
    ("leave your message", 0.8),
    ("leave me a message", 0.8),
    ("leave your name", 0.7),
    ("after the tone", 0.8),
    ("after the beep", 0.8),
    ("at the tone", 0.7),
    ("record your message", 0.9),
    ("voicemail", 0.6),
    ("voice mail", 0.6),
    ("mailbox", 0.6),
    ("not available", 0.4),
    ("cant come to the phone", 0.7),
    ("cant take your call", 0.6),
    ("youve reached", 0.4),
    ("you have reached", 0.4),
];
const HOLD: [(&str, f32); 14] = [
    ("please hold", 0.5),
    ("hold the line", 0.5),
    ("continue to hold", 0.8),
    ("stay on the line", 0.7),
    ("your call is important", 0.9),
    ("your call will be answered", 0.8),
    ("all of our agents", 0.8),
    ("all our agents", 0.8),
    ("all our operators", 0.8),
    ("currently busy", 0.4),
    ("assisting other", 0.8),
    ("helping other", 0.7),
    ("next available", 0.7),
    ("in the queue", 0.5),
];

/// What announcement a text is, if it is one, and how sure that is, 0 to 1.
pub fn announcement(text: &str) -> Option<(Announcement, f32)> {
    let words = format!(" {} ", plain(text));
    let judge = |phrases: &[(&str, f32)]| {
        let found = phrases.iter().filter(|(phrase, _)| words.contains(&format!(" {phrase} ")));
        // as if each were a witness of its own
        1.0 - found.fold(1.0, |doubt, (_, tells)| doubt * (1.0 - tells))
    };
    let (voicemail, hold) = (judge(&VOICEMAIL), judge(&HOLD));
    let (kind, confidence) =
        if voicemail >= hold { (Announcement::Voicemail, voicemail) } else { (Announcement::Hold, hold) };
    (confidence >= LEAST_CONFIDENCE).then_some((kind, confidence))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn greetings_of_machines_are_known_the_surer_the_more_they_say() {
        let (kind, sure) = announcement(
            "Hi, you've reached Bob. I can't come to the phone right now. Please leave a message after the beep.",
        )
        .unwrap();
        assert!(kind == Announcement::Voicemail && sure > 0.95, "{sure}");
        let (kind, less) = announcement("At the tone, please speak.").unwrap();
        assert!(kind == Announcement::Voicemail && less < sure, "{less}");
    }

    #[test]
    fn queues_are_told_from_mailboxes() {
        let text = "All our agents are currently busy. Your call is important to us, please stay on the line.";
        let (kind, sure) = announcement(text).unwrap();
        assert!(kind == Announcement::Hold && sure > 0.95, "{sure}");
        assert_eq!(announcement("Please hold."), Some((Announcement::Hold, 0.5)));
    }

    #[test]
    fn what_people_say_is_no_announcement() {
        for text in
            ["", "hello", "hold on", "he is not available", "you have reached me at last", "i left a message", "wait"]
        {
            assert_eq!(announcement(text), None, "{text}");
        }
    }
}
