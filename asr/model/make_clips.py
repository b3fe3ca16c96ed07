#!/usr/bin/env python3
"""Makes `clips/`: a few short telephone WAVs (8 kHz, 16-bit, mono) with what is said in them, for tests of the recogniser.

They are spoken by the demonstration's voices and by voices that the model never heard, cut as a voice detector cuts, at
an ordinary level, with the hiss of a line; then come a silence, a hiss, and a dial tone, which say nothing. The WAVs are
linear: whoever tests G.711 encodes them. Synthesisers of another version may speak them a little differently.
"""

import argparse
import pathlib
import subprocess
import tempfile
import wave

import numpy as np

import noises
import synthesise
import telephone

# (file, engine, voice, words a minute of espeak-ng or stretch of flite, text)
SPOKEN = [
    ("digits-default", "espeak", "en-us", 150, "four two seven one"),
    ("digits-default-long", "espeak", "en-us", 150, "nine three zero six four two six"),
    ("digits-telephone", "espeak", "en-us", 150, "two zero three three two two four five three eight"),
    ("digits-british", "espeak", "en-gb", 150, "nine zero six three"),
    ("digits-unheard", "espeak", "en-us+f2", 150, "eight three five two"),
    ("digit-single", "espeak", "en-us", 150, "seven"),
    ("yes-please", "espeak", "en-us", 150, "yes please"),
    ("appointment", "espeak", "en-us", 150, "i would like to book an appointment for friday morning"),
    ("account", "espeak", "en-us", 150, "my account number is four two seven one"),
    ("hours", "flite", "rms", 1.0, "what are your hours"),
    ("transfer", "espeak", "en-gb", 150, "please transfer me to billing"),
    ("goodbye", "espeak", "en-us+m5", 150, "thank you goodbye"),
    ("listening", "espeak", "en-us", 150, "uh-huh"),
    ("spelled", "espeak", "en-us", 150, "my last name is s m i t h"),
    ("date", "espeak", "en-gb", 150, "march twenty third"),
    ("money", "espeak", "en-us+f2", 150, "my bill is ninety dollars"),
    ("voicemail", "flite", "rms", 1.0, "please leave a message after the tone"),
]

# (file, maker of `noises`, seconds)
SPEECHLESS = [("silence", noises.silence, 1.5), ("hiss", noises.hiss, 2.0), ("dial-tone", noises.dial_tone, 2.0)]
HISS_PEAK_DBFS = -45.0
TONE_PEAK_DBFS = -18.0


def speak(engine, voice, rate, text):
    """`text` as trimmed 16 kHz sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(pathlib.Path(folder) / "clip.wav")
        read = " ".join(synthesise.spelling(text.split()))
        if engine == "espeak":
            command = ["espeak-ng", "-v", voice, "-s", str(rate), "-w", path, read]
        else:
            command = ["flite", "-voice", voice, "--setf", f"duration_stretch={rate}", "-t", read, "-o", path]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        return synthesise.finish(*synthesise.read_wav(path)).astype(np.float32) / 32768


def write(path, sound):
    """8 kHz sound in -1..1 as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(telephone.NARROW_HZ)
        file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = pathlib.Path(__file__).parent
    parser.add_argument(
        "--folder", type=pathlib.Path, default=here / "clips", help="folder to write (clips, beside this script)"
    )
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["file\ttext\n"]
    for number, (name, engine, voice, rate, text) in enumerate(SPOKEN):
        write(folder / f"{name}.wav", telephone.line_before_codec(speak(engine, voice, rate, text), number))
        lines.append(f"{name}.wav\t{text}\n")
    rng = np.random.default_rng(1)
    for name, maker, seconds in SPEECHLESS:
        sound = telephone.narrow(maker(rng, int(telephone.WIDE_HZ * seconds)))
        if maker is not noises.silence:
            sound = telephone.to_peak(sound, HISS_PEAK_DBFS if maker is noises.hiss else TONE_PEAK_DBFS)
        write(folder / f"{name}.wav", sound)
        lines.append(f"{name}.wav\t\n")
    (folder / "clips.tsv").write_text("".join(lines))
    print(f"{len(lines) - 1} clips in {folder}")


if __name__ == "__main__":
    main()
