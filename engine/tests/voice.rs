//! The agent's voice as it goes over the wire, exact to the sample, on a virtual clock: barge-in in two steps, responses
//! one after the other, players beside the voice and instead of it.

#[path = "support/pair.rs"]
mod pair;

use mr_sip_engine::call::CallCommand;
use mr_sip_engine::play::Player;
use mr_sip_engine::{
    BargeIn, Codec, Generation, MediaEvent, NamedTone, PlayEnd, PlayId, PlayMode, PlayOptions, Region, Segment, Tone,
    WriteResult,
};
use pair::{Link, Pair, voice};

/// One call that speaks, and what it sends.
struct Speaker {
    pair: Pair,
    /// Packets sent before the test began.
    before: usize,
}

impl Speaker {
    fn new() -> Self {
        let mut pair = Pair::new(Link::default(), 5);
        pair.run(100);
        let before = pair.ends[0].sent.len();
        Self { pair, before }
    }

    fn voice(&mut self) -> &mut mr_sip_engine::Voice {
        &mut self.pair.ends[0].controls.voice
    }

    /// Queues samples of the usual voice, from one of them on.
    fn write(&mut self, generation: Generation, from: usize, count: usize) {
        let samples: Vec<f32> = (from..from + count).map(voice).collect();
        assert_eq!(self.voice().write(generation, &samples), WriteResult::Accepted(count));
    }

    fn say(&mut self, from: usize, count: usize) -> Generation {
        let generation = self.voice().start_response();
        self.write(generation, from, count);
        self.voice().end_response(generation);
        generation
    }

    /// So many packets go out.
    fn packets(&mut self, count: usize) {
        let wanted = self.sent() + count;
        while self.sent() < wanted {
            self.pair.run(5);
        }
    }

    fn sent(&self) -> usize {
        self.pair.ends[0].sent.len() - self.before
    }

    /// What was sent since the test began.
    fn wire(&self) -> Vec<f32> {
        let mut out = Vec::new();
        for (_, packet) in &self.pair.ends[0].sent[self.before..] {
            let mut samples = [0.0; 160];
            Codec::Pcmu.decode(&packet[12..], &mut samples);
            out.extend(samples);
        }
        out
    }

    fn play(&mut self, tone: Tone, options: PlayOptions) {
        let flushes = self.voice().flushes();
        let (player, _) = Player::tone(PlayId(1), tone, options, flushes);
        assert!(self.pair.ends[0].controls.commands.push(CallCommand::Play(player)).is_ok());
    }

    fn events(&self) -> &[MediaEvent] {
        &self.pair.ends[0].events
    }
}

/// As G.711 has it: within half a step of its scale.
fn assert_like(wire: &[f32], expected: impl Fn(usize) -> f32, what: &str) {
    for (n, &sample) in wire.iter().enumerate() {
        let wanted = expected(n);
        assert!(
            (sample - wanted).abs() <= 0.0325 * wanted.abs() + 5e-4,
            "{what}: sample {n} is {sample}, not {wanted}"
        );
    }
}

fn finished(generation: Generation, played: u64, interrupted: bool) -> MediaEvent {
    MediaEvent::ResponseFinished { generation, played, interrupted }
}

#[test]
fn a_cough_ducks_the_voice_and_it_comes_back_where_it_was() {
    for (settings, depth, down, up) in [
        (BargeIn::default(), 0.125_892_5, 80, 240),
        (BargeIn { duck_db: 6.0206, duck_ms: 40, restore_ms: 5, fade_ms: 20 }, 0.5, 320, 40),
    ] {
        let mut speaker = Speaker::new();
        speaker.voice().set_barge_in(&settings);
        let generation = speaker.say(0, 16_000);
        speaker.packets(5);
        speaker.voice().duck(true);
        speaker.packets(5);
        speaker.voice().duck(false);
        speaker.packets(10);
        let gain = |n: usize| match n {
            0..800 => 1.0,
            800..1_600 => 1.0 - (1.0 - depth) * ((n - 799) as f32 / down as f32).min(1.0),
            _ => depth + (1.0 - depth) * ((n - 1_599) as f32 / up as f32).min(1.0),
        };
        assert_like(&speaker.wire(), |n| voice(n) * gain(n), "ducked");
        let position = speaker.voice().position();
        assert_eq!((position.generation, position.played, position.played_turn), (generation, 3_200, 3_200));
    }
}

#[test]
fn speech_that_is_confirmed_fades_the_ducked_voice_and_flushes_it() {
    for fade_ms in [20, 5] {
        let mut speaker = Speaker::new();
        speaker.voice().set_barge_in(&BargeIn { fade_ms, ..BargeIn::default() });
        let generation = speaker.say(0, 16_000);
        speaker.packets(5);
        speaker.voice().duck(true);
        speaker.packets(5);
        speaker.voice().halt();
        speaker.packets(5);
        let fade = fade_ms as usize * 8;
        let wire = speaker.wire();
        let faded = |n: usize| fade.saturating_sub(n + 1) as f32 / fade as f32;
        assert_like(&wire[1_600..1_600 + fade], |n| voice(1_600 + n) * 0.125_892_5 * faded(n), "the fade");
        assert!(wire[1_600 + fade..].iter().all(|&s| s.abs() < 1e-4), "and not one sample after it");
        assert_eq!(speaker.events().last(), Some(&finished(generation, 1_600 + fade as u64, true)));
        assert_eq!(speaker.voice().position().played, 1_600 + fade as u64);
        // what the agent says next is not ducked any more once the caller has stopped
        speaker.voice().duck(false);
        speaker.voice().resume();
        speaker.packets(2);
        speaker.say(0, 800);
        let from = speaker.sent() * 160;
        speaker.packets(5);
        assert_like(&speaker.wire()[from..], voice, "the next response");
        assert_eq!(speaker.voice().position().played_turn, 800);
    }
}

