"""The caller's own audio, frame by frame."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from .frames import AudioFrame

if TYPE_CHECKING:
    from .calls import CallId
    from .client import ControlClient

# A subscriber that does not read loses the oldest audio, not the newest: 20 s at 20 ms a frame.
SUBSCRIPTION_FRAMES = 1_000


class Subscription:
    """An async iterator of frames that ends with the call, the connection or `close`. Made by `Call.subscribe`.

    Reading too slowly loses the oldest frames; the call and the events never wait.
    """

    def __init__(self, client: ControlClient, call_id: CallId, channel: int) -> None:
        self._client = client
        self._queue: asyncio.Queue[AudioFrame | None] = asyncio.Queue()
        self.call_id = call_id
        self.channel = channel
        self.dropped = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> AudioFrame:
        frame = await self._queue.get()
        if frame is None:
            # Whoever asks again is told again.
            self._queue.put_nowait(None)
            raise StopAsyncIteration
        return frame

    def put(self, frame: AudioFrame) -> None:
        """From the reader: the next frame."""
        if self._queue.qsize() >= SUBSCRIPTION_FRAMES:
            self._queue.get_nowait()
            self.dropped += 1
        self._queue.put_nowait(frame)

    def end(self) -> None:
        """No more frames come; those there are can still be read."""
        self._queue.put_nowait(None)

    async def close(self) -> None:
        """Ends the subscription."""
        self._client.forget_subscription(self.channel)
        self.end()
        await self._client.request("media.unsubscribe", {"channel": self.channel})
