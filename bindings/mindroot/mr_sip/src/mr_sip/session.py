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
from .errors import ConnectionLost, MrSipError
from .voice import Voice

# Supervising agents wait for exactly this message.
DISCONNECTED = "\n\nSYSTEM: -- CALL DISCONNECTED --\n\n"
# Speech that came to no words (a cough, noise) leaves the voice latched; so long after it ended the agent may speak
# again.
NO_WORDS_S = 4.0
# The last words are still being transcribed when the line is gone; so long the summary is waited for.
SUMMARY_WAIT_S = 5.0

# A speech-to-speech model has so long to act on the end of the call before its session is closed.
LAST_WORDS_S = 10.0
# A subscription that has ended with its connection is not asked for again faster than this.
RESUBSCRIBE_PAUSE_S = 0.05
# How often it is looked whether the call still goes on, while an agent is waited for that must not be interrupted.
DONE_POLL_S = 1.0

log = logging.getLogger("mr_sip")


class Agent(Protocol):
    """What a session asks of the brain. Each may fail; a failure is logged and the call goes on.

    Attributes:
        name, user: whose call it is, for its record.
        speech_to_speech: the model hears and speaks itself: it gets audio instead of words, and minds turns itself.
        wants_audio: the caller's audio is wanted (`hear`).
    """

    name: str
    user: str

    @property
    def speech_to_speech(self) -> bool: ...

    @property
    def wants_audio(self) -> bool: ...

    async def hear(self, ulaw: bytes) -> None:
        """The caller's audio, u-law at 8 kHz, 20 ms or so at a time."""

    async def utterance_complete(self, text: str) -> None:
        """The caller has said this; before anything comes of it."""

    def said(self) -> list[str]:
        """What the agent has spoken on this call, reply by reply, as its history has it."""
        ...

    async def over(self) -> None:
        """The call is over and everything was told."""

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
        agent: whose side of the call this is.
        closing: the agent (or its program) hung up itself, so it need not be told.
    """

    def __init__(self, log_id: str, call: Call, agent: Agent, on_end: Callable[[Session], None]) -> None:
        self.log_id = log_id
        self.call = call
        self.voice = Voice(call)
        self.closing = False
        self.agent = agent
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
        if agent.wants_audio:
            self._spawn(self._listen())
        if call.ended:
            self._finish()

    def begin(self, message: str) -> None:
        """Has the agent take the first turn, with this message."""
        self._turn = self._spawn_turn(message)

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
        return with_words(list(record.get("transcript") or []), self.agent.said())

    async def settled(self) -> None:
        """Waits until everything that the call's events set off is done, the agent's turn excepted."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    # -- events, in the connection's reader ------------------------------------------------------------------------

    def _on_event(self, event: Event) -> None:
        if self.agent.speech_to_speech:
            # Such a model hears the caller itself, and minds turns and interruptions.
            if self.call.ended:
                self._finish()
        elif event.name == "speech.start":
            self._speaking = True
            self._stop_waiting_for_words()
            # Over an agent that speaks the daemon decides, by the call's policy: a cough or an "uh-huh" need not be an
            # interruption. An agent that is silent stays so while the caller speaks.
            if not self.voice.sounding:
                self._halt()
        elif event.name == "turn.barge_in":
            self._halt()
        elif event.name == "speech.stop":
            self._speaking = False
            self._stop_waiting_for_words()
            self._silent_since_stop = asyncio.get_running_loop().call_later(NO_WORDS_S, self._no_words)
        elif event.name == "transcript.final":
            # The caller may have begun the next sentence while this one was transcribed: only `speech.stop` says
            # otherwise.
            self._stop_waiting_for_words()
            # Who only shows that he listens is not answered.
            text = "" if event.params.get("backchannel") else str(event.params.get("text") or "")
            self._finals.put_nowait(text.strip())
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

    async def _listen(self) -> None:
        """Hands the caller's audio on; subscribed anew after a lost connection."""
        while not self.call.ended:
            try:
                audio = await self.call.subscribe()
            except ConnectionLost:
                continue
            except MrSipError as error:
                log.warning("call %s: the caller's audio cannot be heard: %s", self.call.id, error)
                return
            async for frame in audio:
                await self._safely("handing on the caller's audio", self.agent.hear(frame.samples))
            await asyncio.sleep(RESUBSCRIBE_PAUSE_S)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _halt(self) -> None:
        # Now, in the reader: nothing that the agent writes from here on gets through.
        self.voice.latch()
        self._halting = self._spawn(self._interrupt(self._halting))

    async def _interrupt(self, earlier: asyncio.Task[None] | None) -> None:
        await self._safely("halting the voice", self.voice.halt())
        if earlier is not None and not earlier.done():
            await asyncio.wait({earlier})
        await self._safely("interrupting the agent", self.agent.interrupted())

    async def _work(self) -> None:
        while True:
            text = await self._finals.get()
            if text is None or self.call.ended:
                await self._call_over(text)
                return
            if text and not self.voice.halted:
                if self.voice.sounding and not await self._may_be_interrupted():
                    await self._agent_done()
                    text = self._with_what_came_since(text)
                    if self.call.ended:
                        await self._call_over(text)
                        return
                else:
                    # A turn that was not taken for an interruption, or whose words came when the agent had just begun.
                    self._halt()
            if self._halting is not None:
                await asyncio.wait({self._halting})
            if text:
                await self._caller_said(text)
            elif self.voice.halted and not self._speaking and self._finals.empty():
                await self._safely("letting the agent speak again", self.voice.resume())

    async def _may_be_interrupted(self) -> bool:
        """Whether the call's policy lets the caller stop the agent. The daemon is asked: others may change it."""
        try:
            return (await self.call.turn_policy()).get("barge_in") is not False
        except MrSipError as error:
            log.warning("call %s: its turn policy is not known: %s", self.call.id, error)
            return True

    async def _agent_done(self) -> None:
        """Waits until the agent has said all it has to say, or was stopped after all, or the call is over."""
        while not (self.call.ended or self.voice.halted):
            if self._turn is not None and not self._turn.done():
                await asyncio.wait({self._turn}, timeout=DONE_POLL_S)
            elif self.voice.sounding:
                await self.voice.drained(DONE_POLL_S)
            else:
                return

    def _with_what_came_since(self, text: str) -> str:
        """What was said over an agent that was not to be interrupted is answered as one."""
        texts = [text]
        while not self._finals.empty():
            later = self._finals.get_nowait()
            if later is None:
                self._finals.put_nowait(None)
                break
            texts.append(later)
        return " ".join(filter(None, texts))

    async def _caller_said(self, text: str) -> None:
        # Not awaited: whoever hooks in must not delay the answer.
        self._spawn(self._safely("telling of the utterance", self.agent.utterance_complete(text)))
        await self._stop_turn()
        if not self._speaking:
            # While the caller goes on speaking the latch stays; the words that are still to come take it off.
            await self._safely("letting the agent speak again", self.voice.resume())
        await self._safely("showing what the caller said", self.agent.show(text))
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
        await self._safely("cancelling the agent's turn", self.agent.cancel_turn())
        if not whole:
            # A reply that was heard to its end stays as it is: characters a second are only an estimate.
            await self._safely("cutting the agent's last words", self.agent.truncate(spoken))

    async def _call_over(self, text: str | None) -> None:
        """The last words go into the history, and an agent that did not hang up itself is told."""
        if text:
            await self._safely("keeping the last words", self.agent.remember(text))
        await self.call.wait_summary(SUMMARY_WAIT_S if self.call.cause != "client_gone" else 0.0)
        self._undo()
        while not self._finals.empty():
            late = self._finals.get_nowait()
            if late:
                await self._safely("keeping the last words", self.agent.remember(late))
        if not self.closing and not self.agent.speech_to_speech:
            await self._stop_turn()
        await self.voice.close()
        if not self.closing:
            self._turn = self._spawn_turn(DISCONNECTED)
            if self.agent.speech_to_speech:
                # Such a model answers by events of its own; it may still report what came of the call.
                await asyncio.sleep(LAST_WORDS_S)
        await self._safely("ending the agent's side", self.agent.over())

    def _spawn_turn(self, text: str) -> asyncio.Task[None]:
        # Not among the session's own tasks: it takes as long as the agent speaks, and ends by being cancelled.
        return asyncio.get_running_loop().create_task(self._safely("the agent's turn", self.agent.take_turn(text)))

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


def with_words(lines: list[Mapping[str, Any]], said: list[str]) -> list[Mapping[str, Any]]:
    """The transcript with the agent's words: the daemon had its audio only.

    A voice that makes one response a reply gives as many lines as there are replies (the last may not be in the history
    yet). Where the numbers do not agree nobody can say which words belong to which line, and they stay without.
    """
    silent = [number for number, line in enumerate(lines) if line.get("who") == "agent" and not line.get("text")]
    if not said or len(silent) - len(said) not in (0, 1):
        return lines
    words = dict(zip(silent, said))
    return [{**line, "text": words[number]} if number in words else line for number, line in enumerate(lines)]


def transcript_text(lines: list[Mapping[str, Any]]) -> str:
    """The transcript as a person reads it: `caller: ...` and `agent: ...`, one line each."""
    return "\n".join(f"{line.get('who', '?')}: {line.get('text')}" for line in lines if line.get("text"))
