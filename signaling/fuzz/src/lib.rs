//! What must hold whatever bytes the signaling room is given: no panic, no stall, and what each function here asserts.
//!
//! Each function is a fuzz target; its corpus is `corpus/NAME`, one input a file. An input that once broke something stays there
//! under a name that says what it was.
#![deny(missing_docs)]

mod user_agent;

use signaling::{fuzzing, sdp as description};

pub use user_agent::user_agent;

/// Headers are limited in length, and the long form of a name is longer than the short one.
const NEAR_THE_LIMITS: usize = 4_000;

/// What is read is written so that it is read again as the same.
pub fn message(data: &[u8]) {
    let Some(written) = fuzzing::rewrite(data) else { return };
    match fuzzing::rewrite(&written) {
        Some(again) => assert_eq!(text(&written), text(&again)),
        None => assert!(data.len() > NEAR_THE_LIMITS, "{:?} was written as {:?}", text(data), text(&written)),
    }
}

/// The same messages come out of a stream whatever the reads, and little is held back.
pub fn framer(data: &[u8]) {
    let Some((piece, stream)) = data.split_first() else { return };
    let (whole, error, _) = fuzzing::messages(std::iter::once(stream));
    let (parts, parts_error, held) = fuzzing::messages(stream.chunks(usize::from(*piece).max(1)));
    assert_eq!((&whole, &error), (&parts, &parts_error));
    assert!(held <= 2 * 64 * 1024);
    for bytes in &whole {
        // a message is framed alone as it was among others
        assert_eq!(fuzzing::messages(std::iter::once(bytes.as_slice())), (vec![bytes.clone()], None, 0));
    }
}

/// An offer that is answered is answered with what an offerer can take.
pub fn sdp(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let local = description::LocalMedia::new(([10, 0, 0, 1], 4000).into());
    if let Ok((answer, plan)) = description::answer(&text, &local) {
        let lines = |text: &str| text.lines().filter(|l| l.trim_start().starts_with("m=")).count();
        assert_eq!(lines(&answer), lines(&text), "{answer}");
        let accepted = description::accept(&answer, &local);
        assert!(accepted.is_ok() || lines(&answer) > 1, "{answer}: {accepted:?}");
        assert!((10..=60).contains(&plan.ptime_ms));
    }
    let _ = description::accept(&text, &local);
}

/// Challenges, one a line, are answered in one line, and without the password.
pub fn digest(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let challenges: Vec<_> = text.split('\n').collect();
    if let Some(answer) = fuzzing::answer(&challenges) {
        assert!(answer.starts_with("Digest username=\"us\\\"er\", "));
        assert!(!answer.contains("swordfish") || text.contains("swordfish"));
        assert_eq!(answer.matches('\n').count(), 0, "{answer}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
