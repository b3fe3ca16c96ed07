//! What the two ends do together.

use super::*;
use proptest::prelude::*;

use crate::event::MediaEvent;
use crate::stats::Counters;

/// The two ends with what came out of them.
struct Pair {
    voice: Voice,
    reader: VoiceReader,
    counters: Counters,
    events: Vec<MediaEvent>,
}

impl Pair {
    fn new() -> Self {
        let (voice, reader) = voice();
        Self { voice, reader, counters: Counters::default(), events: Vec::new() }
    }

    fn pull(&mut self, count: usize) -> Vec<f32> {
        let mut out = vec![f32::NAN; count];
        self.reader.pull(&mut out, &self.counters, &mut |event| self.events.push(event));
        out
    }

    fn say(&mut self, level: f32, count: usize) -> Generation {
        let generation = self.voice.start_response();
        assert_eq!(self.voice.write(generation, &vec![level; count]), WriteResult::Accepted(count));
        generation
    }
}

fn finished(generation: Generation, played: u64, interrupted: bool) -> MediaEvent {
    MediaEvent::ResponseFinished { generation, played, interrupted }
}

#[test]
fn a_response_is_said_to_its_end_and_told_about() {
    let mut pair = Pair::new();
    let generation = pair.say(0.25, 400);
    pair.voice.end_response(generation);
    let out = [pair.pull(160), pair.pull(160), pair.pull(160)].concat();
    assert!(out[..400].iter().all(|&s| s == 0.25));
    assert!(out[410..].iter().all(|&s| s.abs() < 0.1), "and ends without a cliff");
    assert_eq!(pair.events, [MediaEvent::ResponseStarted { generation }, finished(generation, 400, false)]);
    let position = pair.voice.position();
    assert_eq!(
        (position.generation, position.played, position.played_turn, position.queued),
        (generation, 400, 400, 0)
    );
    assert_eq!(pair.counters.underruns.get(), 0);
}

#[test]
fn a_halt_fades_within_20_ms_flushes_and_latches() {
    let mut pair = Pair::new();
    let generation = pair.say(0.5, 8_000);
    pair.pull(160);
    pair.voice.halt();
    assert_eq!(pair.voice.position().queued, 0);
    let out = pair.pull(320);
    assert!(out.windows(2).all(|w| w[1] <= w[0]), "a fade");
    assert!(out[0] > 0.49 && out[80] < 0.26 && out[160..].iter().all(|&s| s == 0.0));
    assert_eq!(pair.events.last(), Some(&finished(generation, 320, true)));
    assert_eq!(pair.voice.write(generation, &[0.5; 10]), WriteResult::Halted);
    let next = pair.voice.start_response();
    assert_eq!(pair.voice.write(next, &[0.5; 10]), WriteResult::Halted);
    assert!(pair.pull(160).iter().all(|&s| s == 0.0));
    pair.voice.resume();
    assert_eq!(pair.voice.write(generation, &[0.5; 10]), WriteResult::Stale, "what was cut does not come back");
    assert_eq!(pair.voice.write(next, &[0.5; 10]), WriteResult::Accepted(10));
    assert_eq!(pair.pull(10), [0.5; 10]);
    assert_eq!(pair.voice.position().played_turn, 10, "a new turn");
}

#[test]
fn clear_does_not_latch_and_the_next_response_follows_the_fade() {
    let mut pair = Pair::new();
    pair.say(0.5, 8_000);
    pair.pull(160);
    pair.voice.clear();
    let next = pair.say(0.125, 1_000);
    let out = pair.pull(480);
    assert!(out[..160].windows(2).all(|w| w[1] <= w[0]));
    assert!(out[160..].iter().all(|&s| s == 0.125), "not one sample of the old response after its fade");
    assert_eq!(pair.voice.position().generation, next);
    assert_eq!(pair.voice.position().played, 320);
}

#[test]
fn a_chunk_in_flight_cannot_speak_after_a_halt() {
    let mut pair = Pair::new();
    let old = pair.say(0.5, 1_000);
    pair.voice.halt();
    pair.voice.resume();
    assert_eq!(pair.voice.write(old, &[0.5; 160]), WriteResult::Stale);
    assert!(pair.pull(1_600).iter().all(|&s| s == 0.0), "nothing was said before the halt, so nothing fades");
    assert_eq!(pair.events, [finished(old, 0, true)]);
}

#[test]
fn a_second_response_follows_the_first_and_both_are_told_about_when_cut() {
    let mut pair = Pair::new();
    let first = pair.say(0.25, 200);
    let second = pair.say(0.5, 200);
    assert_eq!(pair.voice.write(first, &[0.0; 1]), WriteResult::Stale);
    let out = pair.pull(300);
    assert!(out[..200].iter().all(|&s| s == 0.25) && out[200..].iter().all(|&s| s == 0.5));
    let third = pair.say(0.25, 100);
    pair.voice.halt();
    pair.pull(160);
    assert_eq!(
        pair.events,
        [
            MediaEvent::ResponseStarted { generation: first },
            finished(first, 200, false),
            MediaEvent::ResponseStarted { generation: second },
            // the fade ends where the response does: all of it was said after all
            finished(second, 200, false),
            finished(third, 0, true),
        ]
    );
}

