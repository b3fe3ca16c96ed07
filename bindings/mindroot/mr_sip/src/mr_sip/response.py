"""One answer of the agent's voice: samples in, paced by what the daemon's window has room for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import NO_SUCH_RESPONSE, WRONG_STATE, ConnectionLost, MrSipError, RequestRefused, ResponseCut
from .frames import AudioFrame, Encoding, whole_samples

if TYPE_CHECKING:
    from .calls import Call
    from .client import ControlClient

# Samples go out in frames of this long: short enough that a halt finds little under way.
FRAME_MS = 200
# `response.progress` comes every 200 ms while audio plays. When nothing came for this long, the position is asked for.
POSITION_POLL_S = 1.0
# What a daemon that names no window is taken to hold.
DEFAULT_WINDOW_MS = 2_000


class Response:
    """One answer of the agent's voice, from `Call.start_response`.

    Attributes:
        sent_ms, played_ms: how much went to the daemon, how much of it is known to be on the wire.
        window_ms: how much may be outstanding; `write` waits above it.
        closed: finished, halted, cleared, or its call is over.
    """

    def __init__(
        self, call: Call, client: ControlClient, opened: Mapping[str, Any], encoding: Encoding, rate: int
    ) -> None:
        self._call = call
        self._client = client
        self._connection = client.connection_number
        self._held = b""
        self.id = opened.get("response")
        self.generation = int(opened.get("generation") or 0)
        self.channel = int(opened.get("channel") or 0)
        self.window_ms = float(opened.get("window_ms") or DEFAULT_WINDOW_MS)
        self.encoding = encoding
        self.rate = rate
        self.sent_ms = 0.0
        self.played_ms = 0.0
        self.closed = False
        self.ending = False

    async def write(self, data: bytes) -> None:
        """Sends samples, of any length, waiting while the window is full. An odd byte waits for the next write.

        Raises ResponseCut once nobody wants them any more, ConnectionLost where the connection went away.
        """
        whole, self._held = whole_samples(self._held, data, self.encoding)
        step_samples = max(1, int(self.rate * min(FRAME_MS, self.window_ms / 2) / 1000))
        step = step_samples * self.encoding.width
        for start in range(0, len(whole), step):
            piece = whole[start : start + step]
            length_ms = len(piece) / self.encoding.width * 1000.0 / self.rate
            await self._wait_for_room(length_ms)
            self.sent_ms += length_ms
            await self._client.send_audio(
                AudioFrame(self.channel, self.encoding, self.generation, time.monotonic_ns(), piece)
            )

    async def end(self) -> None:
        """Says that no more comes. What was sent is played to its end."""
        if self.closed or self.ending:
            return
        self.ending = True
        try:
            await self._client.request("response.end", {"call": self._call.id, "response": self.id})
        except RequestRefused as error:
            if error.code not in (NO_SUCH_RESPONSE, WRONG_STATE, 1001):
                raise

    async def _wait_for_room(self, length_ms: float) -> None:
        def room(call: Call) -> bool:
            return self.closed or call.outstanding_ms + length_ms < self.window_ms

        while not await self._call.wait_until(room, POSITION_POLL_S):
            try:
                await self._call.position()
            except ConnectionLost:
                raise
            except MrSipError:
                # Slow or odd answers are no reason to throw speech away; the next event or poll decides.
                continue
        if self._connection != self._client.connection_number and not self._call.ended:
            raise ConnectionLost("the connection that the response belonged to is gone")
        if self.closed:
            raise ResponseCut("the response was halted, cleared or ended, or the call is over")
