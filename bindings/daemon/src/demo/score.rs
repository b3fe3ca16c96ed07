//! Was it understood, was it heard: the two measures by which the demo and the system tests judge a call.

/// Sample rate of everything compared here, in Hz.
const RATE: usize = 8000;
/// One value of the loudness envelope that finds the coarse position: 5 ms.
const ENVELOPE_BLOCK: usize = RATE / 200;
/// How many coarse positions are looked at closely.
const CANDIDATES: usize = 4;
/// Half a second: long enough to be told from anything else, short enough for one shift of a jitter buffer.
const PIECE: usize = RATE / 2;
/// How far a piece may be from where the one before it was: three packets.
const REACH: isize = 480;
/// Positions between two samples that are tried: a path with a resampler in it (JACK) delays by parts of a sample, and
/// half a sample alone takes a tenth off the correlation of speech.
const FRACTIONS: i32 = 8;
/// Samples on either side that make one in between.
const TAPS: isize = 12;

/// Words without case and punctuation.
pub fn words(text: &str) -> Vec<String> {
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase())
        .filter(|word| !word.is_empty())
        .collect()
}

/// Word errors (substitutions, insertions, deletions) between what was said and what was understood.
pub fn word_errors(said: &str, understood: &str) -> usize {
    let (said, understood) = (words(said), words(understood));
    let mut row: Vec<usize> = (0..=understood.len()).collect();
    for (i, a) in said.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in understood.iter().enumerate() {
            let substituted = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[understood.len()]
}

/// Where something is found in a recording, and how well.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Normalised correlation of the samples, -1 to 1; 1 is the same up to its level.
    pub correlation: f64,
    /// First sample of the recording that belongs to it.
    pub offset: usize,
}

/// Finds `reference` in `recording` (both 8 kHz mono): as a whole by its loudness envelope, then piece by piece, each
/// at its own best place nearby. A telephone's jitter buffer may shift its playout by a packet within a sentence; that
/// is heard as the same sentence and must be found as such. The correlation is the pieces', weighted by their energy.
///
/// `None` if either is too short or silent.
pub fn find(reference: &[f32], recording: &[f32]) -> Option<Match> {
    let (short, long) = (envelope(reference), envelope(recording));
    if short.is_empty() || long.len() < short.len() {
        return None;
    }
    let mut coarse: Vec<(f64, usize)> = (0..=long.len() - short.len())
        .map(|offset| (correlation(&short, &long[offset..offset + short.len()]), offset * ENVELOPE_BLOCK))
        .collect();
    coarse.sort_by(|a, b| b.0.total_cmp(&a.0));
    coarse
        .iter()
        .take(CANDIDATES)
        .filter_map(|&(_, offset)| by_pieces(reference, recording, offset))
        .max_by(|a, b| a.correlation.total_cmp(&b.correlation))
}

/// The correlation of `reference` with `recording` around `offset`, piece by piece.
fn by_pieces(reference: &[f32], recording: &[f32], offset: usize) -> Option<Match> {
    let (mut sum, mut weights, mut first) = (0.0, 0.0, None);
    let mut shift = offset as isize;
    for (number, piece) in reference.chunks(PIECE).enumerate() {
        let weight: f64 = piece.iter().map(|s| f64::from(s * s)).sum();
        let place = shift + (number * PIECE) as isize;
        let Some((found, at)) = nearby(piece, recording, place) else { continue };
        if number == 0 {
            first = Some(at);
        }
        // silence has no place of its own
        if found > 0.5 {
            shift = at as isize - (number * PIECE) as isize;
        }
        sum += weight * found;
        weights += weight;
    }
    (weights > 0.0).then(|| Match { correlation: sum / weights, offset: first.unwrap_or(offset) })
}

/// The best place for a piece within [`REACH`] of `place`: its correlation there and its first sample.
fn nearby(piece: &[f32], recording: &[f32], place: isize) -> Option<(f64, usize)> {
    let (correlated, at) = (place - REACH..=place + REACH)
        .filter_map(|start| {
            let start = usize::try_from(start).ok()?;
            Some((correlation(piece, recording.get(start..start + piece.len())?), start))
        })
        .max_by(|a, b| a.0.total_cmp(&b.0))?;
    let window = recording.get(at..at + piece.len())?;
    let between = (-FRACTIONS..=FRACTIONS)
        .map(|step| correlation(&delayed(piece, f64::from(step) / f64::from(FRACTIONS)), window))
        .max_by(f64::total_cmp)?;
    Some((correlated.max(between), at))
}

