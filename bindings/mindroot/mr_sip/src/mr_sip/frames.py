"""Frames of the control protocol, version 1: bytes in, frames out. No sockets, no tasks.

A frame is `u32le payload length, u8 kind, u8 flags, u16le channel` and the payload. Kind 1 is one JSON-RPC 2.0
object on channel 0; kind 2 is audio, which begins with `u64le generation, u64le monotonic nanoseconds`.
Payloads are at most 1 MiB; the daemon closes the connection on a longer one, and so do we.
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from .errors import ProtocolError

MAX_PAYLOAD = 1 << 20
KIND_JSON = 1
KIND_AUDIO = 2
ENCODING_MASK = 0x0F

HEADER = struct.Struct("<IBBH")
AUDIO_HEADER = struct.Struct("<QQ")


class Encoding(enum.Enum):
    """How samples are written in audio frames: the name in JSON, the number in `flags`, bytes a sample."""

    S16 = ("s16", 0, 2)
    F32 = ("f32", 1, 4)
    ULAW = ("ulaw", 2, 1)
    ALAW = ("alaw", 3, 1)

    def __init__(self, wire_name: str, flag: int, width: int) -> None:
        self.wire_name = wire_name
        self.flag = flag
        self.width = width

    @classmethod
    def from_flags(cls, flags: int) -> Encoding:
        """The encoding that the low four bits of a frame's flags name. Raises ProtocolError."""
        for encoding in cls:
            if encoding.flag == flags & ENCODING_MASK:
                return encoding
        raise ProtocolError(f"audio frame with unknown encoding {flags & ENCODING_MASK}")


class Header(NamedTuple):
    """The eight bytes before every payload."""

    length: int
    kind: int
    flags: int
    channel: int


class AudioFrame(NamedTuple):
    """Samples of one channel.

    Attributes:
        generation: which response (to the daemon) they belong to; 0 from the daemon.
        monotonic_ns: the sender's CLOCK_MONOTONIC when the first sample was made.
    """

    channel: int
    encoding: Encoding
    generation: int
    monotonic_ns: int
    samples: bytes


def read_header(raw: bytes) -> Header:
    """The header in eight bytes. Raises ProtocolError for a length or kind that version 1 does not have."""
    header = Header(*HEADER.unpack(raw))
    if header.length > MAX_PAYLOAD:
        raise ProtocolError(f"frame of {header.length} bytes, more than {MAX_PAYLOAD}: is this the mr-sip socket?")
    if header.kind not in (KIND_JSON, KIND_AUDIO):
        raise ProtocolError(f"frame of unknown kind {header.kind}: is this the mr-sip socket?")
    return header


def json_frame(message: Mapping[str, Any]) -> bytes:
    """One JSON-RPC object as a frame. Raises ProtocolError where it is longer than a frame may be."""
    payload = json.dumps(message, separators=(",", ":")).encode("utf-8")
    if len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"request of {len(payload)} bytes, more than {MAX_PAYLOAD}")
    return HEADER.pack(len(payload), KIND_JSON, 0, 0) + payload


def read_json(payload: bytes) -> Mapping[str, Any]:
    """The JSON-RPC object in a payload. Raises ProtocolError for anything else."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"not JSON from the daemon: {error}") from None
    if not isinstance(message, dict):
        raise ProtocolError("JSON from the daemon that is not an object")
    return message


def audio_frame(frame: AudioFrame) -> bytes:
    """Samples as a frame. The caller keeps them under MAX_PAYLOAD; raises ProtocolError where it did not."""
    length = AUDIO_HEADER.size + len(frame.samples)
    if length > MAX_PAYLOAD:
        raise ProtocolError(f"audio frame of {length} bytes, more than {MAX_PAYLOAD}")
    return b"".join(
        (
            HEADER.pack(length, KIND_AUDIO, frame.encoding.flag, frame.channel),
            AUDIO_HEADER.pack(frame.generation, frame.monotonic_ns),
            frame.samples,
        )
    )


def read_audio(header: Header, payload: bytes) -> AudioFrame:
    """The samples in a payload. Raises ProtocolError where it is shorter than its own header."""
    if len(payload) < AUDIO_HEADER.size:
        raise ProtocolError(f"audio frame of {len(payload)} bytes, shorter than its header")
    generation, monotonic_ns = AUDIO_HEADER.unpack_from(payload)
    return AudioFrame(
        header.channel, Encoding.from_flags(header.flags), generation, monotonic_ns, payload[AUDIO_HEADER.size :]
    )


def whole_samples(held: bytes, data: bytes, encoding: Encoding) -> tuple[bytes, bytes]:
    """Joins what was left over with new bytes: (whole samples, the odd bytes of one not yet complete)."""
    joined = held + data if held else data
    odd = len(joined) % encoding.width
    return (joined[:-odd], joined[-odd:]) if odd else (joined, b"")
