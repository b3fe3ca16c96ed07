"""A language model that answers by rule and a voice that hums, as MindRoot plugins. For trying mr_sip without keys or
models.

The model says back what it was told, and goes on about it; told that the call is over it says nothing. The voice asks
and hands over audio exactly as text-to-speech plugins do: halted? start, chunks, end.
"""

from __future__ import annotations

import json
import math
import os
import wave
from collections.abc import AsyncIterator
from typing import Any

from lib.providers.commands import command, command_manager
from lib.providers.services import service, service_manager

RATE = 8000
# A telephone voice speaks about so many characters a second; the hum is as long as the words would be.
CHARACTERS_A_SECOND = 16
CHUNK_BYTES = 1000
CALL = "Please call "
# Makes every answer some six seconds long, so that it can be interrupted.
FILLER = "That is very interesting, and I would like to say a good deal more about it if nobody stops me."


@service()
async def get_service_models(context: Any = None) -> dict[str, list[str]]:
    """MindRoot's question which models there are."""
    return {"stream_chat": ["fake-1"]}


@service()
async def stream_chat(model: Any, messages: Any = (), context: Any = None, **kw: Any) -> AsyncIterator[str]:
    """The model's answer, in two pieces, as a JSON list of commands."""
    told = text_of(messages[-1]) if messages else ""
    if "CALL DISCONNECTED" in told:
        commands: list[dict[str, Any]] = [{"registered": {"what": "nothing"}}]
    elif told.startswith(CALL):
        commands = [{"call": {"destination": told[len(CALL) :]}}]
    else:
        commands = [{"speak": {"text": f"You said: {told}. {FILLER}"}}]
    text = json.dumps(commands)

    async def stream() -> AsyncIterator[str]:
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]

    return stream()


@command()
async def speak(text: str = "", context: Any = None, **kw: Any) -> None:
    """Say it on the telephone.

    Example:
    { "speak": { "text": "Good day." } }
    """
    if await service_manager.sip_is_audio_halted(context=context):
        return
    await service_manager.sip_start_audio_response(context=context)
    audio = voice(text)
    for start in range(0, len(audio), CHUNK_BYTES):
        if not await service_manager.sip_audio_out_chunk(
            audio_chunk=audio[start : start + CHUNK_BYTES], context=context
        ):
            break
    await service_manager.sip_end_audio_response(context=context)


@command()
async def registered(what: str = "", context: Any = None, **kw: Any) -> Any:
    """Which commands and services a plugin has registered: for the test that drives this from outside.

    Example:
    { "registered": { "what": "mr_sip" } }
    """
    if what == "nothing":
        return None
    return {
        kind: sorted(
            name for name, entries in manager.functions.items() if any(entry["provider"] == what for entry in entries)
        )
        for kind, manager in (("commands", command_manager), ("services", service_manager))
    }


def text_of(message: Any) -> str:
    """The words of a chat message, whichever of its forms it has."""
    content = message.get("content", "") if isinstance(message, dict) else message
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()
    return str(content).strip()


def voice(text: str) -> bytes:
    """u-law at 8 kHz: the WAV that FAKE_VOICE_WAV names (16 bit, 8 kHz, mono), else a hum as long as the words would
    take.
    """
    path = os.getenv("FAKE_VOICE_WAV")
    if path:
        with wave.open(path) as file:
            raw = file.readframes(file.getnframes())
        samples = [int.from_bytes(raw[at : at + 2], "little", signed=True) for at in range(0, len(raw), 2)]
    else:
        length = max(RATE // 2, len(text) * RATE // CHARACTERS_A_SECOND)
        samples = [int(6000 * math.sin(2 * math.pi * 440 * at / RATE)) for at in range(length)]
    return bytes(ulaw(sample) for sample in samples)


def ulaw(sample: int) -> int:
    """One sample of 16 bits by ITU-T G.711, section 3.2."""
    sign = 0x80 if sample < 0 else 0
    magnitude = min(abs(sample), 32635) + 132
    exponent = max(0, magnitude.bit_length() - 8)
    return ~(sign | exponent << 4 | magnitude >> (exponent + 3) & 0x0F) & 0xFF
