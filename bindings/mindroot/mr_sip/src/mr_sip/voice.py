"""The agent's voice on one call: what a text-to-speech plugin hands over, in order, on its way to the daemon.

    speak -> start() -> write(u-law)... -> end()      one response; the next one is heard behind it

A queue and one pump task. What must hold:
- nothing is dropped silently: `write` says True for what will be played and False for what will not;
- `end` is ordered behind the audio before it, and drains it;
- `halt` is seen by the very next `write` and `halted`, without a round trip, and everything queued is gone;
- above `MAX_QUEUED_MS` queued, `write` waits, so that a fast voice does not run minutes ahead of a barge-in.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from typing import Union

from .calls import Call
from .errors import ConnectionLost, MrSipError, ResponseCut
from .frames import Encoding
from .response import Response

ULAW_BYTES_A_MS = 8
MAX_QUEUED_MS = 30_000
STEP_MS = 200
# Writers that wait for room look again this often, should no event wake them.
ROOM_POLL_S = 1.0

log = logging.getLogger("mr_sip")

_START = object()
_END = object()
_Item = Union[bytes, object]


class Voice:
    """Made by the session of a call; `close` it when the call is over."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: deque[_Item] = deque()
        self._queued_bytes = 0
        self._epoch = 0
        self._open = False
        self._closed = False
        self._response: Response | None = None
        self._refused_or_cut = False
        self._sounded = False
        self._spoken_told = False
        self._news = asyncio.Event()
        self._pump_task = asyncio.get_running_loop().create_task(self._pump())

    # -- what is known without asking ------------------------------------------------------------------------------

    @property
    def halted(self) -> bool:
        """The latch: from `halt` until `resume`."""
        return self._call.halted

    @property
    def queued_ms(self) -> float:
        """Milliseconds accepted and not played yet, here and in the daemon."""
        return self._queued_bytes / ULAW_BYTES_A_MS + self._call.outstanding_ms

    @property
    def sounding(self) -> bool:
        """Something was accepted that the caller has not heard yet."""
        return self.queued_ms >= 1.0

    @property
    def heard_whole(self) -> bool:
        """True where something was said this turn, and all of it was played: there is nothing to truncate."""
        return self._sounded and not self._refused_or_cut and self.queued_ms + self._call.unheard_ms < 1.0

    # -- responses -------------------------------------------------------------------------------------------------

    def start(self) -> bool:
        """A new response: what is written from now on. False while halted or once the call is over."""
        if not self._accepts():
            return False
        if self._open:
            self._put(_END)
        self._put(_START)
        self._open = True
        return True

    async def write(self, ulaw: bytes) -> bool:
        """Queues u-law samples of any length, starting a response where none was started.

        True: they will be played (unless halted later). False: halted, or the call is over; the speaker is to stop.
        Waits while more than `MAX_QUEUED_MS` are queued.
        """
        if not self._accepts():
            return False
        if not ulaw:
            return True
        if not self._open:
            self.start()
        epoch = self._epoch
        self._put(bytes(ulaw))
        while self.queued_ms > MAX_QUEUED_MS:
            if not await self._call.wait_until(
                lambda _: epoch != self._epoch or self._closed or self.queued_ms <= MAX_QUEUED_MS, ROOM_POLL_S
            ):
                with contextlib.suppress(MrSipError):
                    await self._call.position()
            if epoch != self._epoch or not self._accepts():
                return False
        return True

    def end(self) -> bool:
        """No more for the response that is open. What is queued of it is still played. After an interrupt: nothing to
        do.
        """
        if self._closed:
            return False
        if self._open:
            self._put(_END)
            self._open = False
        return True

    async def drained(self, timeout: float) -> bool:
        """Waits until everything accepted so far was sent to the caller, or cut. False where `timeout` seconds pass
        first.
        """
        deadline = time.monotonic() + timeout
        while self.queued_ms >= 1.0 and not self._closed:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            if not await self._call.wait_until(lambda _: self.queued_ms < 1.0 or self._closed, min(left, ROOM_POLL_S)):
                with contextlib.suppress(MrSipError):
                    await self._call.position()
        return True

    # -- barge-in --------------------------------------------------------------------------------------------------

    def latch(self) -> None:
        """What `halt` does on this side, at once: nothing is accepted any more. `halt` is to follow."""
        self._flush()
        self._call.latch()

    async def halt(self) -> None:
        """Silence now, and until `resume`."""
        self.latch()
        await self._call.halt()

    async def resume(self) -> None:
        """The next turn may speak. Its count of spoken seconds begins at zero."""
        await self._call.resume()
        if not self.halted:
            self._refused_or_cut = self._sounded = self._spoken_told = False

    async def clear(self) -> float:
        """Silence now, without a latch. Returns the milliseconds that were thrown away."""
        thrown = self.queued_ms
        self._flush()
        await self._call.clear()
        return thrown

    async def spoken_seconds(self) -> float:
        """Seconds really sent to the caller this turn, summed over its responses.

        Asked of the daemon; where it cannot answer any more, what its last events told. Zero when it was told already
        and nothing was allowed to sound since.
        """
        if self._spoken_told:
            return 0.0
        if self.halted:
            self._spoken_told = True
        try:
            return (await self._call.position()).turn_ms / 1000.0
        except MrSipError:
            return self._call.turn_ms / 1000.0

    async def close(self) -> None:
        """The call is over: writers that wait are told so, the pump ends."""
        self._closed = True
        self._flush()
        self._pump_task.cancel()
        await asyncio.wait({self._pump_task})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _accepts(self) -> bool:
        if self._closed or self._call.ended:
            return False
        if self.halted:
            self._refused_or_cut = True
            return False
        return True

    def _put(self, item: _Item) -> None:
        if isinstance(item, bytes):
            self._queued_bytes += len(item)
            self._sounded = True
        self._queue.append(item)
        self._news.set()

    def _flush(self) -> None:
        if self.queued_ms >= 1.0 or self._open:
            self._refused_or_cut = True
        self._epoch += 1
        self._queue.clear()
        self._queued_bytes = 0
        self._open = False
        self._response = None
        self._news.set()
        self._call.notify()

    async def _pump(self) -> None:
        while True:
            if not self._queue:
                self._news.clear()
                await self._news.wait()
                continue
            item = self._queue.popleft()
            epoch = self._epoch
            try:
                if item is _START:
                    await self._open_response(epoch)
                elif item is _END:
                    await self._end_response()
                elif isinstance(item, bytes):
                    await self._send(item, epoch)
            except ResponseCut:
                # Halted, cleared or over; ours has emptied the queue, somebody else's ends this response only.
                self._lost(epoch)
            except MrSipError as error:
                log.error("call %s: speech was lost: %s", self._call.id, error)
                self._lost(epoch)

    async def _open_response(self, epoch: int) -> None:
        try:
            response = await self._call.start_response(Encoding.ULAW)
        except ConnectionLost:
            # The next request waits for the connection to be back, or says that it will not be.
            response = await self._call.start_response(Encoding.ULAW)
        if epoch == self._epoch:
            self._response = response

    async def _end_response(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            await response.end()

    async def _send(self, ulaw: bytes, epoch: int) -> None:
        """Hands a chunk over step by step: what is not yet with the daemon survives a lost connection."""
        step = STEP_MS * ULAW_BYTES_A_MS
        sent = 0
        try:
            while sent < len(ulaw) and epoch == self._epoch and self._response is not None:
                piece = ulaw[sent : sent + step]
                try:
                    await self._response.write(piece)
                except ConnectionLost:
                    if self._call.ended or epoch != self._epoch:
                        return
                    await self._open_response(epoch)
                    continue
                sent += len(piece)
                if epoch == self._epoch:
                    self._queued_bytes -= len(piece)
                    self._call.notify()
        finally:
            if epoch == self._epoch:
                self._queued_bytes -= len(ulaw) - sent

    def _lost(self, epoch: int) -> None:
        """What is left of the response that failed goes with it; the next `start` begins anew."""
        if epoch == self._epoch:
            self._response = None
            self._refused_or_cut = True
            self._call.notify()
