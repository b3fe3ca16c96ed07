//! Tones in their cadences, and greetings made of modulated noise.

use std::f32::consts::TAU;

use super::*;
use crate::Codec;
use crate::noise::Noise;

const ALL: DetectConfig = DetectConfig { keys: true, progress: true, answered_by: true, music: true, tones_for: None };
const PROGRESS: DetectConfig =
    DetectConfig { keys: false, progress: true, answered_by: false, music: false, tones_for: None };

/// A sound that is put together piece by piece, over a line with a little noise.
struct Line {
    samples: Vec<f32>,
    noise: Noise,
    noise_rms: f32,
}

impl Line {
    fn new() -> Self {
        Self { samples: Vec::new(), noise: Noise::new(3), noise_rms: full_scale_amplitude(-62.0) }
    }

    fn noisy(mut self, dbm0: f32) -> Self {
        self.noise_rms = full_scale_amplitude(dbm0) / 2_f32.sqrt();
        self
    }

    fn add(mut self, ms: usize, sound: impl Fn(f32) -> f32) -> Self {
        for _ in 0..ms * 8 {
            let seconds = self.samples.len() as f32 / 8_000.0;
            let noise = self.noise.sample_at(self.noise_rms);
            self.samples.push((sound(seconds) + noise).clamp(-1.0, 1.0));
        }
        self
    }

    fn silence(self, ms: usize) -> Self {
        self.add(ms, |_| 0.0)
    }

    /// Tones of so many dBm0 each.
    fn tone(self, ms: usize, hz: &[f32], dbm0: f32) -> Self {
        let amplitude = full_scale_amplitude(dbm0);
        self.add(ms, |t| hz.iter().map(|hz| amplitude * (TAU * hz * t).sin()).sum())
    }

    /// On and off in turn, so many times.
    fn cadence(mut self, times: usize, hz: &[f32], dbm0: f32, ms: &[usize]) -> Self {
        for _ in 0..times {
            for (n, ms) in ms.iter().enumerate() {
                self = if n % 2 == 0 { self.tone(*ms, hz, dbm0) } else { self.silence(*ms) };
            }
        }
        self
    }

    /// Something with the rhythm, the pitch and the noise of speech.
    fn speech(mut self, ms: usize) -> Self {
        let begin = self.samples.len();
        for n in 0..ms * 8 {
            let t = n as f32 / 8_000.0;
            let syllable = (TAU * 2.0 * t).sin().abs().sqrt();
            let pitch = 120.0 + 25.0 * (TAU * 0.7 * t).sin();
            let voiced: f32 = (1..12).map(|k| (TAU * pitch * k as f32 * t + k as f32).sin() / k as f32).sum();
            let noise = self.noise.sample_at(0.05);
            self.samples.push(0.12 * syllable * voiced + syllable * noise);
        }
        assert_eq!(self.samples.len(), begin + ms * 8);
        self
    }

    fn findings(&self, config: &DetectConfig) -> Vec<(u32, Finding)> {
        let mut codes = vec![0; self.samples.len()];
        let mut heard = vec![0.0; self.samples.len()];
        Codec::Pcma.encode(&self.samples, &mut codes);
        Codec::Pcma.decode(&codes, &mut heard);
        let mut detectors = Detectors::new(config);
        let mut findings = Vec::new();
        for (n, tick) in heard.as_chunks().0.iter().enumerate() {
            detectors.push(tick, |finding| findings.push((n as u32 * 5, finding)));
        }
        findings
    }

    /// The tones that were told, without their confidence.
    fn tones(&self) -> Vec<CallTone> {
        let mut tones: Vec<CallTone> = self.findings(&PROGRESS).iter().filter_map(|(_, f)| tone(f)).collect();
        tones.dedup();
        tones
    }

    fn parties(&self) -> Vec<(Party, u8)> {
        let party = |finding: &Finding| match finding {
            Finding::AnsweredBy(party, confidence, _) => Some((*party, *confidence)),
            _ => None,
        };
        self.findings(&ALL).iter().filter_map(|(_, finding)| party(finding)).collect()
    }
}

fn tone(finding: &Finding) -> Option<CallTone> {
    match finding {
        Finding::Tone(tone, _) => Some(*tone),
        _ => None,
    }
}