#[test]
fn responses_that_are_started_while_another_plays_follow_it_without_a_gap() {
    let mut speaker = Speaker::new();
    let first = speaker.say(0, 1_000);
    speaker.packets(2);
    let second = speaker.say(1_000, 37);
    let third = speaker.say(1_037, 1_523);
    let mut positions = Vec::new();
    for _ in 0..14 {
        speaker.packets(1);
        let position = speaker.voice().position();
        positions.push((position.generation, position.played, position.played_turn));
    }
    assert_like(&speaker.wire()[..2_560], voice, "one stream");
    let of = |sent: u64| match sent {
        0..1_000 => (first, sent, sent),
        _ => (third, sent.min(2_560) - 1_037, sent.min(2_560)),
    };
    let expected: Vec<_> = (3..17).map(|packet| of(packet * 160)).collect();
    assert_eq!(positions, expected);
    speaker.packets(1);
    let started = |generation| MediaEvent::ResponseStarted { generation };
    assert_eq!(
        speaker.events(),
        [
            started(first),
            finished(first, 1_000, false),
            started(second),
            finished(second, 37, false),
            started(third),
            finished(third, 1_523, false)
        ]
    );
}

#[test]
fn what_plays_instead_of_the_voice_makes_it_wait_and_lose_nothing() {
    let mut speaker = Speaker::new();
    let generation = speaker.say(0, 1_600);
    speaker.packets(5);
    // 1,000 Hz for 50 ms: 400 samples, so the third packet is half of a tone
    let tone = Tone::new(&[Segment::new(&[1_000.0], 0, 0)], Some(50));
    speaker.play(tone, PlayOptions { mode: PlayMode::Instead, ..PlayOptions::default() });
    speaker.packets(3);
    assert_eq!(speaker.voice().position().played, 800, "it has not gone on");
    speaker.packets(6);
    let wire = speaker.wire();
    assert!(wire[880..1_120].iter().any(|s| s.abs() > 0.12), "the tone");
    assert!(wire[1_200..1_280].iter().all(|s| s.abs() < 1e-3), "its end is exact");
    // after a ramp of 20 samples
    assert_like(&wire[1_300..2_080], |n| voice(820 + n), "the voice goes on where it was");
    let play = MediaEvent::PlayFinished { play: PlayId(1), played: 400, reason: PlayEnd::End };
    assert_eq!(speaker.events()[1..], [play, finished(generation, 1_600, false)]);
}

#[test]
fn what_is_mixed_in_is_added_to_the_voice_and_a_barge_in_ends_both_or_one() {
    for bargeable in [true, false] {
        let mut speaker = Speaker::new();
        let generation = speaker.say(0, 16_000);
        let tone = || Tone::named(NamedTone::Dial, Region::Europe, None);
        speaker.play(tone(), PlayOptions { bargeable, gain_db: -6.0206, ..PlayOptions::default() });
        speaker.packets(5);
        let wire = speaker.wire();
        let phase = |n: usize| (std::f64::consts::TAU * 425.0 * n as f64 / 8_000.0).sin() as f32;
        assert_like(&wire[40..], |n| voice(40 + n) + 0.5 * 0.158_489 * phase(40 + n), "the sum");
        speaker.voice().halt();
        speaker.packets(5);
        let still = speaker.wire()[1_000..].iter().any(|s| s.abs() > 0.02);
        assert_eq!(still, !bargeable);
        let play = MediaEvent::PlayFinished { play: PlayId(1), played: 960, reason: PlayEnd::BargeIn };
        assert_eq!(speaker.events().contains(&play), bargeable);
        assert!(speaker.events().contains(&finished(generation, 960, true)));
    }
}

#[test]
fn a_player_waits_while_a_key_sounds_and_its_end_stays_exact() {
    let mut speaker = Speaker::new();
    speaker.play(Tone::named(NamedTone::Beep, Region::Europe, None), PlayOptions::default());
    speaker.packets(3);
    speaker.pair.press(0, "5");
    speaker.packets(40);
    let play = MediaEvent::PlayFinished { play: PlayId(1), played: 2_000, reason: PlayEnd::End };
    assert_eq!(speaker.events(), [play]);
    let keys = speaker.pair.ends[0].sent.iter().filter(|(_, packet)| packet[1] & 0x7F == 101).count();
    assert!(keys >= 6);
}

#[test]
fn voice_and_player_together_never_pass_the_ceiling() {
    let mut speaker = Speaker::new();
    let generation = speaker.voice().start_response();
    let loud: Vec<f32> = (0..8_000).map(|n| (4.0_f32 * voice(n)).clamp(-1.0, 1.0)).collect();
    let _ = speaker.voice().write(generation, &loud);
    let tone = Tone::named(NamedTone::Dial, Region::NorthAmerica, None);
    speaker.play(tone, PlayOptions { gain_db: 20.0, ..PlayOptions::default() });
    speaker.packets(40);
    let highest = speaker.wire().into_iter().map(f32::abs).fold(0.0, f32::max);
    assert!(highest < 0.6 && highest > 0.5, "{highest}: -4.8 dB and the step of G.711");
}
