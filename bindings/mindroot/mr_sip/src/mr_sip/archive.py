"""Calls that are over, kept in a folder: a record and, where the daemon made one, the recording, for each.

    LOG_ID.json    who, when, how long, how good, and what was said
    LOG_ID.wav     a link to the daemon's recording: left the caller, right the agent

A conversation's second call is `LOG_ID-2`, and so on. Names are checked before they become paths; everything else is
what the daemon said. Blocking: who must not block calls it in a thread.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import re
import sys
import time
import wave
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# So many of the newest records are looked at for a list.
LONGEST_LIST = 500
MAX_RECORD_BYTES = 8 << 20
# A recording is written to its end within this; it is looked at so often, and whole when it has not grown meanwhile.
WHOLE_AFTER_S = 3.0
WHOLE_POLL_S = 0.2
WAV_HEADER_BYTES = 44
# How often one conversation can telephone before its records begin to be overwritten.
MAX_CALLS_A_LOG = 1_000
# Frames of a recording that are looked at for one point of its picture: hours take no longer than minutes.
FRAMES_A_POINT = 400

_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")

log = logging.getLogger("mr_sip")


class Archive:
    """The calls in one folder, which is made when the first one is kept."""

    def __init__(self, folder: str | Path) -> None:
        # Absolute at once: MindRoot's commands may change the working folder.
        self.folder = Path(folder).absolute()

    def keep(self, record: Mapping[str, Any]) -> str | None:
        """Writes a call down under its `log_id`; returns the name it got, None where it could not be kept.

        Waits for the recording to be whole: the daemon writes its end a moment after the call's.
        """
        log_id = str(record.get("log_id") or "")
        if not _NAME.fullmatch(log_id):
            log.warning("a call of a conversation named %r cannot be kept: not a name for a file", log_id[:80])
            return None
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            name = self._free_name(log_id)
            recording = str(record.get("recording") or "")
            wait_until_whole(recording)
            self._link(recording, name)
            written = self.folder / f".{name}.json"
            written.write_text(json.dumps({**record, "id": name}), encoding="utf-8")
            written.replace(self.folder / f"{name}.json")
        except (OSError, ValueError, TypeError) as error:
            log.error("the record of a call could not be kept in %s: %s", self.folder, error)
            return None
        return name

    def records(self) -> list[dict[str, Any]]:
        """The newest records, newest first, without what was said."""
        try:
            files = [(entry.stat().st_mtime, entry.name) for entry in os.scandir(self.folder) if _is_record(entry.name)]
        except OSError:
            return []
        names = [name[:-5] for _, name in sorted(files, reverse=True)[:LONGEST_LIST]]
        found = [record for record in map(self.record, names) if record is not None]
        for record in found:
            record.pop("transcript", None)
        return sorted(found, key=lambda record: _number(record.get("started_unix_ms")), reverse=True)

    def record(self, name: str) -> dict[str, Any] | None:
        """One call's record with its transcript, None where there is none of that name."""
        path = self._path(name, ".json")
        try:
            if path is None or path.stat().st_size > MAX_RECORD_BYTES:
                return None
            record = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        if not isinstance(record, dict):
            return None
        record["id"] = name
        record["has_audio"] = self.recording(name) is not None
        return record

    def recording(self, name: str) -> Path | None:
        """The WAV file of a call, None where there is none."""
        path = self._path(name, ".wav")
        return path if path is not None and path.is_file() else None

    def picture(self, name: str, points: int = 600) -> dict[str, Any]:
        """How loud caller and agent are over the recording: `{caller: [...], agent: [...], length_ms}`, each 0 to 1."""
        path = self.recording(name)
        empty: dict[str, Any] = {"caller": [], "agent": [], "length_ms": 0}
        if path is None:
            return empty
        try:
            with wave.open(str(path)) as file:
                frames, channels = file.getnframes(), file.getnchannels()
                if file.getsampwidth() != 2 or not frames or not file.getframerate():
                    return empty
                lanes: tuple[list[float], list[float]] = ([], [])
                points = min(points, frames)
                for point in range(points):
                    file.setpos(frames * point // points)
                    samples = array.array("h")
                    samples.frombytes(file.readframes(min(FRAMES_A_POINT, frames // points)))
                    if sys.byteorder == "big":
                        samples.byteswap()
                    for lane, heights in enumerate(lanes):
                        own = samples[min(lane, channels - 1) :: channels]
                        heights.append(round(max(map(abs, own), default=0) / 32768, 3))
                length_ms = round(frames * 1000 / file.getframerate())
        except (OSError, EOFError, wave.Error, ValueError) as error:
            log.warning("the recording %s cannot be read: %s", path, error)
            return empty
        return {"caller": lanes[0], "agent": lanes[1], "length_ms": length_ms}

    # -- inside ----------------------------------------------------------------------------------------------------

    def _path(self, name: str, suffix: str) -> Path | None:
        return self.folder / f"{name}{suffix}" if _NAME.fullmatch(name) else None

    def _free_name(self, log_id: str) -> str:
        for number in range(2, MAX_CALLS_A_LOG):
            name = log_id if number == 2 else f"{log_id}-{number - 1}"
            if not (self.folder / f"{name}.json").exists():
                return name
        return log_id

    def _link(self, recording: str, name: str) -> None:
        """The recording under the call's name: one file with two names, or a link where it is on another disk."""
        target = self.folder / f"{name}.wav"
        if not recording or Path(recording) == target or not os.path.isfile(recording):
            return
        with contextlib.suppress(FileNotFoundError):
            target.unlink()
        try:
            os.link(recording, target)
        except OSError:
            target.symlink_to(recording)


def wait_until_whole(recording: str) -> bool:
    """Waits until a WAV file has all that its header says and grows no more; False where it still did after a while."""
    before = -1
    deadline = time.monotonic() + WHOLE_AFTER_S
    while recording:
        try:
            size = os.path.getsize(recording)
            with wave.open(recording) as file:
                in_header = file.getnframes() * file.getnchannels() * file.getsampwidth()
        except (OSError, EOFError, wave.Error):
            return False
        if size == before and in_header + WAV_HEADER_BYTES >= size:
            return True
        if time.monotonic() > deadline:
            return False
        before = size
        time.sleep(WHOLE_POLL_S)
    return False


def _is_record(name: str) -> bool:
    return name.endswith(".json") and _NAME.fullmatch(name[:-5]) is not None


def _number(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0