#[test]
fn it_rings_in_every_plan() {
    let plans: [(&[f32], &[usize], u32); 6] = [
        (&[425.0], &[1_000, 4_000], 2_800),
        (&[425.0], &[1_000, 5_000], 2_800),
        (&[440.0], &[1_500, 3_500], 3_300), // France
        (&[440.0, 480.0], &[2_000, 4_000], 600),
        (&[400.0, 450.0], &[400, 200, 400, 2_000], 600),
        (&[425.0], &[800, 3_200], 2_600),
    ];
    for (hz, ms, within_ms) in plans {
        for dbm0 in [-13.0, -20.0, -30.0] {
            let line = Line::new().noisy(dbm0 - 20.0).silence(200).cadence(3, hz, dbm0, ms);
            assert_eq!(line.tones(), [CallTone::Ringback], "{hz:?} {ms:?} {dbm0}");
            let findings = line.findings(&PROGRESS);
            assert!(findings[0].0 <= within_ms, "{hz:?} {ms:?}: {findings:?}");
            assert!(findings.len() <= 2, "told once, and once more when it is surer: {findings:?}");
        }
    }
}

#[test]
fn busy_is_busy_and_congestion_is_congestion_in_every_plan() {
    let plans: [(&[f32], &[usize], CallTone); 9] = [
        (&[425.0], &[500, 500], CallTone::Busy),
        (&[425.0], &[480, 480], CallTone::Busy),
        (&[480.0, 620.0], &[500, 500], CallTone::Busy),
        (&[400.0], &[375, 375], CallTone::Busy),
        (&[425.0], &[250, 250], CallTone::Congestion),
        (&[425.0], &[240, 240], CallTone::Congestion),
        (&[425.0], &[200, 200], CallTone::Congestion),
        (&[480.0, 620.0], &[250, 250], CallTone::Congestion),
        (&[400.0], &[400, 350, 225, 525], CallTone::Congestion),
    ];
    for (hz, ms, tone) in plans {
        for dbm0 in [-13.0, -20.0, -30.0] {
            let line = Line::new().noisy(dbm0 - 20.0).silence(200).cadence(8, hz, dbm0, ms);
            assert_eq!(line.tones(), [tone], "{hz:?} {ms:?} {dbm0}");
            assert!(line.findings(&PROGRESS)[0].0 <= 3_000);
        }
    }
}

#[test]
fn three_rising_tones_are_special_information() {
    let plain = [950.0, 1_400.0, 1_800.0];
    let intercept = [913.8, 1_370.6, 1_776.7];
    for (hz, gap) in [(plain, 0), (plain, 20), (intercept, 0)] {
        let mut line = Line::new().silence(300);
        for hz in hz {
            line = line.tone(330, &[hz], -18.0).silence(gap);
        }
        assert_eq!(line.silence(300).speech(3_000).tones(), [CallTone::SpecialInformation], "{hz:?} {gap}");
    }
    let falling = Line::new().tone(330, &[1_800.0], -18.0).tone(330, &[1_400.0], -18.0).tone(330, &[950.0], -18.0);
    assert_eq!(falling.silence(500).tones(), []);
}

#[test]
fn a_fax_is_told_by_what_it_sends_calling_and_called() {
    assert_eq!(Line::new().silence(500).cadence(3, &[1_100.0], -15.0, &[500, 3_000]).tones(), [CallTone::Fax]);
    assert_eq!(Line::new().silence(500).tone(2_700, &[2_100.0], -15.0).silence(500).tones(), [CallTone::Fax]);
}

#[test]
fn dial_tone_is_told() {
    for hz in [&[425.0][..], &[350.0, 440.0]] {
        assert_eq!(Line::new().silence(200).tone(5_000, hz, -15.0).tones(), [CallTone::Dial], "{hz:?}");
    }
}

#[test]
fn a_tone_after_another_is_news_and_the_same_one_only_when_it_was_long_gone() {
    let line = Line::new().cadence(2, &[425.0], -15.0, &[1_000, 4_000]).cadence(6, &[425.0], -15.0, &[500, 500]);
    assert_eq!(line.tones(), [CallTone::Ringback, CallTone::Busy]);
    let ring = |line: Line| line.cadence(2, &[440.0, 480.0], -15.0, &[2_000, 4_000]);
    let twice = ring(ring(Line::new()).silence(12_000));
    let told = twice.findings(&PROGRESS).iter().filter(|(_, f)| tone(f).is_some()).count();
    assert!((2..=3).contains(&told), "{told}");
}

