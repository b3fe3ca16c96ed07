//! The sending half of a call: one packet every packet time, whatever there is to say; and the reports.

use super::params::MAX_SENT_SAMPLES;
use super::silence::{NOISE_LEVEL, Transmit};
use super::{MediaCall, MediaEvent, Outbox, enqueue, low32, report_interval, to_index};
use crate::clock::{Time, read_clock};
use crate::dtmf::{self, Slot};
use crate::jack::Route;
use crate::rtp::packet::{HEADER_BYTES, Packet};
use crate::rtp::rtcp;
use crate::{TICK, TICK_SAMPLES};

impl MediaCall {
    /// The first half of a tick of the call's clock: 5 ms of the far end, and of what the agent says where that is wanted
    /// tick by tick.
    pub(crate) fn hear(&mut self) {
        self.ticks += 1;
        let (now, at) = (self.tick_due, self.at());
        // on the stack, which is in the caches
        let mut caller = [0.0; TICK_SAMPLES];
        self.playout.pull(now, &mut caller, &self.counters);
        for sample in &mut caller {
            // cross-fades of loud, unrelated pieces add up to more than full scale, which nobody behind this expects
            *sample = sample.clamp(-1.0, 1.0);
        }
        if self.detectors.is_some() {
            self.detect(&caller); // of what came over the line, whatever the effects make of it
        }
        self.caller_effects.process(&mut caller);
        self.pass_to_taps(&caller);
        if self.record.is_some() || self.bridged.is_on() {
            self.caller[at..at + TICK_SAMPLES].copy_from_slice(&caller);
        }
        if let Some(heard) = self.keys_in.on_tick(now) {
            self.on_key(heard);
        }
        if at == 0 && self.params.send {
            let clock_rate_hz = self.params.telephone_event.map_or(8_000, |keys| keys.clock_rate_hz);
            self.slot = self.keys_out.slot(self.timestamp, self.params.sent_ptime_ms(), clock_rate_hz);
        }
        if !self.is_skipped() {
            if self.jack.is_some() {
                self.exchange_with_jack(now, at, &caller);
            } else if self.bridged.is_on() {
                self.collect_voice(at);
            }
        }
    }

    /// The second half: the packet, if it is full.
    pub(crate) fn speak(&mut self) {
        if self.at() + TICK_SAMPLES == self.packet_samples() {
            if self.is_skipped() {
                self.skip_packet();
            } else {
                self.send_packet();
            }
            self.timestamp = self.timestamp.wrapping_add(self.params.timestamp_step(self.packet_samples()));
        }
        self.tick_due += TICK;
    }

    /// Where in the packet that is being collected the tick lies that is going on.
    pub(super) fn at(&self) -> usize {
        to_index((self.ticks.max(1) - 1) % self.packet_ticks) * TICK_SAMPLES
    }

    /// The packet that is being collected will not be sent: the thread was late, and a newer one is due.
    fn is_skipped(&self) -> bool {
        self.ticks + self.packet_ticks <= self.sends_from
    }

    pub(super) fn packet_samples(&self) -> usize {
        to_index(self.packet_ticks) * TICK_SAMPLES
    }

    fn exchange_with_jack(&mut self, now: Time, at: usize, caller: &[f32; TICK_SAMPLES]) {
        let Some(jack) = &mut self.jack else { return };
        let mut agent = [0.0; TICK_SAMPLES];
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if self.params.send && self.slot == Slot::Audio && !self.players.replace_voice() {
            self.voice.pull(&mut agent, counters, &mut emit);
        } else {
            self.voice.idle(&mut emit); // the voice waits while a key sounds or the far end holds us
        }
        let instant = self.start_instant + now.since(self.start);
        let to_phone = &mut self.outgoing[at..at + TICK_SAMPLES];
        let route = jack.exchange(instant, caller, &agent, to_phone);
        self.voice.set_in_flight(jack.in_flight());
        let [given_up, missing] = jack.totals();
        counters.jack_lost_samples.set(given_up);
        counters.jack_missing_samples.set(missing);
        counters.jack_error_ms.set(jack.stats().error() / 8.0);
        self.collected = at + TICK_SAMPLES;
        let on_jack = route == Route::Jack;
        if on_jack != self.on_jack {
            self.on_jack = on_jack;
            self.say(if on_jack { MediaEvent::JackBack } else { MediaEvent::JackLost });
        }
    }

    /// 5 ms of the agent's voice, for those that hear it within the tick.
    fn collect_voice(&mut self, at: usize) {
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        // what was not collected before the bridge began comes first
        let agent = &mut self.outgoing[self.collected.min(at)..at + TICK_SAMPLES];
        if self.params.send && self.slot == Slot::Audio && !self.players.replace_voice() {
            self.voice.pull(agent, counters, &mut emit);
        } else {
            self.voice.idle(&mut emit);
            agent.fill(0.0);
        }
        self.collected = at + TICK_SAMPLES;
    }

