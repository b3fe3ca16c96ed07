"""A voice made by espeak-ng, as a MindRoot plugin: it asks and hands over audio exactly as text-to-speech plugins do.

halted? start, chunks, end.
"""

from __future__ import annotations

import asyncio
from typing import Any

from lib.providers.commands import command
from lib.providers.services import service_manager

from .speech import ulaw_speech

CHUNK_BYTES = 1024


@command()
async def speak(text: str = "", context: Any = None, **kw: Any) -> None:
    """Say it on the telephone.

    Example:
    { "speak": { "text": "Good day." } }
    """
    if await service_manager.sip_is_audio_halted(context=context):
        return
    audio = await asyncio.to_thread(ulaw_speech, text)
    if not await service_manager.sip_start_audio_response(context=context):
        return
    for start in range(0, len(audio), CHUNK_BYTES):
        chunk = audio[start : start + CHUNK_BYTES]
        if not await service_manager.sip_audio_out_chunk(audio_chunk=chunk, context=context):
            break
    await service_manager.sip_end_audio_response(context=context)
