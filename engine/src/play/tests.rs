//! Players by themselves, and files as they come out of the feeder.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hound::{SampleFormat, WavSpec, WavWriter};

use super::*;
use crate::voice::{BargeIn, Voice, VoiceReader, voice};

/// Some players on a line that takes a packet at a time.
struct Line {
    players: Players,
    voice: Voice,
    reader: VoiceReader,
    counters: Counters,
    events: Vec<MediaEvent>,
}

impl Line {
    fn new() -> Self {
        let (voice, reader) = voice();
        Self { players: Players::default(), voice, reader, counters: Counters::default(), events: Vec::new() }
    }

    fn add(&mut self, player: Box<Player>) -> bool {
        self.players.add(player, &mut |event| self.events.push(event)).is_ok()
    }

    fn pull(&mut self, count: usize) -> Vec<f32> {
        let mut out = vec![0.0; count];
        self.players.pull(&mut out, self.reader.barge(), &self.counters, &mut |event| self.events.push(event));
        out
    }

    /// A player whose ring the test fills.
    fn filled(&mut self, options: PlayOptions, samples: &[i16]) -> Filler {
        let (player, _, mut filler) = Player::file(PlayId(1), options, self.voice.flushes());
        let (_, rest) = filler.samples.push_partial_slice(samples);
        assert!(rest.is_empty() && self.add(player));
        filler
    }
}

fn over(played: u64, reason: PlayEnd) -> MediaEvent {
    MediaEvent::PlayFinished { play: PlayId(1), played, reason }
}

#[test]
fn a_file_is_played_to_its_last_sample_and_told_about_once() {
    let mut line = Line::new();
    let filler = line.filled(PlayOptions { gain_db: -6.0206, ..PlayOptions::default() }, &[16_384; 250]);
    filler.feed.end(false);
    let out = [line.pull(160), line.pull(160), line.pull(160)].concat();
    assert!(out[..250].iter().all(|s| (s - 0.25).abs() < 1e-5) && out[250..].iter().all(|&s| s == 0.0));
    assert_eq!(line.events, [over(250, PlayEnd::End)]);
    assert!(line.players.take_finished().is_some() && line.players.is_empty());
    assert_eq!(line.counters.play_underruns.get(), 0);
}

#[test]
fn a_slow_disk_leaves_silence_that_is_counted_and_the_file_goes_on_where_it_was() {
    // case 39
    let mut line = Line::new();
    let mut filler = line.filled(PlayOptions::default(), &[]);
    assert!(line.pull(160).iter().all(|&s| s == 0.0));
    assert_eq!(line.counters.play_underruns.get(), 0, "it has not begun");
    let _ = filler.samples.push_partial_slice(&[100; 100]);
    line.pull(160);
    line.pull(160);
    assert_eq!((line.counters.play_underruns.get(), line.counters.play_underrun_samples.get()), (1, 220));
    let _ = filler.samples.push_partial_slice(&[100; 100]);
    assert!(line.pull(100).iter().all(|&s| s > 0.0));
    filler.feed.end(true);
    line.pull(160);
    assert_eq!(line.events, [over(200, PlayEnd::Failed)]);
}

#[test]
fn a_halt_fades_a_bargeable_player_and_no_other() {
    for (bargeable, fade_ms) in [(true, 20), (true, 5), (false, 20)] {
        let mut line = Line::new();
        line.voice.set_barge_in(&BargeIn { fade_ms, ..BargeIn::default() });
        line.voice.halt(); // before it began: not meant
        let _filler = line.filled(PlayOptions { bargeable, ..PlayOptions::default() }, &[16_384; 2_000]);
        assert_eq!(line.pull(160), [0.5; 160]);
        line.voice.halt();
        let out = line.pull(320);
        if bargeable {
            let fade = fade_ms as usize * 8;
            let expected = |n: usize| 0.5 * fade.saturating_sub(n + 1) as f32 / fade as f32;
            assert!(out.iter().enumerate().all(|(n, s)| (s - expected(n)).abs() < 1e-6), "{fade_ms} ms");
            assert_eq!(line.events, [over(160 + fade as u64, PlayEnd::BargeIn)]);
        } else {
            assert_eq!(out, [0.5; 320]);
            assert!(line.events.is_empty());
        }
    }
}

#[test]
fn ducking_lowers_a_bargeable_player_with_the_voice() {
    let mut line = Line::new();
    let _filler = line.filled(PlayOptions::default(), &[16_384; 2_000]);
    line.voice.duck(true);
    let out = line.pull(200);
    assert!((out[79] - 0.5 * 0.125_892_5).abs() < 1e-6 && out[78] > out[79] && out[80] == out[79]);
    line.voice.duck(false);
    let out = line.pull(300);
    assert!(out[238] < 0.5 && out[239] == 0.5);
}

