//! The ears from ring to event, with a fake recogniser in Whisper's place.

mod common;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{
    Fake, Phone, config, events_until, events_until_closed, finals, noise, partials, said, silence, start, tone,
    until_aborted, voice,
};
use mr_sip_asr::{BargeIn, CallSettings, EarsEvent, MAX_FINALS_PER_STREAM, RestartCause, StreamId, TurnPolicy};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Within a few frames: voice detection has a delay.
fn near(a: Duration, b: Duration) -> bool {
    a.abs_diff(b) <= ms(120)
}

#[test]
fn speech_comes_out_as_start_stop_and_final_at_its_own_times() {
    let ears = start(config(), &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&silence(1_000));
    phone.say(&voice(1_200));
    phone.say(&silence(1_000));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    let kinds: Vec<_> = events.iter().filter(|e| !matches!(e, EarsEvent::Partial { .. })).collect();
    let [
        EarsEvent::Onset { at: onset, .. },
        EarsEvent::SpeechStart { at: started, .. },
        EarsEvent::SpeechStop { at: stopped, .. },
        EarsEvent::Final { text, start, end, utterance: 1, latency, .. },
        EarsEvent::Closed { .. },
    ] = kinds[..]
    else {
        panic!("{events:#?}")
    };
    assert!(near(*started, ms(1_000)) && near(*stopped, ms(2_200)), "{events:#?}");
    assert_eq!((onset, start, end), (started, started, stopped));
    assert!(*latency >= ms(500), "the silence that was waited for counts");
    // pre-roll 0.3 + speech 1.2 + eager 0.2
    assert!(["16 tenths", "17 tenths", "18 tenths"].contains(&text.as_str()), "{text}");
}

#[test]
fn the_final_of_an_eager_end_is_neither_computed_nor_told_twice() {
    let fake = Fake::counting();
    let ears = start(config(), &fake);
    let mut phone = Phone::dial(&ears, 1);
    for _ in 0..3 {
        phone.say(&silence(400));
        phone.say(&voice(600));
        phone.say(&silence(800));
    }
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    assert_eq!(finals(&events).len(), 3);
    assert_eq!(fake.jobs(), 3, "one job an utterance");
    assert!(partials(&events).len() <= 3);
}

#[test]
fn words_after_a_short_pause_are_in_the_same_final() {
    let ears = start(config(), &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(600));
    phone.say(&silence(350));
    phone.say(&voice(600));
    phone.say(&silence(800));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    let texts = finals(&events);
    assert_eq!(texts.len(), 1);
    let tenths: u32 = texts[0].split(' ').next().unwrap().parse().unwrap();
    assert!(tenths >= 15, "{texts:?}");
}

#[test]
fn partials_are_told_while_the_caller_speaks_and_then_the_final() {
    let mut config = config();
    config.partial_interval = ms(500);
    let ears = start(config, &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    // half a second at a time, waiting for each partial: the test's clock is the stream's
    let mut heard = 0;
    phone.say(&voice(700));
    while heard < 3 {
        events_until(&ears, |e| matches!(e, EarsEvent::Partial { .. }));
        heard += 1;
        phone.say(&voice(700));
    }
    phone.say(&silence(800));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    assert_eq!(finals(&events).len(), 1);
}

#[test]
fn silence_noise_tones_and_blips_reach_no_recogniser_for_long() {
    let fake = Fake::new(|_, _, _| Ok(said("Thank you for watching.")));
    let ears = start(config(), &fake);
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&silence(5_000));
    phone.say(&voice(20));
    phone.say(&silence(2_000));
    phone.say(&noise(60, 0.3, 1));
    phone.say(&silence(2_000));
    while let Some(event) = ears.try_recv() {
        // it may have been somebody, and was nobody
        assert!(matches!(event, EarsEvent::Onset { .. } | EarsEvent::OnsetOver { .. }), "{event:?}");
    }
    phone.say(&noise(10_000, 0.02, 2));
    phone.say(&tone(10_000, 425.0, 0.2));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    // the onset of a steady sound may be taken for speech until it has become background: at most once each
    assert!(finals(&events).len() <= 2, "{events:#?}");
}

#[test]
fn text_that_is_not_believed_leaves_an_empty_final() {
    let fake = Fake::new(|_, _, _| {
        let mut heard = said("Thank you for watching.");
        heard.no_speech = 0.97;
        Ok(heard)
    });
    let ears = start(config(), &fake);
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(600));
    phone.say(&silence(800));
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    assert_eq!(finals(&events), [""]);
    assert!(partials(&events).is_empty());
}

