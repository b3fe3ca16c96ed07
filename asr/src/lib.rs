//! Ears for telephone calls: speech detection, turns, Whisper.
