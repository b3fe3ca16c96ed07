//! The receiving half of a call: what a datagram is, whether it is the far end's, and what becomes of it.

use std::net::SocketAddr;

use super::{MediaCall, MediaEvent, Retired};
use crate::TICK_SAMPLES;
use crate::clean::Cleaner;
use crate::clock::{Time, read_clock};
use crate::codec::{COMFORT_NOISE_PAYLOAD_TYPE, Codec};
use crate::dtmf;
use crate::event::KeysBy;
use crate::playout::{AudioPacket, Inserted};
use crate::rtp::demux::Datagram;
use crate::rtp::packet::{Packet, peek};
use crate::rtp::rtcp;
use crate::rtp::source::Verdict;
use crate::rtp::srtp::Refusal;

/// What a payload type stands for in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Audio(Codec),
    Keys { clock_rate_hz: u32 },
    Noise,
}

impl MediaCall {
    /// Takes a datagram of the RTP port. `arrival` is when the kernel received it. What is encrypted is decrypted in its
    /// place.
    pub fn on_packet(&mut self, arrival: Time, source: SocketAddr, datagram: &mut [u8]) {
        match Datagram::classify(datagram) {
            Datagram::Rtp => self.on_rtp(arrival, source, datagram),
            Datagram::Rtcp => self.on_rtcp(arrival, source, datagram),
            Datagram::Stun => self.counters.stun_packets.add(1),
            Datagram::Dtls => self.counters.dtls_packets.add(1),
            Datagram::Unknown => self.counters.bad_packets.add(1),
        }
    }

    /// Takes a datagram of the RTCP port.
    pub fn on_rtcp(&mut self, arrival: Time, source: SocketAddr, datagram: &mut [u8]) {
        if !self.latch.is_far_host(source) {
            self.counters.foreign_packets.add(1);
            return;
        }
        let mut length = datagram.len();
        if let Some(srtp) = &mut self.srtp {
            match srtp.unprotect_rtcp(arrival, datagram) {
                Ok(plain) => length = plain,
                Err(refusal) => return self.count_refused(arrival, refusal),
            }
        }
        let Some(report) = datagram.get(..length).and_then(|plain| rtcp::parse(plain, self.ssrc)) else {
            self.counters.bad_packets.add(1);
            return;
        };
        if let Some(echo) = report.sender_report {
            self.last_sender_report = Some((echo, arrival));
        }
        if report.is_report {
            self.health.on_report(report.about_us.map(|block| block.highest_sequence), self.counters.sent.get());
        }
        if let Some(about_us) = report.about_us {
            let loss = f32::from(about_us.fraction_lost) / 256.0;
            self.counters.far_loss.set(loss);
            self.encoder.expect_loss(loss);
            let clock_rate_khz = self.params.codec.clock_rate_hz() as f32 / 1_000.0;
            self.counters.far_jitter_ms.set(about_us.jitter as f32 / clock_rate_khz);
            let now = rtcp::middle(rtcp::ntp_time(read_clock(libc::CLOCK_REALTIME)));
            if let Some(ms) = about_us.round_trip_ms(now) {
                self.counters.round_trip_ms.set(ms);
            }
        }
    }

    fn on_rtp(&mut self, arrival: Time, source: SocketAddr, datagram: &mut [u8]) {
        let length = if self.srtp.is_none() { Some(datagram.len()) } else { self.decrypt(arrival, source, datagram) };
        let Some(length) = length else { return };
        let packet = datagram.get(..length).and_then(Packet::parse);
        let Some(packet) = packet else {
            self.counters.bad_packets.add(1);
            return;
        };
        let Some(kind) = self.kind(packet.payload_type) else {
            return self.on_unknown_payload(arrival, source, packet.payload_type);
        };
        match self.latch.judge(arrival, source, packet.ssrc, packet.sequence) {
            Verdict::Accept => {}
            Verdict::Moved => self.counters.relatches.add(1),
            Verdict::Foreign => {
                self.counters.foreign_packets.add(1);
                self.health.note_foreign(arrival, source);
                return;
            }
        }
        self.heard_at = self.heard_at.max(arrival);
        if !self.params.receive {
            return;
        }
        self.counters.received.add(1);
        self.counters.received_bytes.add(packet.payload.len() as u64);
        match kind {
            Kind::Audio(codec) => self.on_audio(arrival, codec, &packet),
            Kind::Keys { clock_rate_hz } => {
                self.count(&packet);
                self.playout.note_other(packet.ssrc, packet.sequence);
                if let Some(detectors) = &mut self.detectors {
                    detectors.on_event();
                }
                let heard = self.keys_in.on_packet(arrival, packet.timestamp, clock_rate_hz, packet.payload);
                if let Some(heard) = heard {
                    self.on_key(heard);
                }
            }
            Kind::Noise => {
                self.count(&packet);
                self.health.note_noise(arrival);
                if let Some(&level) = packet.payload.first() {
                    self.playout.comfort_noise(packet.ssrc, packet.sequence, level & 0x7F);
                }
            }
        }
    }