/// Half an hour of speech without a pause, as fast as it is taken: cut, bounded, and nothing of it lost.
#[test]
fn half_an_hour_without_a_pause_is_cut_into_utterances() {
    let ears = start(config(), &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    let minute = voice(60_000);
    let mut spans = Vec::new();
    for _ in 0..30 {
        phone.say(&minute);
        spans.extend(std::iter::from_fn(|| ears.try_recv()));
    }
    ears.remove(phone.stream).unwrap();
    spans.extend(events_until_closed(&ears, phone.stream));
    let finals: Vec<_> = spans
        .iter()
        .filter_map(|e| match e {
            EarsEvent::Final { start, end, text, .. } => Some((*start, *end, text.is_empty())),
            _ => None,
        })
        // the last cut may fall on the end of the stream
        .filter(|(start, end, _)| start < end)
        .collect();
    assert!((90..=140).contains(&finals.len()), "{}", finals.len());
    assert!(finals.iter().all(|(start, end, empty)| !empty && *end - *start <= ms(20_100)), "{finals:?}");
    let heard: Duration = finals.iter().map(|(start, end, _)| *end - *start).sum();
    assert!(heard > Duration::from_secs(1_700), "{heard:?}");
}

/// A client that changes everything all the time does no harm.
#[test]
fn settings_that_change_in_the_middle_of_words_lose_none() {
    let ears = start(config(), &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    for n in 0..20_u64 {
        let turns = TurnPolicy {
            end_after: ms(300 + 20 * n),
            barge_in: BargeIn { min_words: (n % 3) as usize, ..BargeIn::default() },
            ..TurnPolicy::default()
        };
        ears.set(phone.stream, CallSettings { turns, ..CallSettings::default() }).unwrap();
        ears.agent_speaks(phone.stream, (n % 2 == 0).then_some("hello")).unwrap();
        phone.say(&voice(300));
        phone.say(&silence(if n % 4 == 3 { 1_600 } else { 100 }));
    }
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    assert_eq!(finals(&events).len(), 5, "{events:#?}");
    assert_eq!(ears.load().workers, 1);
}

#[test]
fn a_dropped_producer_ends_its_stream() {
    let ears = start(config(), &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(800));
    let stream = phone.stream;
    drop(phone);
    let events = events_until_closed(&ears, stream);
    assert_eq!(finals(&events).len(), 1, "its last words are kept");
}

/// Case 39: the recogniser dies.
#[test]
fn a_worker_that_panics_is_replaced_and_its_words_are_kept() {
    let mut config = config();
    config.test_panics = 1;
    let fake = Fake::counting();
    let ears = start(config, &fake);
    let mut phone = Phone::dial(&ears, 1);
    for _ in 0..2 {
        phone.say(&voice(600));
        phone.say(&silence(800));
    }
    ears.remove(phone.stream).unwrap();
    let events = events_until_closed(&ears, phone.stream);
    let restarts: Vec<_> = events
        .iter()
        .filter(|e| {
            matches!(e, EarsEvent::WorkerRestarted { worker: 0, stream: StreamId(1), cause: RestartCause::Panicked(_) })
        })
        .collect();
    assert_eq!(restarts.len(), 1);
    let texts = finals(&events);
    assert!(texts.len() == 2 && texts.iter().all(|t| !t.is_empty()), "{texts:?}");
    assert_eq!(*fake.made.lock().unwrap(), 2, "the one that died is not used again");
}

/// Case 39: it dies of the same words again and again.
#[test]
fn words_that_kill_two_workers_are_given_up_and_the_call_goes_on() {
    let mut config = config();
    config.test_panics = 2;
    let ears = start(config, &Fake::counting());
    let mut phone = Phone::dial(&ears, 1);
    for _ in 0..2 {
        phone.say(&voice(600));
        phone.say(&silence(800));
        // the second is said when the first is settled
        let events = events_until(&ears, |e| matches!(e, EarsEvent::Final { .. }));
        let Some(EarsEvent::Final { utterance, text, .. }) = events.last() else { unreachable!() };
        assert_eq!(text.is_empty(), *utterance == 1, "{events:#?}");
    }
}

/// Case 39: the recogniser stalls.
#[test]
fn a_worker_that_hangs_blocks_no_other_call_and_is_replaced() {
    let mut config = config();
    config.workers = 2;
    config.stuck_after = ms(1_500);
    let hung = Arc::new(AtomicBool::new(false));
    let release = Arc::new(AtomicBool::new(false));
    let fake = {
        let (hung, release) = (Arc::clone(&hung), Arc::clone(&release));
        // the first job hangs, deaf to its abort flag
        Fake::new(move |number, _, _| {
            if number == 0 {
                hung.store(true, Ordering::SeqCst);
                while !release.load(Ordering::SeqCst) {
                    std::thread::sleep(ms(1));
                }
            }
            Ok(said("hello"))
        })
    };
    let ears = start(config, &fake);
    let mut first = Phone::dial(&ears, 1);
    first.say(&voice(600));
    first.say(&silence(800));
    while !hung.load(Ordering::SeqCst) {
        std::thread::sleep(ms(1));
    }
    let mut second = Phone::dial(&ears, 2);
    second.say(&voice(600));
    second.say(&silence(800));
    let events = events_until(&ears, |e| matches!(e, EarsEvent::Final { .. }));
    assert_eq!(events.last().unwrap().stream(), second.stream);
    let mut restarted = false;
    events_until(&ears, |e| {
        restarted |= matches!(e, EarsEvent::WorkerRestarted { cause: RestartCause::Stuck, .. });
        matches!(e, EarsEvent::Final { stream: StreamId(1), text, .. } if text == "hello")
    });
    assert!(restarted);
    release.store(true, Ordering::SeqCst);
}

#[test]
fn a_partial_gives_way_to_another_calls_final() {
    let mut config = config();
    config.partial_interval = ms(500);
    let working = Arc::new(AtomicBool::new(false));
    let fake = {
        let working = Arc::clone(&working);
        // the first job, a partial, would take for ever
        Fake::new(move |number, _, abort| {
            if number == 0 {
                working.store(true, Ordering::SeqCst);
                return until_aborted(abort);
            }
            Ok(said("hello"))
        })
    };
    let ears = start(config, &fake);
    let mut talker = Phone::dial(&ears, 1);
    talker.say(&voice(700));
    while !working.load(Ordering::SeqCst) {
        std::thread::sleep(ms(1));
    }
    let mut other = Phone::dial(&ears, 2);
    other.say(&voice(600));
    other.say(&silence(800));
    let events = events_until(&ears, |e| matches!(e, EarsEvent::Final { stream: StreamId(2), .. }));
    assert_eq!(finals(&events).last().map(String::as_str), Some("hello"));
}

#[test]
fn finals_are_never_lost_however_far_behind_the_recogniser_is() {
    const UTTERANCES: usize = 3 * MAX_FINALS_PER_STREAM;
    let fake = Fake::new(|_, _, abort| {
        // slower than the words come
        std::thread::sleep(ms(20));
        if abort.load(Ordering::Relaxed) {
            return Err(mr_sip_asr::recognizer::RecognizeError::Aborted);
        }
        Ok(said("hello"))
    });
    let mut config = config();
    config.partial_interval = ms(200);
    let ears = start(config, &fake);
    let mut phones: Vec<_> = (1..=3).map(|stream| Phone::dial(&ears, stream)).collect();
    let threads: Vec<_> = phones
        .drain(..)
        .map(|mut phone| {
            std::thread::spawn(move || {
                for _ in 0..UTTERANCES {
                    phone.say(&voice(500));
                    phone.say(&silence(700));
                }
                // dropping the ring's end closes the stream
            })
        })
        .collect();
    let mut closed = 0;
    let events = events_until(&ears, |e| {
        closed += usize::from(matches!(e, EarsEvent::Closed { .. }));
        closed == 3
    });
    for thread in threads {
        thread.join().unwrap();
    }
    for stream in (1..=3).map(StreamId) {
        let numbers: Vec<u32> = events
            .iter()
            .filter_map(|e| match e {
                EarsEvent::Final { stream: of, utterance, text, .. } if *of == stream => {
                    assert_eq!(text, "hello");
                    Some(*utterance)
                }
                _ => None,
            })
            .collect();
        assert_eq!(numbers, (1..=UTTERANCES as u32).collect::<Vec<_>>(), "{stream}");
    }
}

#[test]
fn a_stream_that_is_taken_away_while_others_talk_leaves_them_alone() {
    let ears = start(config(), &Fake::counting());
    let mut gone = Phone::dial(&ears, 1);
    let mut stays = Phone::dial(&ears, 2);
    gone.say(&voice(600));
    stays.say(&voice(600));
    ears.remove(gone.stream).unwrap();
    ears.remove(StreamId(99)).unwrap();
    events_until_closed(&ears, gone.stream);
    stays.say(&silence(800));
    let events = events_until(&ears, |e| matches!(e, EarsEvent::Final { .. }));
    assert_eq!(events.last().unwrap().stream(), stays.stream);
}

#[test]
fn the_daemon_is_woken_for_events() {
    let woken = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&woken);
    let ears = mr_sip_asr::Ears::start_with(config(), Fake::counting(), move || {
        counter.fetch_add(1, Ordering::SeqCst);
    })
    .unwrap();
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(600));
    ears.remove(phone.stream).unwrap();
    events_until_closed(&ears, phone.stream);
    drop(ears);
    assert!(woken.load(Ordering::SeqCst) > 0);
}

#[test]
fn dropping_the_ears_in_the_middle_of_everything_ends_their_threads() {
    let fake = Fake::new(|_, _, abort| until_aborted(abort));
    let ears = start(config(), &fake);
    let mut phone = Phone::dial(&ears, 1);
    phone.say(&voice(600));
    phone.say(&silence(800));
    while fake.jobs() == 0 {
        std::thread::sleep(ms(1));
    }
    drop(ears);
    assert_eq!(Arc::strong_count(&fake), 1, "all threads are gone");
}

#[test]
fn settings_that_make_no_sense_are_refused_in_a_sentence() {
    let mut config = config();
    config.turns.end_after = ms(0);
    let error = mr_sip_asr::Ears::start_with(config, Fake::counting(), || {}).unwrap_err().to_string();
    assert!(error.contains("end_after"), "{error}");
}
