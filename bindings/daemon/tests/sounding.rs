//! What a client does to the sound of a call between two real daemons: files and tones, effects, pauses that are not sent.

mod site;

use std::f32::consts::TAU;
use std::path::Path;

use control::types::{
    AudioEffects, CallGet, CallHangup, CallId, CallState, Effect, ErrorCode, Event, PlayFile, PlayMode, PlayReason,
    PlayStop, PlayTone, Voice,
};
use control::{ControlError, types::CallHold};
use mr_sip::demo::servers::DaemonSetup;
use site::{Site, connect};

/// How much of what is heard has this frequency, from 0 to 1.
fn share_of(heard: &[i16], hz: f32) -> f32 {
    let (mut cosine, mut sine, mut energy) = (0.0_f32, 0.0_f32, 1.0_f32);
    for (n, &sample) in heard.iter().enumerate() {
        let (angle, sample) = (TAU * hz * n as f32 / 8_000.0, f32::from(sample));
        cosine += sample * angle.cos();
        sine += sample * angle.sin();
        energy += sample * sample;
    }
    2.0 * (cosine * cosine + sine * sine) / (energy * heard.len() as f32)
}

fn level(heard: &[i16]) -> f32 {
    (heard.iter().map(|&s| f32::from(s).powi(2)).sum::<f32>() / heard.len() as f32).sqrt()
}

fn finished(site: &mut Site, number: u64) -> (PlayReason, u64) {
    site.wait("the end of a player", |event| match event {
        Event::PlayFinished { play, reason, played_ms, .. } if *play == number => Some((*reason, *played_ms)),
        _ => None,
    })
}

fn tone(call: CallId, hz: f32) -> PlayTone {
    serde_json::from_value(serde_json::json!({"call": call, "frequencies_hz": [hz]})).unwrap()
}

#[test]
fn tones_and_files_are_heard_at_the_far_end_until_they_end_or_are_stopped() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let (call, at_theirs) = connect(&mut ours, &mut theirs);
    let play = ours.client.request(&tone(call, 1_000.0)).unwrap().play;
    theirs.listen(at_theirs, 300);
    let heard = theirs.listen(at_theirs, 500);
    assert!(share_of(&heard, 1_000.0) > 0.9, "{}", share_of(&heard, 1_000.0));
    ours.client.request(&PlayStop { call, play }).unwrap();
    assert_eq!(finished(&mut ours, play).0, PlayReason::Stopped);
    match ours.client.request(&PlayStop { call, play }) {
        Err(ControlError::Api(error)) => assert_eq!(error.code(), Some(ErrorCode::NoSuchResponse), "{error}"),
        other => panic!("{other:?}"),
    }

    // a file of another rate, instead of the voice, which goes on behind it
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sound.wav");
    write_wav(&path, 22_050, (0..22_050).map(|n| 8_000.0 * (TAU * 700.0 * n as f32 / 22_050.0).sin()));
    let file =
        PlayFile { call, path: path.display().to_string(), mode: PlayMode::Instead, bargeable: false, gain_db: 0.0 };
    let play = ours.client.request(&file).unwrap().play;
    let response = ours.start_speaking(call);
    let heard = theirs.listen(at_theirs, 600);
    assert!(share_of(&heard[2_400..], 700.0) > 0.9, "{}", share_of(&heard[2_400..], 700.0));
    let (reason, played_ms) = finished(&mut ours, play);
    assert_eq!(reason, PlayReason::End);
    assert!((990..=1_020).contains(&played_ms), "{played_ms} ms");
    ours.wait("the voice that waited", |event| {
        matches!(event, Event::ResponseFinished { response: over, .. } if *over == response).then_some(())
    });
    let missing = PlayFile { path: folder.path().join("none.wav").display().to_string(), ..file };
    assert!(ours.client.request(&missing).unwrap_err().to_string().contains("none.wav"));
}

fn write_wav(path: &Path, sample_rate: u32, samples: impl Iterator<Item = f32>) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut wav = hound::WavWriter::create(path, spec).unwrap();
    for sample in samples {
        wav.write_sample(sample as i16).unwrap();
    }
    wav.finalize().unwrap();
}