    /// Decrypts a packet that may be the far end's; its length, or `None` if it was counted and is done with. Whom to
    /// believe is only ever decided by what was authentic, but what is foreign anyhow costs no decryption.
    fn decrypt(&mut self, arrival: Time, source: SocketAddr, datagram: &mut [u8]) -> Option<usize> {
        let Some((payload_type, ssrc)) = peek(datagram) else {
            self.counters.bad_packets.add(1);
            return None;
        };
        if self.kind(payload_type).is_none() {
            self.on_unknown_payload(arrival, source, payload_type);
            return None;
        }
        if !self.latch.may_accept(arrival, source, ssrc) {
            self.counters.foreign_packets.add(1);
            self.health.note_foreign(arrival, source);
            return None;
        }
        match self.srtp.as_mut()?.unprotect_rtp(arrival, datagram) {
            Ok(length) => Some(length),
            Err(refusal) => {
                self.count_refused(arrival, refusal);
                None
            }
        }
    }

    fn on_unknown_payload(&mut self, arrival: Time, source: SocketAddr, payload_type: u8) {
        self.counters.bad_packets.add(1);
        if self.latch.is_far_host(source) {
            self.health.note_unknown_payload(arrival, payload_type);
        }
    }

    fn count_refused(&mut self, arrival: Time, refusal: Refusal) {
        match refusal {
            Refusal::Malformed => self.counters.bad_packets.add(1),
            Refusal::Unauthentic => {
                self.counters.srtp_unauthentic.add(1);
                self.health.note_unauthentic(arrival);
            }
            Refusal::Replayed => self.counters.srtp_replayed.add(1),
        }
    }

    fn kind(&self, payload_type: u8) -> Option<Kind> {
        if payload_type == self.params.receive_payload_type {
            return Some(Kind::Audio(self.params.codec));
        }
        if let Some(keys) = self.params.telephone_event.filter(|keys| keys.receive_payload_type == payload_type) {
            return Some(Kind::Keys { clock_rate_hz: keys.clock_rate_hz });
        }
        if payload_type == COMFORT_NOISE_PAYLOAD_TYPE || Some(payload_type) == self.params.comfort_noise {
            return Some(Kind::Noise);
        }
        // some gateways flip between the two laws in mid-call; their numbers are fixed, so there is no doubt
        Codec::of_static_payload_type(payload_type).map(Kind::Audio)
    }

    fn on_audio(&mut self, arrival: Time, codec: Codec, packet: &Packet<'_>) {
        let audio = AudioPacket {
            ssrc: packet.ssrc,
            sequence: packet.sequence,
            timestamp: packet.timestamp,
            codec,
            payload: packet.payload,
        };
        match self.playout.insert(arrival, &audio) {
            Inserted::Accepted => {
                if codec.is_pause(packet.payload) {
                    self.playout.note_other(packet.ssrc, packet.sequence);
                }
                self.health.audio_came = true;
                self.count(packet);
            }
            Inserted::Late => {
                self.count(packet);
                self.counters.late.add(1);
            }
            Inserted::Restarted => {
                self.counters.resyncs.add(1);
                self.reception.restart(packet.ssrc, packet.sequence);
                self.count(packet);
                if let Some(heard) = self.keys_in.reset() {
                    self.on_key(heard);
                }
            }
            Inserted::Duplicate => {
                self.counters.duplicates.add(1);
                return;
            }
            Inserted::Suspicious | Inserted::Unusable => {
                self.counters.bad_packets.add(1);
                return;
            }
        }
        self.reception.measure(arrival, packet.timestamp, codec.clock_rate_hz());
        self.counters.jitter_ms.set(self.reception.jitter_ms() as f32);
    }

    /// Passes what was heard in a tick to the ears and the subscribers, cleaned if that is wanted.
    pub(super) fn pass_to_taps(&mut self, heard: &[f32; TICK_SAMPLES]) {
        let (taps, counters) = (&mut self.taps, &self.counters);
        let mut pass = |samples: &[f32]| taps.iter_mut().for_each(|tap| tap.push(samples, counters));
        match &mut self.cleaner {
            Some(cleaner) => cleaner.process(heard, pass),
            None => pass(heard),
        }
    }

    /// Cleans by these parts from now on. The ears' clock goes on without a gap.
    pub(super) fn clean_by(&mut self, mut cleaner: Option<Box<Cleaner>>) {
        match (&mut cleaner, &mut self.cleaner) {
            (Some(next), Some(before)) => next.take_over(before),
            (None, Some(before)) => {
                let rest = before.rest();
                self.taps.iter_mut().for_each(|tap| tap.push(rest, &self.counters));
            }
            (_, None) => {}
        }
        self.retired = std::mem::replace(&mut self.cleaner, cleaner).map(Retired::Cleaner);
    }

    fn count(&mut self, packet: &Packet<'_>) {
        if self.reception.count(packet.ssrc, packet.sequence) {
            self.counters.reordered.add(1);
        }
        self.counters.lost.set(self.reception.lost());
    }

    pub(super) fn on_key(&mut self, heard: dtmf::Heard) {
        if self.detectors.as_mut().is_some_and(|detectors| detectors.told_already(heard.digit)) {
            return;
        }
        self.counters.digits_received.add(1);
        self.say(MediaEvent::Digit { digit: heard.digit, duration: heard.duration, by: KeysBy::Event });
    }
}