#[test]
fn speech_music_and_noise_are_no_tones_of_a_network() {
    assert_eq!(Line::new().silence(300).speech(30_000).tones(), []);
    assert_eq!(Line::new().noisy(-15.0).silence(20_000).tones(), []);
    // a slow tune of single notes, with 440 Hz among them
    let mut line = Line::new();
    for (n, hz) in [262.0, 330.0, 392.0, 440.0, 523.0, 440.0, 392.0, 659.0, 880.0].iter().cycle().take(60).enumerate() {
        line = line.tone(300 + 100 * (n % 4), &[*hz, 2.0 * hz], -18.0);
    }
    assert_eq!(line.tones(), []);
}

#[test]
fn hello_and_a_pause_is_a_person() {
    for (ms, least) in [(400, 85), (900, 85), (1_400, 80), (1_900, 65)] {
        let line = Line::new().silence(700).speech(ms).silence(2_000);
        let parties = line.parties();
        assert_eq!(parties.len(), 1);
        assert_eq!(parties[0].0, Party::Person, "{ms}");
        assert!(parties[0].1 >= least, "{ms}: {parties:?}");
    }
}

#[test]
fn a_long_greeting_is_a_machine_and_its_beep_makes_it_sure() {
    for hz in [440.0, 800.0, 1_000.0, 1_400.0, 1_950.0] {
        for beep_ms in [120, 250, 500, 1_400] {
            let line = Line::new().silence(500).speech(6_000).silence(300).tone(beep_ms, &[hz], -16.0).silence(2_000);
            assert_eq!(line.parties(), [(Party::Machine, 75), (Party::Machine, 97)], "{hz} {beep_ms}");
            let beep: Vec<u32> = line
                .findings(&ALL)
                .iter()
                .filter(|(_, f)| tone(f) == Some(CallTone::Beep))
                .map(|(at, _)| *at)
                .collect();
            assert_eq!(beep.len(), 1);
            let end = 6_800 + beep_ms as u32;
            let within = if hz < 640.0 { 1_000 } else { 500 };
            assert!((end..end + within).contains(&beep[0]), "{hz} {beep_ms}: {beep:?} after {end}");
        }
    }
}

#[test]
fn a_short_greeting_with_a_beep_is_a_machine_after_all() {
    let line = Line::new().silence(500).speech(1_200).silence(1_000).tone(300, &[1_000.0], -16.0).silence(1_500);
    assert_eq!(line.parties(), [(Party::Person, 85), (Party::Machine, 97)]);
}

#[test]
fn what_is_no_beep_is_none() {
    let beeps = |line: Line| line.findings(&ALL).iter().filter(|(_, f)| tone(f) == Some(CallTone::Beep)).count();
    // without speech before it, too short, too long, followed by speech, one of many
    assert_eq!(beeps(Line::new().silence(500).tone(400, &[1_000.0], -16.0).silence(2_000)), 0);
    let spoken = || Line::new().silence(500).speech(4_000).silence(300);
    assert_eq!(beeps(spoken().tone(60, &[1_000.0], -16.0).silence(2_000)), 0);
    assert_eq!(beeps(spoken().tone(2_500, &[1_000.0], -16.0).silence(2_000)), 0);
    assert_eq!(beeps(spoken().tone(400, &[1_000.0], -16.0).speech(2_000)), 0);
    assert_eq!(beeps(spoken().cadence(6, &[425.0], -16.0, &[500, 500])), 0);
    assert_eq!(beeps(spoken().cadence(6, &[480.0, 620.0], -16.0, &[500, 500])), 0);
}

#[test]
fn nothing_said_is_told_as_unknown_and_a_click_is_nothing() {
    let line = Line::new().silence(1_000).add(10, |_| 0.5).silence(6_000);
    assert_eq!(line.parties(), [(Party::Unknown, 50)]);
    assert_eq!(
        Line::new().silence(5_500).speech(600).silence(1_500).parties().last().map(|p| p.0),
        Some(Party::Person)
    );
}