/// Chords that change twice a second, 12 s of them.
fn write_music(path: &Path) {
    let chords = [[220.0, 277.2, 329.6], [246.9, 293.7, 370.0], [196.0, 246.9, 293.7], [220.0, 261.6, 329.6]];
    let sample = |n: usize| {
        let (chord, since) = (chords[n / 4_000 % chords.len()], (n % 4_000) as f32 / 8_000.0);
        let note = |hz: f32| (1..9).map(|k| (TAU * hz * k as f32 * since).sin() / k as f32).sum::<f32>();
        2_000.0 * chord.map(note).iter().sum::<f32>() * (-2.0 * since).exp()
    };
    write_wav(path, 8_000, (0..12 * 8_000).map(sample));
}

#[test]
fn who_dialled_is_told_of_the_music_that_is_played_to_it() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let (_, at_theirs) = connect(&mut ours, &mut theirs);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("music.wav");
    write_music(&path);
    let file = PlayFile {
        call: at_theirs,
        path: path.display().to_string(),
        mode: PlayMode::Instead,
        bargeable: false,
        gain_db: 0.0,
    };
    theirs.client.request(&file).unwrap();
    let (playing, confidence) = ours.wait("music", |event| match event {
        Event::CallMusic { playing, confidence, .. } => Some((*playing, *confidence)),
        _ => None,
    });
    assert!(playing && (0.6..=0.95).contains(&confidence), "{confidence}");
}

#[test]
fn effects_change_what_the_far_end_hears_while_the_call_runs() {
    let (mut ours, mut theirs) = (Site::asking(), Site::answering());
    let (call, at_theirs) = connect(&mut ours, &mut theirs);
    ours.client.request(&tone(call, 1_000.0)).unwrap();
    theirs.listen(at_theirs, 300);
    let before = level(&theirs.listen(at_theirs, 300));
    let gain = |db: f64| AudioEffects {
        call,
        direction: Voice::Agent,
        chain: vec![Effect { name: "gain".into(), parameters: [("gain_db".to_owned(), db)].into() }],
    };
    ours.client.request(&gain(-20.0)).unwrap();
    theirs.listen(at_theirs, 300);
    let after = level(&theirs.listen(at_theirs, 300));
    assert!((0.08..0.13).contains(&(after / before)), "-20 dB: {before} became {after}");
    assert!(ours.client.request(&gain(100.0)).is_err());
    // what is heard, at the end that hears it
    let chain = vec![Effect { name: "gain".into(), parameters: [("gain_db".to_owned(), 20.0)].into() }];
    theirs.client.request(&AudioEffects { call: at_theirs, direction: Voice::Caller, chain }).unwrap();
    theirs.listen(at_theirs, 300);
    let again = level(&theirs.listen(at_theirs, 300));
    assert!((0.8..1.25).contains(&(again / before)), "and back: {before} became {again}");
}

#[test]
fn where_both_want_it_a_pause_is_not_sent() {
    // comfort noise every 500 ms; with Opus two packets every 400 ms
    for (codec, most) in [("PCMU", 12), ("OPUS", 16)] {
        let media = format!("comfort_noise = true\ncodecs = [\"{codec}\"]");
        let mut ours = Site::new(&DaemonSetup { media: &media, ..DaemonSetup::default() });
        let mut theirs = Site::new(&DaemonSetup { media: &media, incoming: "auto", ..DaemonSetup::default() });
        let (call, at_theirs) = connect(&mut ours, &mut theirs);
        let sent = |site: &mut Site| site.client.request(&CallGet { call }).unwrap().stats.unwrap().sent;
        theirs.listen(at_theirs, 500);
        let before = sent(&mut ours);
        theirs.listen(at_theirs, 2_000);
        let pause = sent(&mut ours) - before;
        assert!(pause <= most, "{codec}: {pause} packets in two seconds of nothing");
        ours.speak(call);
        let spoken = sent(&mut ours) - before - pause;
        assert!(spoken >= 45, "{codec}: {spoken} packets in a second of speech");
        ours.client.request(&CallHold::new(call)).unwrap();
        ours.hold();
        ours.client.request(&CallHangup::new(call)).unwrap();
        assert!(theirs.ended().state == CallState::Ended);
    }
}