/// The samples, later by a part of a sample: a windowed sinc.
fn delayed(samples: &[f32], delay: f64) -> Vec<f32> {
    let taps: Vec<f32> = (-TAPS..=TAPS)
        .map(|tap| {
            let x = std::f64::consts::PI * (tap as f64 - delay);
            let sinc = if x.abs() < 1e-9 { 1.0 } else { x.sin() / x };
            let window = 0.5 + 0.5 * (std::f64::consts::PI * tap as f64 / (TAPS + 1) as f64).cos();
            (sinc * window) as f32
        })
        .collect();
    (0..samples.len() as isize)
        .map(|at| {
            (-TAPS..=TAPS)
                .zip(&taps)
                .filter_map(|(tap, weight)| Some(weight * samples.get(usize::try_from(at - tap).ok()?)?))
                .sum()
        })
        .collect()
}

fn envelope(samples: &[f32]) -> Vec<f32> {
    samples
        .chunks_exact(ENVELOPE_BLOCK)
        .map(|block| (block.iter().map(|s| s * s).sum::<f32>() / ENVELOPE_BLOCK as f32).sqrt())
        .collect()
}

fn correlation(a: &[f32], b: &[f32]) -> f64 {
    let (mut ab, mut aa, mut bb) = (0.0, 0.0, 0.0);
    for (&x, &y) in a.iter().zip(b) {
        ab += f64::from(x) * f64::from(y);
        aa += f64::from(x) * f64::from(x);
        bb += f64::from(y) * f64::from(y);
    }
    if aa * bb > 0.0 { ab / (aa * bb).sqrt() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_errors_count_what_differs_and_nothing_else() {
        assert_eq!(word_errors("Four two, seven one.", "four two seven one"), 0);
        assert_eq!(word_errors("four two seven one", "four seven one"), 1);
        assert_eq!(word_errors("yes", "no thank you"), 3);
        assert_eq!(word_errors("", ""), 0);
    }

    #[test]
    fn a_reply_is_found_where_it_was_put_and_only_there() {
        let mut seed = 1_u32;
        let mut noise = |n: usize| -> Vec<f32> {
            (0..n)
                .map(|i| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let loudness = 0.5 + 0.5 * (i as f32 / 700.0).sin();
                    loudness * (seed >> 8) as f32 / (1 << 24) as f32 - 0.5 * loudness
                })
                .collect()
        };
        let reply = noise(8000);
        let mut recording = noise(24000).iter().map(|s| s * 0.01).collect::<Vec<_>>();
        for (out, s) in recording[9013..].iter_mut().zip(&reply) {
            *out += 0.3 * s;
        }
        let found = find(&reply, &recording).unwrap();
        assert!(found.offset.abs_diff(9013) <= 1, "{found:?}");
        assert!(found.correlation > 0.95, "{found:?}");
        let stranger = noise(8000);
        assert!(find(&stranger, &recording).unwrap().correlation < 0.5);
    }

    #[test]
    fn a_packet_more_or_less_within_a_reply_does_not_hide_it() {
        let reply: Vec<f32> = (0..16000).map(|i| (i as f32 * 0.9).sin() * (i as f32 / 300.0).sin()).collect();
        let mut recording = vec![0.0; 1000];
        recording.extend(&reply[..8000]);
        recording.extend([0.0; 160]);
        recording.extend(&reply[8000..]);
        recording.extend([0.0; 1000]);
        let found = find(&reply, &recording).unwrap();
        assert!(found.correlation > 0.95, "{found:?}");
    }

    #[test]
    fn half_a_sample_of_delay_does_not_count_against_a_reply() {
        let reply: Vec<f32> = (0..8000).map(|i| (i as f32 * 1.9).sin() * (i as f32 / 300.0).sin()).collect();
        let mut recording = vec![0.0; 400];
        recording.extend(delayed(&reply, 0.5));
        recording.extend([0.0; 400]);
        let found = find(&reply, &recording).unwrap();
        assert!(found.correlation > 0.99, "{found:?}");
    }

    #[test]
    fn silence_and_short_recordings_have_no_match() {
        assert!(find(&[0.1; 8000], &[0.1; 100]).is_none());
        assert!(find(&[], &[0.1; 100]).is_none());
    }
}