#[test]
fn an_underrun_is_one_event_and_comfort_noise_until_more_comes() {
    // case 39
    let mut pair = Pair::new();
    let generation = pair.say(0.25, 100);
    let out = [pair.pull(160), pair.pull(160)].concat();
    assert!(out[200..].iter().any(|&s| s != 0.0) && out[200..].iter().all(|&s| s.abs() < 0.01), "noise, quiet");
    assert_eq!(pair.events.last(), Some(&MediaEvent::Underrun { generation, played: 100 }));
    assert_eq!((pair.counters.underruns.get(), pair.counters.underrun_samples.get()), (1, 220));
    assert_eq!(pair.voice.write(generation, &[0.25; 100]), WriteResult::Accepted(100));
    pair.voice.end_response(generation);
    pair.pull(160);
    assert_eq!(pair.events.last(), Some(&finished(generation, 200, false)));
    assert_eq!(pair.voice.position().played, 200, "noise does not count");
}

#[test]
fn ducking_lowers_by_18_db_in_10_ms_and_comes_back_in_30() {
    let mut pair = Pair::new();
    pair.say(0.5, 8_000);
    pair.pull(160);
    pair.voice.duck(true);
    let down = pair.pull(160);
    assert!((down[85] / 0.5 - 0.125_892_5).abs() < 1e-3 && down[40] > 0.2);
    pair.voice.duck(false);
    let up = pair.pull(320);
    assert!(up[120] < 0.4 && up[245] == 0.5);
}

#[test]
fn what_does_not_fit_stays_the_writers() {
    let mut pair = Pair::new();
    let generation = pair.voice.start_response();
    assert_eq!(pair.voice.write(generation, &vec![0.1; VOICE_SAMPLES + 5]), WriteResult::Accepted(VOICE_SAMPLES));
    assert_eq!(pair.voice.write(generation, &[0.1; 5]), WriteResult::Accepted(0));
    pair.pull(160);
    assert_eq!(pair.voice.write(generation, &[0.1; 500]), WriteResult::Accepted(160));
    assert_eq!(pair.voice.position().queued, VOICE_SAMPLES);
}

#[test]
fn an_empty_response_starts_nothing_and_ends() {
    let mut pair = Pair::new();
    let generation = pair.voice.start_response();
    pair.voice.end_response(generation);
    pair.pull(160);
    assert_eq!(pair.events, [finished(generation, 0, false)]);
    for _ in 0..10_000 {
        let generation = pair.voice.start_response();
        pair.voice.end_response(generation); // no queue grows beyond its bound
    }
    pair.pull(160);
    pair.say(0.5, 160);
    assert_eq!(pair.pull(160), [0.5; 160]);
}

#[test]
fn nothing_is_said_while_idle_and_a_halt_still_counts() {
    let mut pair = Pair::new();
    let generation = pair.say(0.5, 1_000);
    pair.pull(160);
    pair.reader.idle(&mut |event| pair.events.push(event));
    assert_eq!(pair.voice.position().played, 160);
    pair.voice.halt();
    pair.reader.idle(&mut |event| pair.events.push(event));
    assert_eq!(pair.events.last(), Some(&finished(generation, 160, true)));
}

#[derive(Debug, Clone)]
enum Step {
    Start,
    Write(usize),
    End,
    Halt,
    Resume,
    Clear,
    Pull(usize),
    Idle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::Start),
        (1..3_000_usize).prop_map(Step::Write),
        Just(Step::End),
        Just(Step::Halt),
        Just(Step::Resume),
        Just(Step::Clear),
        (1..400_usize).prop_map(Step::Pull),
        (1..400_usize).prop_map(Step::Pull),
        Just(Step::Idle),
    ]
}

proptest! {
    /// Each generation is written as a constant of its own, so that every sample that comes out tells its response.
    #[test]
    fn whatever_is_asked_for_old_audio_never_speaks_and_the_count_is_exact(steps in prop::collection::vec(step(), 1..120)) {
        let mut pair = Pair::new();
        let mut generation = Generation(0);
        let level = |g: Generation| 0.01 * (g.0 % 64 + 2) as f32;
        let (mut fading, mut flushed_at) = (0_usize, Generation(0));
        let mut said = 0_u64;
        for step in steps {
            match step {
                Step::Start => generation = pair.voice.start_response(),
                Step::Write(count) => { let _ = pair.voice.write(generation, &vec![level(generation); count]); }
                Step::End => pair.voice.end_response(generation),
                Step::Halt | Step::Clear => {
                    if matches!(step, Step::Halt) { pair.voice.halt() } else { pair.voice.clear() }
                    fading = FADE_SAMPLES as usize;
                    flushed_at = generation;
                }
                Step::Resume => pair.voice.resume(),
                Step::Idle => {
                    pair.reader.idle(&mut |event| pair.events.push(event));
                    fading = 0;
                }
                Step::Pull(count) => {
                    let before = pair.voice.position();
                    let out = pair.pull(count);
                    let after = pair.voice.position();
                    said += out.len() as u64;
                    prop_assert!(after.played_turn.max(before.played_turn) <= said);
                    // samples of a dead response count only while they fade
                    let lively = after.generation > flushed_at || fading > 0 || after.played_turn == before.played_turn;
                    prop_assert!(lively, "{:?} said after the flush of {:?}", after.generation, flushed_at);
                    fading = fading.saturating_sub(count);
                }
            }
        }
        // every response that started has at most one end, and no end says more than was said
        let mut ends: Vec<u64> = Vec::new();
        for event in &pair.events {
            if let MediaEvent::ResponseFinished { generation, played, .. } = event {
                prop_assert!(!ends.contains(&generation.0));
                prop_assert!(*played <= said);
                ends.push(generation.0);
            }
        }
    }
}