#[test]
fn keys_that_come_as_events_are_not_told_from_their_sound() {
    let key = |line: Line| line.tone(100, &[770.0, 1_336.0], -12.0).silence(200);
    let line = key(key(Line::new().silence(100)));
    assert_eq!(line.findings(&ALL).iter().filter(|(_, f)| matches!(f, Finding::Key(_))).count(), 2);

    let mut detectors = Detectors::new(&ALL);
    let mut keys = 0;
    for (n, tick) in line.samples.as_chunks().0.iter().enumerate() {
        detectors.push(tick, |finding| keys += u32::from(matches!(finding, Finding::Key(_))));
        if n == 70 {
            // the first was told by its sound; its event comes late, and the next one's at once
            assert_eq!(keys, 1);
            assert!(!detectors.told_already('9'), "another key");
            detectors.on_event();
            assert!(detectors.told_already('5') && !detectors.told_already('5'));
        }
    }
    assert_eq!(keys, 1);
}

#[test]
fn listening_ends_when_its_time_is_over() {
    let config = DetectConfig { keys: false, music: false, tones_for: Some(Duration::from_secs(1)), ..ALL };
    let mut detectors = Detectors::new(&config);
    for n in 0..200 {
        assert!(!detectors.is_done(), "{n}");
        detectors.push(&[0.0; 40], |_| {});
    }
    assert!(detectors.is_done());
    assert!(!Detectors::new(&DetectConfig { keys: true, ..config }).is_done());
    let mut with_music = Detectors::new(&DetectConfig { music: true, ..config });
    for _ in 0..400 {
        with_music.push(&[0.0; 40], |_| {});
    }
    assert!(!with_music.is_done(), "music is listened for all the time");
}

const MUSIC: DetectConfig =
    DetectConfig { keys: false, progress: false, answered_by: false, music: true, tones_for: Some(Duration::ZERO) };

impl Line {
    /// Chords that are changed every half second, each note with its partials dying away, and a beat of noise.
    fn music(mut self, ms: usize, level: f32) -> Self {
        let chords = [[220.0, 277.2, 329.6], [246.9, 293.7, 370.0], [196.0, 246.9, 293.7], [220.0, 261.6, 329.6]];
        let mut beat = Noise::new(5);
        for n in 0..ms * 8 {
            let (chord, since) = (chords[n / 4_000 % chords.len()], (n % 4_000) as f32 / 8_000.0);
            let tone = |hz: f32| (1..9).map(|k| (TAU * hz * k as f32 * since).sin() / k as f32).sum::<f32>();
            let notes = chord.map(tone).iter().sum::<f32>() * (-2.0 * since).exp();
            self.samples.push(level * (0.2 * notes + beat.sample_at(0.3) * (-40.0 * since).exp()));
        }
        self
    }

    fn when_music(&self) -> Vec<(u32, bool)> {
        let music = |(ms, finding): &(u32, Finding)| match finding {
            Finding::Music(playing, confidence) => {
                assert!((60..=95).contains(confidence), "{confidence}");
                Some((*ms, *playing))
            }
            _ => None,
        };
        self.findings(&MUSIC).iter().filter_map(music).collect()
    }
}

#[test]
fn music_is_told_after_some_six_seconds_and_its_end_after_four() {
    for level in [0.03, 0.3, 1.0] {
        let line = Line::new().silence(2_000).music(20_000, level).speech(15_000);
        let found = line.when_music();
        let [(begins, true), (ends, false)] = found[..] else { panic!("{level}: {found:?}") };
        assert!((7_000..11_000).contains(&begins) && (23_000..28_000).contains(&ends), "{level}: {found:?}");
    }
}

#[test]
fn speech_tones_hum_noise_and_silence_are_no_music() {
    let hum = |t: f32| (2..30).map(|k| 0.1 * (TAU * 50.0 * k as f32 * t).sin() / k as f32).sum::<f32>();
    let tones = Line::new()
        .cadence(4, &[440.0, 480.0], -15.0, &[2_000, 4_000])
        .cadence(20, &[480.0, 620.0], -15.0, &[500, 500])
        .cadence(30, &[425.0], -15.0, &[250, 250])
        .tone(15_000, &[350.0, 440.0], -15.0)
        .cadence(5, &[1_100.0], -15.0, &[500, 3_000]);
    for (name, line) in [
        ("speech", Line::new().speech(60_000)),
        ("the network's tones", tones),
        ("hum", Line::new().noisy(-40.0).silence(3_000).add(30_000, hum)),
        ("noise", Line::new().noisy(-20.0).silence(30_000)),
        ("silence", Line::new().silence(30_000)),
        ("no number", Line::new().add(10_000, |_| f32::NAN)),
    ] {
        assert_eq!(line.when_music(), [], "{name}");
    }
}