    fn send_packet(&mut self) {
        let samples = self.packet_samples();
        let collected = std::mem::take(&mut self.collected);
        // on the stack, which is in the caches
        let mut outgoing = [0.0; MAX_SENT_SAMPLES];
        let outgoing = &mut outgoing[..samples];
        let (events, counters) = (&mut self.events, &self.counters);
        let mut emit = |event| enqueue(events, counters, event);
        if !self.params.send {
            self.voice.idle(&mut emit);
            self.players.wait(self.voice.barge(), &mut emit);
            self.bridged.clear();
            self.agent_effects.finish();
            self.record(outgoing);
            return;
        }
        let (payload_type, marker, timestamp);
        let payload = &mut self.rtp_out[HEADER_BYTES..];
        let key = self.params.telephone_event.zip(match self.slot {
            Slot::Event { marker, timestamp, payload, ends } => Some((marker, timestamp, payload, ends)),
            Slot::Audio | Slot::Tone { .. } => None,
        });
        let length = if let Some((keys, (first, start, event, ends))) = key {
            self.bridged.clear();
            self.voice.idle(&mut emit);
            self.players.wait(self.voice.barge(), &mut emit);
            self.agent_effects.finish();
            (payload_type, marker, timestamp) = (keys.payload_type, first, start);
            if ends {
                self.counters.digits_sent.add(1);
            }
            payload[..dtmf::EVENT_BYTES].copy_from_slice(&event);
            self.silence.reset();
            dtmf::EVENT_BYTES
        } else {
            outgoing[..collected].copy_from_slice(&self.outgoing[..collected]);
            if let Slot::Tone { ends } = self.slot {
                self.voice.idle(&mut emit);
                self.players.wait(self.voice.barge(), &mut emit);
                self.keys_out.sound(outgoing);
                counters.digits_sent.add(u64::from(ends));
            } else {
                if self.players.replace_voice() {
                    // what came through JACK is not meant either
                    outgoing[..collected].fill(0.0);
                    self.voice.wait(&mut outgoing[collected..], &mut emit);
                } else if collected < samples {
                    self.voice.pull(&mut outgoing[collected..], counters, &mut emit);
                }
                if !self.players.is_empty() {
                    self.players.pull(outgoing, self.voice.barge(), counters, &mut emit);
                }
            }
            self.bridged.add_to(outgoing);
            self.agent_effects.process(outgoing);
            self.limiter.process(outgoing);
            timestamp = self.timestamp;
            let noise = self.params.comfort_noise;
            let mut transmit = noise.map_or(Transmit::Audio { first: false }, |_| self.silence.next(outgoing));
            let mut length = 0;
            if matches!(transmit, Transmit::Audio { .. }) {
                length = self.encoder.encode(outgoing, payload);
                if self.params.opus_dtx {
                    transmit = self.silence.next_opus(&payload[..length]);
                }
            }
            match (transmit, noise) {
                (Transmit::Noise, Some(noise)) => {
                    (payload_type, marker) = (noise, false);
                    payload[0] = NOISE_LEVEL;
                    1
                }
                (Transmit::Audio { first }, _) => {
                    (payload_type, marker) = (self.params.payload_type, self.mark_next || first);
                    self.mark_next = false;
                    length
                }
                _ => {
                    (payload_type, marker) = (self.params.payload_type, false);
                    0
                }
            }
        };
        if length > 0 {
            self.finish_packet(payload_type, marker, timestamp, length);
        }
        self.record(outgoing);
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
        self.bridged.clear();
        self.record(&[0.0; MAX_SENT_SAMPLES][..self.packet_samples()]);
    }

    /// Gives up the packet that is being collected, and begins one of another length. The timestamp tells the time that
    /// was collected so far.
    pub(super) fn begin_packet_anew(&mut self) {
        let begun = to_index(self.ticks % self.packet_ticks) * TICK_SAMPLES;
        self.bridged.clear();
        self.record(&[0.0; MAX_SENT_SAMPLES][..begun]);
        self.timestamp = self.timestamp.wrapping_add(self.params.timestamp_step(begun));
        (self.ticks, self.collected, self.slot) = (0, 0, Slot::Audio);
    }

    /// Hands what was sent to those that want to know of it, and what was heard meanwhile to the recording.
    fn record(&mut self, sent: &[f32]) {
        if let Some(cleaner) = &mut self.cleaner {
            cleaner.sent(sent);
        }
        let Some(tap) = &mut self.record else { return };
        let lost = tap.push(&self.caller[..sent.len()], sent);
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
