"""One agent on one call: who speaks, who is interrupted, and what the agent is told.

No MindRoot in here: the agent is whatever offers the methods of `Agent`. What must hold is the order of a barge-in,
the one that keeps the agent's history true:

    the caller begins to speak   halt the voice, then tell the agent that it was interrupted
    the caller's words are there read how much was heard, cancel the agent's turn, cut its last words down to that,
                                 take the latch off, show what the caller said, and only then let the agent answer

Turns of one call are handled one after the other by one task; the halt at the start of speech waits for none of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, Callable, Protocol

from .calls import Call, Event
from .errors import MrSipError
from .voice import Voice

# Supervising agents wait for exactly this message.
DISCONNECTED = "\n\nSYSTEM: -- CALL DISCONNECTED --\n\n"
# Speech that came to no words (a cough, noise) leaves the voice latched; so long after it ended the agent may speak
# again.
NO_WORDS_S = 4.0
# The last words are still being transcribed when the line is gone; so long the summary is waited for.
SUMMARY_WAIT_S = 5.0

log = logging.getLogger("mr_sip")


class Agent(Protocol):
    """What a session asks of the brain. Each may fail; a failure is logged and the call goes on."""

    async def interrupted(self) -> None:
        """The caller speaks: stop making speech."""

    async def cancel_turn(self) -> None:
        """End the turn that runs, and return when it has."""

    async def truncate(self, spoken_seconds: float) -> None:
        """The last reply was heard for this long only."""

    async def show(self, text: str) -> None:
        """Show what the caller said."""

    async def take_turn(self, text: str) -> None:
        """Answer this message; returns when the whole turn is over, speech included."""

    async def remember(self, text: str) -> None:
        """Put what the caller said into the history without answering."""


class Session:
    """Made when the call is established; ends with it.

    Attributes:
        log_id: names the agent's conversation.
        closing: the agent (or its program) hung up itself, so it need not be told.
    """

    def __init__(self, log_id: str, call: Call, agent: Agent, on_end: Callable[[Session], None]) -> None:
        self.log_id = log_id
        self.call = call
        self.voice = Voice(call)
        self.closing = False
        self._agent = agent
        self._on_end = on_end
        self._over = False
        self._speaking = False
        self._silent_since_stop: asyncio.TimerHandle | None = None
        self._finals: asyncio.Queue[str | None] = asyncio.Queue()
        self._turn: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._halting: asyncio.Task[None] | None = None
        self._undo = call.listen(self._on_event)
        self._worker = self._spawn(self._work())
        if call.ended:
            self._finish()

    async def hang_up(self) -> dict[str, Any]:
        """Ends the call and returns `{status, call_duration_seconds, transcript, transcript_lines, cause}`."""
        self.closing = True
        await self.call.hangup()
        if not await self.call.wait_ended(SUMMARY_WAIT_S):
            log.warning("call %s: the daemon has not confirmed the end", self.call.id)
        lines = await self.transcript()
        return {
            "status": "call_ended",
            "log_id": self.log_id,
            "call": self.call.id,
            "call_duration_seconds": round(self.call.duration_s, 1),
            "cause": self.call.cause,
            "transcript": transcript_text(lines),
            "transcript_lines": lines,
        }

    async def transcript(self) -> list[Mapping[str, Any]]:
        """The lines of what was said: the summary's once it is there, else those so far."""
        if self.call.ended:
            await self.call.wait_summary(SUMMARY_WAIT_S)
        record = self.call.summary
        if record is None:
            try:
                record = await self.call.get()
            except MrSipError as error:
                log.warning("call %s: no transcript: %s", self.call.id, error)
                return []
        return list(record.get("transcript") or [])

    async def settled(self) -> None:
        """Waits until everything that the call's events set off is done, the agent's turn excepted."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- events, in the connection's reader ------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if event.name == "speech.start":
            self._speaking = True
            self._stop_waiting_for_words()
            # Now, in the reader: nothing that the agent writes from here on gets through.
            self.voice.latch()
            self._halting = self._spawn(self._interrupt(self._halting))
        elif event.name == "speech.stop":
            self._speaking = False
            self._stop_waiting_for_words()
            self._silent_since_stop = asyncio.get_running_loop().call_later(NO_WORDS_S, self._no_words)
        elif event.name == "transcript.final":
            # The caller may have begun the next sentence while this one was transcribed: only `speech.stop` says
            # otherwise.
            self._stop_waiting_for_words()
            self._finals.put_nowait(str(event.params.get("text") or "").strip())
        elif self.call.ended:
            self._finish()

    def _finish(self) -> None:
        if self._over:
            return
        self._over = True
        self._stop_waiting_for_words()
        self._on_end(self)
        self._finals.put_nowait(None)

    def _stop_waiting_for_words(self) -> None:
        if self._silent_since_stop is not None:
            self._silent_since_stop.cancel()
            self._silent_since_stop = None

    def _no_words(self) -> None:
        self._finals.put_nowait("")

    # -- turns -----------------------------------------------------------------------------------------------------

    async def _interrupt(self, earlier: asyncio.Task[None] | None) -> None:
        await self._safely("halting the voice", self.voice.halt())
        if earlier is not None and not earlier.done():
            await asyncio.wait({earlier})
        await self._safely("interrupting the agent", self._agent.interrupted())

    async def _work(self) -> None:
        while True:
            text = await self._finals.get()
            if text is None or self.call.ended:
                await self._call_over(text)
                return
            if self._halting is not None:
                await asyncio.wait({self._halting})
            if text:
                await self._caller_said(text)
            elif not self._speaking and self._finals.empty():
                await self._safely("letting the agent speak again", self.voice.resume())

    async def _caller_said(self, text: str) -> None:
        await self._stop_turn()
        if not self._speaking:
            # While the caller goes on speaking the latch stays; the words that are still to come take it off.
            await self._safely("letting the agent speak again", self.voice.resume())
        await self._safely("showing what the caller said", self._agent.show(text))
        self._turn = self._spawn_turn(text)

    async def _stop_turn(self) -> None:
        """Reads what was heard, cancels the turn, cuts the history down to it."""
        running = self._turn is not None and not self._turn.done()
        whole = self.voice.heard_whole and not running
        spoken = 0.0
        try:
            spoken = await self.voice.spoken_seconds()
        except Exception:
            log.exception("call %s: asking how much was heard failed", self.call.id)
        await self._safely("cancelling the agent's turn", self._agent.cancel_turn())
        if not whole:
            # A reply that was heard to its end stays as it is: characters a second are only an estimate.
            await self._safely("cutting the agent's last words", self._agent.truncate(spoken))

    async def _call_over(self, text: str | None) -> None:
        """The last words go into the history, and an agent that did not hang up itself is told."""
        if text:
            await self._safely("keeping the last words", self._agent.remember(text))
        await self.call.wait_summary(SUMMARY_WAIT_S if self.call.cause != "client_gone" else 0.0)
        self._undo()
        while not self._finals.empty():
            late = self._finals.get_nowait()
            if late:
                await self._safely("keeping the last words", self._agent.remember(late))
        if not self.closing:
            await self._stop_turn()
        await self.voice.close()
        if not self.closing:
            self._turn = self._spawn_turn(DISCONNECTED)

    def _spawn_turn(self, text: str) -> asyncio.Task[None]:
        # Not among the session's own tasks: it takes as long as the agent speaks, and ends by being cancelled.
        return asyncio.get_running_loop().create_task(self._safely("the agent's turn", self._agent.take_turn(text)))

    async def _safely(self, what: str, step: Awaitable[Any]) -> None:
        """A step that fails is logged; the next steps and the call go on."""
        try:
            await step
        except MrSipError as error:
            log.warning("call %s: %s failed: %s", self.call.id, what, error)
        except Exception:
            log.exception("call %s: %s failed", self.call.id, what)

    def _spawn(self, coroutine: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def transcript_text(lines: list[Mapping[str, Any]]) -> str:
    """The transcript as a person reads it: `caller: ...` and `agent: ...`, one line each."""
    return "\n".join(f"{line.get('who', '?')}: {line.get('text')}" for line in lines if line.get("text"))
