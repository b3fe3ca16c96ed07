//! The frame codec against whatever may come.

use mr_sip_control::ControlError;
use mr_sip_control::Encoding;
use mr_sip_control::frame::*;
use proptest::prelude::*;

/// Feeds `bytes` in pieces of the given sizes, in turn, and gives what comes out until the end or the first error.
fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<String>, Option<String>) {
    let mut decoder = Decoder::new();
    let mut out = Vec::new();
    let mut rest = bytes;
    let mut pieces = pieces.iter().cycle();
    loop {
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => out.push(format!("{frame:?}")),
                Ok(None) => break,
                Err(error) => return (out, Some(error.to_string())),
            }
        }
        if rest.is_empty() {
            return (out, None);
        }
        let space = decoder.space();
        assert!(!space.is_empty());
        let count = pieces.next().map_or(1, |piece| *piece).clamp(1, space.len()).min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
    }
}

fn json_frame(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    write_json(&mut out, text).unwrap();
    out
}

fn encoding() -> impl Strategy<Value = Encoding> {
    (0_u8..4).prop_map(|bits| Encoding::from_bits(bits).unwrap())
}

#[derive(Debug, Clone)]
enum Sent {
    Json(Vec<u8>),
    Audio(u16, Encoding, u64, u64, Vec<u8>),
}

fn sent() -> impl Strategy<Value = Sent> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..600).prop_map(Sent::Json),
        (any::<u16>(), encoding(), any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..600)).prop_map(
            |(channel, encoding, generation, ns, mut samples)| {
                samples.truncate(samples.len() / encoding.sample_bytes() * encoding.sample_bytes());
                Sent::Audio(channel, encoding, generation, ns, samples)
            }
        ),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Case 2: random bytes never panic, and mean the same however they are cut.
    #[test]
    fn random_bytes_mean_the_same_however_they_are_cut(
        bytes in prop::collection::vec(any::<u8>(), 0..4000),
        pieces in prop::collection::vec(1_usize..700, 1..8),
    ) {
        prop_assert_eq!(decode(&bytes, &pieces), decode(&bytes, &[usize::MAX]));
    }

    /// Random bytes behind a plausible header reach further than pure noise.
    #[test]
    fn random_payloads_never_panic(
        kind in 1_u8..3, flags in any::<u8>(), channel in any::<u16>(), claimed in 0_u32..64,
        payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut bytes = claimed.to_le_bytes().to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(channel.to_le_bytes());
        bytes.extend(payload);
        decode(&bytes, &[3]);
    }

    #[test]
    fn what_is_written_is_what_is_read(
        all in prop::collection::vec(sent(), 0..12),
        pieces in prop::collection::vec(1_usize..700, 1..8),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for one in &all {
            match one {
                Sent::Json(text) => {
                    write_json(&mut bytes, text).unwrap();
                    expected.push(format!("{:?}", Frame::Json(text)));
                }
                Sent::Audio(channel, encoding, generation, ns, samples) => {
                    write_audio(&mut bytes, *channel, *encoding, *generation, *ns, samples).unwrap();
                    let mut payload = generation.to_le_bytes().to_vec();
                    payload.extend(ns.to_le_bytes());
                    payload.extend(samples);
                    let view = AudioFrame::new_checked(*channel, encoding.bits(), &payload).unwrap();
                    prop_assert_eq!(
                        (view.channel(), view.encoding(), view.generation(), view.monotonic_ns(), view.samples()),
                        (*channel, *encoding, *generation, *ns, samples.as_slice())
                    );
                    expected.push(format!("{:?}", Frame::Audio(view)));
                }
            }
        }
        prop_assert_eq!(decode(&bytes, &pieces), (expected, None));
    }

    #[test]
    fn lines_are_what_stands_between_newlines(
        texts in prop::collection::vec("\\{[a-z\" :]{0,200}", 1..8),
        pieces in prop::collection::vec(1_usize..100, 1..8),
    ) {
        let bytes = texts.iter().flat_map(|text| [text.as_bytes(), b"\r\n\n"]).collect::<Vec<_>>().concat();
        let expected: Vec<_> = texts.iter().map(|text| format!("{:?}", Frame::Json(text.trim().as_bytes()))).collect();
        prop_assert_eq!(decode(&bytes, &pieces), (expected, None));
    }

    #[test]
    fn a_header_is_read_as_it_was_written(audio in any::<bool>(), flags in any::<u8>(), channel in any::<u16>(), len in 0..=MAX_PAYLOAD) {
        let header = if audio {
            Header::new(Kind::Audio, flags, channel, len)
        } else {
            Header::new(Kind::Json, 0, 0, len)
        }
        .unwrap();
        prop_assert_eq!(Header::parse(&header.to_bytes()).unwrap(), header);
    }
}

