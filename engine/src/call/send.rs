//! The sending half of a call: one packet every packet time, whatever there is to say; and the reports.

use super::{MediaCall, MediaEvent, Outbox, enqueue, low32, report_interval, to_index};
use crate::TICK_SAMPLES;
use crate::clock::{Time, read_clock};
use crate::dtmf::{self, Slot};
use crate::jack::Route;
use crate::rtp::packet::{HEADER_BYTES, Packet};
use crate::rtp::rtcp;

impl MediaCall {
    /// One tick of the call's clock: 5 ms in, 5 ms out. `skipped`: its packet will not be sent.
    pub(super) fn one_tick(&mut self, skipped: bool) {
        let now = self.tick_due;
        let slot = (self.ticks - 1) % self.packet_ticks;
        let at = to_index(slot) * TICK_SAMPLES;
        let caller = &mut self.caller[at..at + TICK_SAMPLES];
        self.playout.pull(now, caller, &self.counters);
        for sample in &mut *caller {
            // cross-fades of loud, unrelated pieces add up to more than full scale, which nobody behind this expects
            *sample = sample.clamp(-1.0, 1.0);
        }
        for tap in &mut self.taps {
            tap.push(caller, &self.counters);
        }
        if self.detectors.is_some() {
            self.detect(at);
        }
        if let Some(heard) = self.keys_in.on_tick(now) {
            self.on_key(heard);
        }
        if at == 0 && self.params.send {
            let clock_rate_hz = self.params.telephone_event.map_or(8_000, |keys| keys.clock_rate_hz);
            self.slot = self.keys_out.slot(self.timestamp, self.params.sent_ptime_ms(), clock_rate_hz);
        }
        if !skipped {
            self.exchange_with_jack(now, at);
        }
        if slot + 1 == self.packet_ticks {
            if skipped {
                self.skip_packet();
            } else {
                self.send_packet();
            }
            self.timestamp = self.timestamp.wrapping_add(self.params.timestamp_step(self.packet_samples()));
        }
    }

    pub(super) fn packet_samples(&self) -> usize {
        to_index(self.packet_ticks) * TICK_SAMPLES
    }

    fn exchange_with_jack(&mut self, now: Time, at: usize) {
        let Some(jack) = &mut self.jack else { return };
        let mut agent = [0.0; TICK_SAMPLES];
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if self.params.send && self.slot == Slot::Audio {
            self.voice.pull(&mut agent, counters, &mut emit);
        } else {
            self.voice.idle(&mut emit); // the voice waits while a key sounds or the far end holds us
        }
        let instant = self.start_instant + now.since(self.start);
        let to_phone = &mut self.outgoing[at..at + TICK_SAMPLES];
        let route = jack.exchange(instant, &self.caller[at..at + TICK_SAMPLES], &agent, to_phone);
        self.voice.set_in_flight(jack.in_flight());
        self.collected = at + TICK_SAMPLES;
        let on_jack = route == Route::Jack;
        if on_jack != self.on_jack {
            self.on_jack = on_jack;
            self.say(if on_jack { MediaEvent::JackBack } else { MediaEvent::JackLost });
        }
    }

    fn send_packet(&mut self) {
        let samples = self.packet_samples();
        let collected = std::mem::take(&mut self.collected);
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if !self.params.send {
            self.voice.idle(&mut emit);
            self.outgoing.fill(0.0);
            self.record(samples);
            return;
        }
        let (payload_type, marker, timestamp);
        let payload = &mut self.rtp_out[HEADER_BYTES..];
        let key = self.params.telephone_event.zip(match self.slot {
            Slot::Event { marker, timestamp, payload, ends } => Some((marker, timestamp, payload, ends)),
            Slot::Audio | Slot::Tone { .. } => None,
        });
        let length = if let Some((keys, (first, start, event, ends))) = key {
            self.outgoing.fill(0.0);
            self.voice.idle(&mut emit);
            (payload_type, marker, timestamp) = (keys.payload_type, first, start);
            if ends {
                self.counters.digits_sent.add(1);
            }
            payload[..dtmf::EVENT_BYTES].copy_from_slice(&event);
            dtmf::EVENT_BYTES
        } else {
            if let Slot::Tone { ends } = self.slot {
                self.voice.idle(&mut emit);
                self.keys_out.sound(&mut self.outgoing[..samples]);
                counters.digits_sent.add(u64::from(ends));
            } else if collected < samples {
                self.voice.pull(&mut self.outgoing[collected..samples], counters, &mut emit);
            }
            (payload_type, marker, timestamp) = (self.params.payload_type, self.mark_next, self.timestamp);
            self.mark_next = false;
            self.encoder.encode(&self.outgoing[..samples], payload)
        };
        if length > 0 {
            self.finish_packet(payload_type, marker, timestamp, length);
        }
        self.record(samples);
    }

