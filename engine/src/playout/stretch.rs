//! Taking a pitch period out of the samples that are about to be heard, or putting one in, so that the playout delay can
//! change without a gap or a click. Both lead from one period over to the next with a cross-fade over its whole length.

/// Shortest piece: 2.5 ms.
const MIN_PIECE: usize = 20;
/// Longest piece: 15 ms, the period of a deep voice.
pub(super) const MAX_PIECE: usize = 120;
/// Two pieces of the longest size; fewer samples will do for voices that are higher.
pub(super) const WANTED: usize = 2 * MAX_PIECE;
/// Fewer than this are not tried: 10 ms, two periods of 200 Hz.
const NEEDED: usize = 80;
/// Two periods that go together this well can be led over into one another unheard.
const ALIKE: f32 = 0.7;
/// Mean square under which nobody hears what is done: -54 dBFS.
const QUIET: f32 = 4e-6;

/// The length of the piece that two halves of the beginning of `samples` agree in best, if they agree well enough:
/// `reluctance` is 1 for that, and less when it is urgent.
pub(super) fn find_piece(samples: &[f32], reluctance: f32) -> Option<usize> {
    let region = &samples[..samples.len().min(WANTED)];
    if region.len() < NEEDED {
        return None;
    }
    if is_quiet(region) {
        return Some(region.len() / 2);
    }
    let longest = region.len() / 2;
    let mut best = (MIN_PIECE, 0.0_f32);
    for length in (MIN_PIECE..=longest).step_by(2) {
        let (mut dot, mut first, mut second) = (0.0, 1e-9, 1e-9);
        for (a, b) in region[..length].iter().zip(&region[length..2 * length]).step_by(2) {
            dot += a * b;
            first += a * a;
            second += b * b;
        }
        let likeness = dot / f32::sqrt(first * second);
        if likeness > best.1 {
            best = (length, likeness);
        }
    }
    (best.1 >= ALIKE * reluctance).then_some(best.0)
}

/// Whether this is a pause, in which nobody hears what is done.
pub(super) fn is_quiet(samples: &[f32]) -> bool {
    samples.iter().map(|x| x * x).sum::<f32>() < QUIET * samples.len() as f32
}

/// The length of the longest piece at the beginning of `samples`, if nobody speaks in it and in the one after it.
pub(super) fn find_pause(samples: &[f32]) -> Option<usize> {
    let region = &samples[..samples.len().min(WANTED)];
    (region.len() >= NEEDED && is_quiet(region)).then_some(region.len() / 2)
}

/// Shortens `samples[..2 * piece]` to `piece` samples, which then lie in `samples[piece..2 * piece]`: what lies before is
/// to be left out.
pub(super) fn shrink(samples: &mut [f32], piece: usize) {
    let Some((first, second)) = samples.get_mut(..2 * piece).map(|s| s.split_at_mut(piece)) else { return };
    for (n, (a, b)) in first.iter().zip(second).enumerate() {
        let share = (n + 1) as f32 / (piece + 1) as f32;
        *b = a + share * (*b - a);
    }
}

/// What is to be put in after `samples[..piece]`: a piece that begins as the second one does and ends as the first.
pub(super) fn grow(samples: &[f32], piece: usize, into: &mut [f32; MAX_PIECE]) {
    for n in 0..piece.min(MAX_PIECE) {
        let share = (n + 1) as f32 / (piece + 1) as f32;
        into[n] = samples[piece + n] + share * (samples[n] - samples[piece + n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(n: usize) -> f32 {
        let phase = n as f32 * 140.0 * std::f32::consts::TAU / 8_000.0;
        0.3 * phase.sin() + 0.1 * (3.0 * phase).sin()
    }

    fn steepest(samples: &[f32]) -> f32 {
        samples.windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
    }

    #[test]
    fn a_period_is_found_and_taken_out_or_put_in_without_a_click() {
        let original: Vec<f32> = (0..480).map(voice).collect();
        let piece = find_piece(&original, 1.0).unwrap();
        assert!((piece as f32 * 140.0 / 8_000.0).fract().min(1.0 - (piece as f32 * 140.0 / 8_000.0).fract()) < 0.05);

        let mut shorter = original.clone();
        shrink(&mut shorter, piece);
        let shorter = &shorter[piece..];
        assert_eq!(shorter.len(), original.len() - piece);
        assert!(steepest(shorter) < 1.1 * steepest(&original));
        assert!((shorter[0] - original[0]).abs() < 0.05, "begins where the original began");

        let mut put_in = [0.0; MAX_PIECE];
        grow(&original, piece, &mut put_in);
        let longer = [&original[..piece], &put_in[..piece], &original[piece..]].concat();
        assert!(steepest(&longer) < 1.1 * steepest(&original));
    }

    #[test]
    fn noise_has_no_period_unless_it_is_urgent_and_silence_always_has() {
        let mut random = fastrand::Rng::with_seed(3);
        let noise: Vec<f32> = (0..480).map(|_| random.f32() - 0.5).collect();
        assert_eq!(find_piece(&noise, 1.0), None);
        assert!(find_piece(&noise, 0.0).is_some());
        assert_eq!(find_piece(&[0.0; 480], 1.0), Some(MAX_PIECE));
        assert_eq!(find_piece(&[0.0; 160], 1.0), Some(80));
        assert_eq!(find_piece(&[0.0; 79], 1.0), None, "too short");
    }
}