#[test]
fn a_player_that_is_stopped_fades_and_one_that_cannot_be_heard_is_over_at_once() {
    let mut line = Line::new();
    let _filler = line.filled(PlayOptions::default(), &[16_384; 2_000]);
    line.pull(160);
    line.players.stop(PlayId(7), line.reader.barge()); // never was
    line.players.stop(PlayId(1), line.reader.barge());
    line.players.stop(PlayId(1), line.reader.barge());
    line.players.wait(line.reader.barge(), &mut |event| line.events.push(event));
    line.pull(160);
    assert_eq!(line.events, [over(160, PlayEnd::Stopped)]);
}

#[test]
fn more_than_two_find_no_room() {
    let mut line = Line::new();
    let tone = || Tone::named(NamedTone::Dial, Region::Europe, None);
    let results: Vec<bool> = (0..3)
        .map(|_| {
            let (player, _) = Player::tone(PlayId(1), tone(), PlayOptions::default(), 0);
            line.add(player)
        })
        .collect();
    assert_eq!(results, [true, true, false]);
    assert_eq!(line.events, [over(0, PlayEnd::Failed)]);
}

/// The amplitude of a frequency.
fn amplitude(samples: &[f32], hz: f64) -> f64 {
    let (mut re, mut im) = (0.0, 0.0);
    for (n, &s) in samples.iter().enumerate() {
        let phase = hz * std::f64::consts::TAU * n as f64 / 8_000.0;
        re += f64::from(s) * phase.cos();
        im += f64::from(s) * phase.sin();
    }
    2.0 * (re * re + im * im).sqrt() / samples.len() as f64
}

fn sounds(mut tone: Tone, ms: usize) -> Vec<f32> {
    (0..ms * 8).map_while(|_| tone.next()).collect()
}

#[test]
fn named_tones_have_their_frequencies_and_cadences() {
    let (eu, us) = (Region::Europe, Region::NorthAmerica);
    for (tone, region, hz, on, off) in [
        (NamedTone::Ringback, eu, &[425.0][..], 1_000, 4_000),
        (NamedTone::Ringback, us, &[440.0, 480.0], 2_000, 4_000),
        (NamedTone::Busy, eu, &[425.0], 500, 500),
        (NamedTone::Busy, us, &[480.0, 620.0], 500, 500),
        (NamedTone::Congestion, eu, &[425.0], 250, 250),
        (NamedTone::Congestion, us, &[480.0, 620.0], 250, 250),
    ] {
        let out = sounds(Tone::named(tone, region, None), 2 * (on + off));
        for start in [0, on + off] {
            let sound = &out[start * 8 + 80..(start + on) * 8 - 80];
            for hz in hz {
                let db = 20.0 * amplitude(sound, *hz).log10();
                assert!((db + 16.0).abs() < 0.3, "{tone:?} {region:?}: {hz} Hz at {db:.1} dB");
            }
            assert!(out[(start + on) * 8..(start + on + off) * 8].iter().all(|&s| s == 0.0), "{tone:?} {region:?}");
        }
        assert!(out.windows(2).all(|w| (w[1] - w[0]).abs() < 0.2), "no click");
    }
    let dial = sounds(Tone::named(NamedTone::Dial, us, Some(3_000)), 9_000);
    assert_eq!(dial.len(), 24_000, "it ends when it was to");
    assert!(amplitude(&dial, 350.0) > 0.15 && amplitude(&dial, 440.0) > 0.15 && dial[23_999].abs() < 0.02);
    let sit = sounds(Tone::named(NamedTone::Sit, eu, None), 9_000);
    assert_eq!(sit.len(), 990 * 8);
    for (n, hz) in [950.0, 1_400.0, 1_800.0].into_iter().enumerate() {
        assert!(amplitude(&sit[n * 2_640..(n + 1) * 2_640], hz) > 0.14);
    }
    assert_eq!(sounds(Tone::named(NamedTone::Beep, eu, None), 9_000).len(), 2_000);
}

#[test]
fn strange_tones_are_silent_or_over_and_nothing_worse() {
    assert!(sounds(Tone::new(&[], None), 10).is_empty());
    assert!(sounds(Tone::new(&[Segment::new(&[1.0], 0, 10)], None), 10).is_empty());
    assert!(sounds(Tone::named(NamedTone::Dial, Region::Europe, Some(0)), 10).is_empty());
    let odd = Segment::new(&[f32::NAN, -5.0, 1e9, 440.0, 5.0], u32::MAX, u32::MAX);
    assert!(sounds(Tone::new(&[odd; 9], Some(u32::MAX)), 100).iter().all(|s| s.abs() < 1.0));
}

