"""Calls that come in: each is answered in a conversation of its own with the configured agent.

Listening outlives the daemon: when its connection is lost for good a new one is made (and the daemon started anew where
it was started here), and calls that ring meanwhile are answered then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any, Callable

from .calls import Call, Event
from .client import ControlClient
from .errors import MrSipError
from .phone import Phone
from .session import Agent

# Between attempts to reach a daemon that is not there.
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
# What the caller hears where the agent cannot be had: temporarily unavailable.
NO_AGENT_STATUS = 480

# (agent's name, user, call) -> (log_id, agent, first message to it or "")
Opener = Callable[[str, str, Call], Awaitable[tuple[str, Agent, str]]]

log = logging.getLogger("mr_sip")


class Listener:
    """`start`, `stop`, `status`. Belongs to the phone's event loop."""

    def __init__(self, phone: Phone, open_conversation: Opener) -> None:
        self._phone = phone
        self._open = open_conversation
        self.agent_name = ""
        self.user = ""
        self.answered = 0
        self.refused = 0
        self.error: str | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._taken: set[Call] = set()

    @property
    def listening(self) -> bool:
        """Calls are answered; or will be, as soon as the daemon is there."""
        return self._keeper is not None and not self._keeper.done()

    async def start(self, agent_name: str, user: str, wait_s: float = 5.0) -> dict[str, Any]:
        """Answers calls as `agent_name` from now on; another agent's name takes the place of the one before.

        Waits at most `wait_s` for the daemon; then `status` has the `error`, and it is tried further.
        """
        self.agent_name, self.user = agent_name, user
        if not self.listening:
            self._keeper = asyncio.get_running_loop().create_task(self._keep())
        try:
            await asyncio.wait_for(self._connected.wait(), wait_s)
        except asyncio.TimeoutError:
            self.error = self.error or "the telephone daemon has not answered yet"
        return self.status()

    async def stop(self) -> dict[str, Any]:
        """Answers no more calls; those that are up go on."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.cancel()
            await asyncio.wait({keeper})
        self._connected.clear()
        return self.status()

    def status(self) -> dict[str, Any]:
        """How it stands: `{status, agent, user, calls_answered, calls_refused, active_calls, error}`, status being
        listening, not_connected or stopped.
        """
        state = "stopped"
        if self.listening:
            state = "listening" if self._connected.is_set() else "not_connected"
        return {
            "status": state,
            "agent": self.agent_name or None,
            "user": self.user or None,
            "calls_answered": self.answered,
            "calls_refused": self.refused,
            "active_calls": self._phone.incoming_calls(),
            "error": None if state == "listening" else self.error,
        }

    async def _keep(self) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                client = await self._phone.client()
            except MrSipError as error:
                if str(error) != self.error:
                    log.error("no calls can come in: %s", error)
                self.error = str(error)
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_S)
                continue
            undo = client.listen(self._on_event)
            self._connected.set()
            self.error, pause = None, FIRST_PAUSE_S
            try:
                await self._take_waiting(client)
                await client.wait_closed()
            finally:
                self._connected.clear()
                undo()
            await asyncio.sleep(FIRST_PAUSE_S)

    async def _take_waiting(self, client: ControlClient) -> None:
        """Calls that began to ring before anybody listened."""
        try:
            for listed in await client.list_calls():
                if listed.get("state") == "incoming" and not listed.get("owner"):
                    self._on_event(Event("call.incoming", listed, client.known_call(listed)))
        except MrSipError as error:
            log.warning("calls that ring already are not answered: %s", error)

    def _on_event(self, event: Event) -> None:
        call = event.call
        # A call that begins to ring while the waiting ones are listed is told of twice.
        if event.name == "call.incoming" and call is not None and call not in self._taken:
            self._taken.add(call)
            task = asyncio.get_running_loop().create_task(self._answer(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            call.listen(lambda _: self._taken.discard(call) if call.ended else None)

    async def _answer(self, call: Call) -> None:
        try:
            log_id, agent, greeting = await self._open(self.agent_name, self.user, call)
        except Exception as error:
            log.exception("no conversation with %s for a call from %s", self.agent_name, call.party)
            self.error = f"agent {self.agent_name}: {error}"
            self.refused += 1
            await self._reject(call)
            return
        try:
            if call.ended:
                return
            self._phone.attach(log_id, call, agent, greeting)
            await call.answer()
            self.answered += 1
        except MrSipError as error:
            # Somebody else was faster, or the caller has given up.
            log.warning("call %s from %s was not answered: %s", call.id, call.party, error)

    async def _reject(self, call: Call) -> None:
        try:
            await call.reject(NO_AGENT_STATUS)
        except MrSipError as error:
            log.warning("call %s could not be refused: %s", call.id, error)
