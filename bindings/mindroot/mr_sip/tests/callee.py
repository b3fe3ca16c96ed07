"""Somebody to call: settings for a baresip that answers, says sentences made by espeak-ng, and hangs up.

    callee.py prepare FOLDER PORT SENTENCE...    then: baresip -f FOLDER
    callee.py heard FOLDER                       seconds of the test voice's hum in what it heard of the first call

Used by try_in_mindroot.sh; standard library, and the Debian packages baresip-core and espeak-ng.
"""

from __future__ import annotations

import array
import glob
import io
import math
import pathlib
import subprocess
import sys
import wave

RATE = 8000
HUM_HZ = 440
# Before the first sentence (the phone is being put to the ear) and after each (the agent answers, the last one whole).
PAUSE_BEFORE_S = 1.5
PAUSE_AFTER_S = 6.0
MODULES = ("/usr/lib/baresip/modules", "/usr/lib64/baresip/modules", "/usr/local/lib/baresip/modules")


def prepare(folder: pathlib.Path, port: int, sentences: list[str]) -> None:
    """Writes baresip's folder: config, accounts, and the WAV that it plays to whoever calls."""
    folder.mkdir(parents=True, exist_ok=True)
    samples = array.array("h", bytes(2 * int(RATE * PAUSE_BEFORE_S)))
    for sentence in sentences:
        samples.extend(speech(sentence))
        samples.extend(array.array("h", bytes(2 * int(RATE * PAUSE_AFTER_S))))
    with wave.open(str(folder / "says.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.tobytes())
    modules = next((path for path in MODULES if pathlib.Path(path).is_dir()), MODULES[0])
    (folder / "config").write_text(
        f"poll_method epoll\nsip_listen 127.0.0.1:{port}\nnet_interface 127.0.0.1\n"
        f"audio_source aufile,{folder}/says.wav\naudio_player aubridge,nowhere\naudio_alert aubridge,nowhere\n"
        f"snd_path {folder}\nmodule_path {modules}\n"
        "module g711.so\nmodule aufile.so\nmodule aubridge.so\nmodule sndfile.so\n"
        "module_tmp account.so\nmodule_app menu.so\n"
    )
    (folder / "accounts").write_text(f"<sip:bob@127.0.0.1:{port};transport=udp>;regint=0;answermode=auto\n")
    (folder / "contacts").write_text("")


def speech(sentence: str) -> array.array[int]:
    """The sentence at 8 kHz, low-passed below 3.8 kHz by a windowed sinc before it is resampled."""
    made = subprocess.run(["espeak-ng", "-s", "140", "--stdout", sentence], check=True, capture_output=True).stdout
    # espeak-ng cannot seek in a pipe, so the lengths in its header are wrong; the rate is right.
    rate = int.from_bytes(made[24:28], "little")
    raw = array.array("h", made[44 : 44 + (len(made) - 44) // 2 * 2])
    if sys.byteorder == "big":
        raw.byteswap()
    half = 32
    cutoff = 3800 / rate
    out = array.array("h")
    for index in range(int(len(raw) * RATE / rate)):
        middle = index * rate / RATE
        first = max(0, math.ceil(middle - half))
        total = 0.0
        for at in range(first, min(len(raw), int(middle + half))):
            x = at - middle
            sinc = 2 * cutoff if x == 0 else math.sin(2 * math.pi * cutoff * x) / (math.pi * x)
            total += raw[at] * sinc * (0.5 + 0.5 * math.cos(math.pi * x / half))
        out.append(max(-32768, min(32767, round(total * 0.8))))
    return out


def heard(folder: pathlib.Path) -> float:
    """Seconds in which the hum is there, by Goertzel over 20 ms frames: half of a frame's power at least, and loud."""
    files = sorted(glob.glob(str(folder / "*-dec.wav")))
    if not files:
        return 0.0
    content = pathlib.Path(files[0]).read_bytes()
    # The header is only right once baresip has closed the file; it may still be running.
    with wave.open(io.BytesIO(content)) as file:
        rate, channels = file.getframerate(), file.getnchannels()
    samples = array.array("h", content[44 : 44 + (len(content) - 44) // 2 * 2])[::channels]
    frame = rate // 50
    coefficient = 2 * math.cos(2 * math.pi * HUM_HZ / rate)
    count = 0
    for start in range(0, len(samples) - frame, frame):
        before = last = energy = 0.0
        for sample in samples[start : start + frame]:
            before, last = last, sample + coefficient * last - before
            energy += sample * sample
        power = (last * last + before * before - coefficient * last * before) * 2 / frame
        count += energy / frame > 1000**2 and power > 0.5 * energy
    return count / 50


if __name__ == "__main__":
    command, where, *rest = sys.argv[1:]
    if command == "prepare":
        prepare(pathlib.Path(where), int(rest[0]), rest[1:])
    else:
        print(f"{heard(pathlib.Path(where)):.2f}")