fn wav(folder: &Path, name: &str, spec: WavSpec, seconds: f64) -> PathBuf {
    let path = folder.join(name);
    let mut writer = WavWriter::create(&path, spec).unwrap();
    for n in 0..(f64::from(spec.sample_rate) * seconds) as usize {
        let sample = 0.4 * (std::f64::consts::TAU * 1_000.0 * n as f64 / f64::from(spec.sample_rate)).sin();
        for channel in 0..spec.channels {
            // all of the tone is in the first channel
            let sample = if channel == 0 { sample } else { 0.0 };
            match spec.sample_format {
                SampleFormat::Float => writer.write_sample(sample as f32).unwrap(),
                SampleFormat::Int => {
                    let full = 2.0_f64.powi(i32::from(spec.bits_per_sample) - 1);
                    writer.write_sample((sample * full) as i32).unwrap();
                }
            }
        }
    }
    writer.finalize().unwrap();
    path
}

#[test]
fn files_of_any_rate_depth_and_number_of_channels_come_out_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let feeder = Feeder::start().unwrap();
    let specs = [
        (8_000, 1, 16, SampleFormat::Int),
        (11_025, 1, 8, SampleFormat::Int),
        (44_100, 2, 24, SampleFormat::Int),
        (22_050, 2, 32, SampleFormat::Int),
        (48_000, 1, 32, SampleFormat::Float),
    ];
    for (n, (sample_rate, channels, bits_per_sample, sample_format)) in specs.into_iter().enumerate() {
        let spec = WavSpec { channels, sample_rate, bits_per_sample, sample_format };
        // longer than the ring
        let path = wav(folder.path(), &format!("{n}.wav"), spec, 3.1);
        let mut line = Line::new();
        let (player, _, filler) = Player::file(PlayId(1), PlayOptions::default(), 0);
        assert!(line.add(player));
        feeder.jobs().unwrap().feed(WavSource::open(&path).unwrap(), filler);
        let mut out = Vec::new();
        let begun = Instant::now();
        while line.events.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never ended");
            // this test is faster than the disk
            let Some(Source::File { samples, feed }) = line.players.list.first().map(|player| &player.source) else {
                panic!("the player is gone");
            };
            if samples.slots() >= 160 || feed.ended().is_some() {
                out.extend(line.pull(160));
            }
            std::thread::yield_now();
        }
        assert_eq!(line.events, [over(24_800, PlayEnd::End)], "{spec:?}");
        assert_eq!(line.counters.play_underruns.get(), 0);
        let level = amplitude(&out[2_000..6_000], 1_000.0) * f64::from(channels);
        assert!(level > 0.2, "{spec:?}: {level}");
    }
}

#[test]
fn what_cannot_be_played_is_said_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let said = |path: &Path| WavSource::open(path).unwrap_err().to_string();
    assert!(said(&at("nothing.wav")).contains("No such file"));
    assert!(said(folder.path()).ends_with("not a file"));
    assert!(said(Path::new("/dev/zero")).ends_with("not a file"));
    for (name, bytes) in [
        ("empty.wav", &b""[..]),
        ("text.wav", b"hello, this is no sound at all, is it?"),
        ("half.wav", b"RIFF\xff\xff\xff\xffWAVEfmt "),
    ] {
        std::fs::File::create(at(name)).unwrap().write_all(bytes).unwrap();
        assert!(said(&at(name)).contains("not a WAV file"), "{}", said(&at(name)));
    }
    let spec = WavSpec { channels: 1, sample_rate: 1_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let path = wav(folder.path(), "slow.wav", spec, 0.1);
    assert!(said(&path).contains("cannot resample from 1000 Hz"), "{}", said(&path));
    // a header that promises 5 hours
    let path = wav(folder.path(), "long.wav", WavSpec { sample_rate: 8_000, ..spec }, 0.1);
    let mut bytes = std::fs::read(&path).unwrap();
    let length = (5_u32 * 3_600 * 16_000).to_le_bytes();
    let at = bytes.windows(4).position(|w| w == b"data").unwrap() + 4;
    bytes[at..at + 4].copy_from_slice(&length);
    std::fs::write(&path, bytes).unwrap();
    assert!(said(&path).contains("18000 s long"), "{}", said(&path));
}

#[test]
fn a_file_that_is_cut_off_ends_with_failure_after_what_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let spec = WavSpec { channels: 1, sample_rate: 8_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
    let path = wav(folder.path(), "cut.wav", spec, 0.5);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let mut source = WavSource::open(&path).unwrap();
    let mut samples = 0;
    let end = loop {
        match source.read(|block| samples += block.len()) {
            Ok(true) => {}
            end => break end,
        }
    };
    assert!(end.is_err() && samples >= 1_024, "{end:?} after {samples}");
}