    /// Puts the header before the payload that lies in `rtp_out`, and encrypts what is to be encrypted.
    fn finish_packet(&mut self, payload_type: u8, marker: bool, timestamp: u32, length: usize) {
        let header = Packet { payload_type, marker, sequence: self.sequence, timestamp, ssrc: self.ssrc, payload: &[] };
        let mut written = match header.write(&mut self.rtp_out) {
            0 => return,
            header => header + length,
        };
        if let Some(srtp) = &mut self.srtp {
            written = srtp.protect_rtp(&mut self.rtp_out, written);
        }
        if written > 0 {
            self.outbox = Outbox::Rtp(written);
            self.sequence = self.sequence.wrapping_add(1);
            self.counters.sent.add(1);
            self.counters.sent_bytes.add(length as u64);
        }
    }

    fn skip_packet(&mut self) {
        self.counters.skipped.add(1);
        self.collected = 0;
        self.outgoing.fill(0.0);
        self.record(self.packet_samples());
    }

    /// Gives up the packet that is being collected, and begins one of another length. The timestamp tells the time that
    /// was collected so far.
    pub(super) fn begin_packet_anew(&mut self) {
        let begun = to_index(self.ticks % self.packet_ticks) * TICK_SAMPLES;
        self.outgoing.fill(0.0);
        self.record(begun);
        self.timestamp = self.timestamp.wrapping_add(self.params.timestamp_step(begun));
        (self.ticks, self.collected, self.slot) = (0, 0, Slot::Audio);
    }

    fn record(&mut self, samples: usize) {
        let Some(tap) = &mut self.record else { return };
        let lost = tap.push(&self.caller[..samples], &self.outgoing[..samples]);
        self.counters.record_lost_samples.add(lost as u64);
    }

    /// The thread stood still for so long that this much of the call is given up: whole packets, so that the phase stays.
    pub(super) fn leave_out(&mut self, packets: u64) {
        let samples = packets * self.packet_samples() as u64;
        for tap in &self.taps {
            tap.note_lost(samples, &self.counters);
        }
        if let Some(tap) = &mut self.record {
            let lost = tap.leave_out(samples) as u64;
            self.counters.record_lost_samples.add(samples + lost);
        }
        self.counters.skipped.add(packets);
        let step = u64::from(self.params.timestamp_step(1));
        self.timestamp = self.timestamp.wrapping_add(low32(samples.wrapping_mul(step)));
    }

    pub(super) fn report(&mut self, now: Time) {
        self.report_due = now + report_interval(u64::from(self.ssrc) ^ self.reports);
        self.reports += 1;
        let report = rtcp::Report {
            ssrc: self.ssrc,
            ntp: rtcp::ntp_time(read_clock(libc::CLOCK_REALTIME)),
            timestamp: self.timestamp,
            packets: low32(self.counters.sent.get()),
            bytes: low32(self.counters.sent_bytes.get()),
            heard: self.reception.report(),
            last_sender_report: self.last_sender_report,
        };
        self.report_length = rtcp::write_report(&report, now, &mut self.report_out);
        if let Some(srtp) = &mut self.srtp {
            self.report_length = srtp.protect_rtcp(&mut self.report_out, self.report_length);
        }
    }
}