/// A frame of 123 bytes begins with `{` as well.
#[test]
fn frames_whose_length_begins_with_a_brace_are_frames() {
    for len in [0x7b, 0x17b, 0x227b, 0xa_227b] {
        let text = vec![b' '; len];
        let bytes = json_frame(&text);
        assert_eq!(bytes[0], b'{');
        assert_eq!(decode(&bytes, &[1]), (vec![format!("{:?}", Frame::Json(&text))], None), "{len}");
    }
}

#[test]
fn the_longest_frame_passes_and_one_byte_more_does_not() {
    let text = vec![b' '; MAX_PAYLOAD];
    assert_eq!(decode(&json_frame(&text), &[60_000]).0.len(), 1);
    assert!(matches!(
        write_json(&mut Vec::new(), &[text, vec![0]].concat()),
        Err(ControlError::FrameTooLong(1_048_577))
    ));
    let (frames, error) = decode(&[1, 0, 0x10, 0, 1, 0, 0, 0], &[1]);
    assert_eq!((frames.len(), error.as_deref()), (0, Some("frame of 1048577 bytes: at most 1048576 are allowed")));
}

#[test]
fn a_line_longer_than_a_frame_is_refused() {
    let mut bytes = vec![b'{'; MAX_PAYLOAD];
    bytes.push(b'\n');
    assert_eq!(decode(&bytes, &[50_000]).0.len(), 1);
    bytes.insert(0, b'{');
    assert_eq!(decode(&bytes, &[50_000]), (vec![], Some("line longer than 1048576 bytes".into())));
    // and it is not waited for
    assert_eq!(decode(&vec![b'{'; MAX_PAYLOAD + 2], &[50_000]).1.as_deref(), Some("line longer than 1048576 bytes"));
}

#[test]
fn broken_frames_are_told_apart() {
    let error = |bytes: &[u8]| decode(bytes, &[1]).1.unwrap();
    assert_eq!(error(&[0, 0, 0, 0, 3, 0, 0, 0]), "frame of unknown kind 3: known are 1 (JSON) and 2 (audio)");
    assert_eq!(error(&[0, 0, 0, 0, 1, 1, 0, 0]), "JSON frame with flags 1 and channel 0: both must be 0");
    assert_eq!(error(&[0, 0, 0, 0, 1, 0, 2, 1]), "JSON frame with flags 0 and channel 258: both must be 0");
    assert_eq!(
        error(&[0, 0, 0, 0, 2, 0, 0, 0]),
        "audio frame of 0 bytes: wanted 16 bytes of header, then whole samples"
    );
    let mut part_of_a_sample = vec![17, 0, 0, 0, 2, 0, 1, 0];
    part_of_a_sample.extend([0; 17]);
    assert_eq!(error(&part_of_a_sample), "audio frame of 17 bytes: wanted 16 bytes of header, then whole samples");
    part_of_a_sample[5] = 2; // u-law samples are single bytes
    assert_eq!(decode(&part_of_a_sample, &[1]).1, None);
    part_of_a_sample[5] = 4;
    assert!(error(&part_of_a_sample).starts_with("audio frame of unknown encoding 4"));
    assert!(matches!(write_audio(&mut Vec::new(), 1, Encoding::F32, 0, 0, &[0; 6]), Err(ControlError::BadAudio(22))));
}

/// Case 40: half a frame costs what was sent, not what it announces, however long it stays.
#[test]
fn half_a_frame_waits_and_costs_little() {
    let mut decoder = Decoder::new();
    let frame = json_frame(&[b' '; MAX_PAYLOAD]);
    for byte in &frame[..1000] {
        decoder.space()[0] = *byte;
        decoder.filled(1);
        assert!(decoder.next_frame().unwrap().is_none());
    }
    assert!(decoder.space().len() < 64 * 1024);
    let mut rest = &frame[1000..];
    while !rest.is_empty() {
        let space = decoder.space();
        let count = space.len().min(rest.len());
        space[..count].copy_from_slice(&rest[..count]);
        decoder.filled(count);
        rest = &rest[count..];
    }
    assert_eq!(decoder.next_frame().unwrap(), Some(Frame::Json(&[b' '; MAX_PAYLOAD])));
    assert_eq!(decoder.pending(), 0);
    // the memory of the long frame is given back
    assert!(decoder.space().len() < 64 * 1024);
}
