//! One call's media, driven by a script that is the input.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use engine::{
    CallId, Codec, MediaParams, SrtpSuite, TICK, TelephoneEvent,
    call::{MediaCall, MediaCallConfig},
    clock::Time,
};

use crate::{SRTP_ROOM, params, sessions};

/// More packets than this show nothing new.
const MAX_STEPS: usize = 256;

/// Packets come, each after some ticks: the call goes on sending, and nothing that it hears is beyond full scale.
///
/// The first byte of a script chooses the codec (bits 0 and 1) and the encryption (bits 2 and 3). Then come steps of two bytes, a
/// packet's length and how it comes, and the packet. Of the second byte, bits 0 to 3 are ticks that pass before, bit 4 makes a
/// tick late by ten, bit 5 a stranger's, bit 6 RTCP, bit 7 puts a good RTP header in front and encrypts if that was agreed.
pub fn call(data: &[u8]) {
    let Some((choice, script)) = data.split_first() else { return };
    let far_end = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 9), 4_000));
    let stranger = SocketAddr::from((Ipv4Addr::new(198, 51, 100, 1), 4_000));
    let (mut call, mut controls) = MediaCall::new(config(far_end, *choice));
    let mut far_srtp = suite(*choice).map(|suite| sessions(suite).1);
    let (mut now, mut ticks, mut sent, mut sequence) = (Time::ZERO, 0_usize, 0_usize, 0_u16);
    let mut rest = script;
    for _ in 0..MAX_STEPS {
        let Some((&[length, how], bytes)) = rest.split_first_chunk::<2>() else { break };
        let (packet, later) = bytes.split_at(usize::from(length).min(bytes.len()));
        rest = later;
        let late = if how & 0x10 == 0 { 1 } else { 10 };
        for _ in 0..how & 0x0F {
            now += TICK * late;
            ticks += late as usize;
            call.tick(now);
            while let Some(packet) = call.poll_transmit() {
                sent += usize::from(!packet.rtcp);
            }
            while call.poll_event().is_some() {}
            while let Ok(sample) = controls.ears.samples.pop() {
                assert!(sample.abs() <= 1.0, "a sample of {sample}");
            }
        }
        let source = if how & 0x20 == 0 { far_end } else { stranger };
        let mut bytes = Vec::new();
        if how & 0x80 != 0 {
            bytes = header(codec(*choice), sequence);
            sequence = sequence.wrapping_add(1);
        }
        bytes.extend_from_slice(packet);
        if let Some(srtp) = far_srtp.as_mut().filter(|_| how & 0x80 != 0) {
            let length = bytes.len();
            bytes.resize(length + SRTP_ROOM, 0);
            let sealed = srtp.protect_rtp(&mut bytes, length);
            bytes.truncate(sealed);
        }
        if how & 0x40 == 0 {
            call.on_packet(now, source, &mut bytes);
        } else {
            call.on_rtcp(now, source, &mut bytes);
        }
    }
    assert!(sent * 4 <= ticks + 4, "{sent} packets in {ticks} ticks");
}

fn codec(choice: u8) -> (Codec, u8) {
    match choice & 3 {
        0 => (Codec::Pcmu, 0),
        1 => (Codec::Pcma, 8),
        2 => (Codec::G722, 9),
        _ => (Codec::Opus, 111),
    }
}

fn suite(choice: u8) -> Option<SrtpSuite> {
    match choice >> 2 & 3 {
        1 => Some(SrtpSuite::AesCm128HmacSha1_80),
        2 => Some(SrtpSuite::AesCm128HmacSha1_32),
        _ => None,
    }
}

fn header((codec, payload_type): (Codec, u8), sequence: u16) -> Vec<u8> {
    let mut bytes = vec![0x80, payload_type];
    bytes.extend(sequence.to_be_bytes());
    // packets of 20 ms
    bytes.extend((u32::from(sequence) * (codec.clock_rate_hz() / 50)).to_be_bytes());
    bytes.extend(77_u32.to_be_bytes());
    bytes
}

fn config(remote: SocketAddr, choice: u8) -> MediaCallConfig {
    let (codec, payload_type) = codec(choice);
    MediaCallConfig {
        id: CallId(1),
        params: MediaParams {
            telephone_event: Some(TelephoneEvent::new(101, codec.clock_rate_hz())),
            srtp: suite(choice).map(params),
            ..MediaParams::new(remote, codec, payload_type)
        },
        media_lost_after: Duration::from_secs(30),
        start: Time::ZERO,
        start_instant: Instant::now(),
        seed: 1,
        phase: 0,
        jack: None,
        record: None,
    }
}
