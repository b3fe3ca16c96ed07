//! What the network does to packets: loses, delays, reorders them, and the clocks of its ends.

use std::ops::Range;

/// A packet's way: when it arrives, if it does. Payload and place in the stream stay.
#[derive(Debug, Clone)]
pub(crate) struct Packet {
    /// Counts from 0.
    pub(crate) number: usize,
    /// What it carries.
    pub(crate) payload: Vec<u8>,
    /// On the receiver's clock.
    pub(crate) arrival_ms: f64,
}

/// What every packet takes at least.
pub(crate) const WAY_MS: f64 = 40.0;
/// And what it takes more, evenly spread, on every network: no scheduler is exact.
const UNEVEN_MS: f64 = 2.0;
/// The packets of a bench are so long.
pub(crate) const PTIME_MS: f64 = 20.0;
/// Bursts of a Gilbert channel last so many packets on average.
const BURST_PACKETS: f64 = 3.0;
/// From one spike to the next, on average.
const SPIKES_EVERY_MS: f64 = 2_500.0;
/// How long a drift lasts that is measured.
const DRIFT_SECONDS: usize = 600;
/// Of a short talk this much is not scored: buffers find their depth.
const LEAD_IN: usize = 4 * 8_000;
/// P.862 wants 8 to 12 s at a time.
const PIECE: usize = 9 * 8_000;

/// A kind of network.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Network {
    /// Nothing happens.
    Clean,
    /// Loses this share of the packets in percent, each for itself.
    Random(u32),
    /// Loses this share, in bursts (Gilbert 1960): a good state, and a bad one that loses all.
    Burst(u32),
    /// Holds everything up for so many milliseconds, now and then.
    Spikes(u32),
    /// The sender's clock is so many parts in a million faster.
    Drift(i32),
    /// Every tenth packet takes 30 ms more and is overtaken.
    Reorder,
}

impl Network {
    /// All that are measured.
    pub(crate) fn all() -> Vec<Self> {
        let losses = [1, 3, 5, 10];
        let mut all = vec![Self::Clean];
        all.extend(losses.map(Self::Random));
        all.extend(losses.map(Self::Burst));
        all.extend([20, 50, 100, 300].map(Self::Spikes));
        all.extend([Self::Drift(200), Self::Drift(-200), Self::Reorder]);
        all
    }

    /// Its name in the table.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Clean => "clean".into(),
            Self::Random(percent) => format!("loss {percent} %"),
            Self::Burst(percent) => format!("bursts {percent} %"),
            Self::Spikes(ms) => format!("spikes {ms} ms"),
            Self::Drift(ppm) => format!("drift {ppm:+} ppm"),
            Self::Reorder => "reordering".into(),
        }
    }

    /// Whether packets are lost for good.
    pub(crate) const fn loses(&self) -> bool {
        matches!(self, Self::Random(_) | Self::Burst(_))
    }

    /// Whether nothing happens.
    pub(crate) const fn is_clean(&self) -> bool {
        matches!(self, Self::Clean)
    }

    /// How much longer a second of the sender takes on the receiver's clock, as a factor.
    pub(crate) fn pace(&self) -> f64 {
        match self {
            Self::Drift(ppm) => 1.0 - f64::from(*ppm) * 1e-6,
            _ => 1.0,
        }
    }

    /// The talk, said again and again where much time must pass.
    pub(crate) fn stretch(&self, talk: &[f32]) -> Vec<f32> {
        match self {
            Self::Drift(_) => talk.iter().copied().cycle().take(DRIFT_SECONDS * 8_000).collect(),
            _ => talk.to_vec(),
        }
    }

    /// What of it is scored: samples of what was said.
    pub(crate) fn pieces(&self, length: usize) -> Vec<Range<usize>> {
        let starts = match self {
            Self::Drift(_) => (1..=10).map(|n| n * length / 12).collect(),
            _ => vec![LEAD_IN],
        };
        starts.into_iter().map(|at| at..(at + PIECE).min(length - 8_000)).collect()
    }

    /// Sends packets, one every 20 ms of the sender's clock; what arrives, in the order of arrival.
    pub(crate) fn carry(&self, payloads: Vec<Vec<u8>>, seed: u64) -> Vec<Packet> {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut losing = false;
        let mut held_until = 0.0_f64;
        let mut next_spike = SPIKES_EVERY_MS * random.f64();
        let mut arrived = Vec::new();
        for (number, payload) in payloads.into_iter().enumerate() {
            let sent_ms = (number + 1) as f64 * PTIME_MS * self.pace();
            let mut arrival_ms = sent_ms + WAY_MS + UNEVEN_MS * random.f64();
            match *self {
                Self::Random(percent) => losing = random.u32(0..100) < percent,
                Self::Burst(percent) => {
                    let share = f64::from(percent) / 100.0;
                    let end = 1.0 / BURST_PACKETS;
                    let begin = end * share / (1.0 - share);
                    losing = random.f64() < if losing { 1.0 - end } else { begin };
                }
                Self::Spikes(ms) => {
                    if sent_ms >= next_spike {
                        held_until = sent_ms + WAY_MS + f64::from(ms);
                        next_spike = sent_ms + f64::from(ms) + SPIKES_EVERY_MS * (0.4 + 1.2 * random.f64());
                    }
                    arrival_ms = arrival_ms.max(held_until + UNEVEN_MS * random.f64() / 2.0);
                }
                Self::Reorder if random.u32(0..10) == 0 => arrival_ms += 30.0,
                Self::Clean | Self::Drift(_) | Self::Reorder => {}
            }
            if !losing {
                arrived.push(Packet { number, payload, arrival_ms });
            }
        }
        arrived.sort_by(|a, b| a.arrival_ms.total_cmp(&b.arrival_ms));
        arrived
    }
}
