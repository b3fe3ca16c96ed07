"""All the calls of this process: which conversation is on which call, and the daemon behind them.

One connection, one session for each `log_id`. This is what MindRoot's services are a thin skin over; it knows no
MindRoot.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from typing import Any

from .archive import Archive
from .calls import Call, Event
from .client import ControlClient
from .daemon import Daemon
from .destination import normalize
from .errors import DestinationRefused, MrSipError, RequestRefused
from .session import SUMMARY_WAIT_S, Agent, Session, with_words

DEFAULT_ESTABLISH_S = 120.0
# The daemon ends a call that nobody answers itself; it is given this long to say so before we give up waiting.
ESTABLISH_GRACE_S = 3.0

# Of so many conversations the last call is remembered after it is over.
REMEMBERED_CALLS = 200

# When everything ends: so long the ends of calls, and then their summaries, are waited for.
LAST_SUMMARIES_S = 2.0

# What the daemon takes as `timeout_ms`.
TIMEOUT_BOUNDS_MS = (1_000, 600_000)

# The protocol's causes in an agent's words.
CAUSES = {
    "busy": "the line is busy",
    "no_answer": "nobody answered",
    "declined": "the call was declined",
    "rejected": "the call was rejected",
    "not_found": "there is no such number or address",
    "cancelled": "the call was cancelled",
    "auth": "the telephone provider refused our user name or password",
    "media": "no audio connection could be agreed on",
    "network": "the telephone network could not be reached",
    "timeout": "the other side did not answer in time",
    "remote_hangup": "the other side hung up at once",
    "client_gone": "the connection to the telephone daemon was lost",
}

log = logging.getLogger("mr_sip")


class Phone:
    """Calls by `log_id`. Belongs to the event loop it was made in."""

    def __init__(self, daemon: Daemon | None = None, name: str = "mindroot", archive: Archive | None = None) -> None:
        self.daemon = daemon or Daemon()
        self.archive = archive
        self._name = name
        self._client: ControlClient | None = None
        self._connecting = asyncio.Lock()
        self._sessions: dict[str, Session] = {}
        self._dialing: set[str] = set()
        self._last: OrderedDict[str, Call] = OrderedDict()
        self._keeping: set[asyncio.Task[None]] = set()
        self.being_written: dict[str, dict[str, Any]] = {}

    def session(self, log_id: str | None) -> Session | None:
        """The session of a conversation that is on a call now, else None."""
        return self._sessions.get(log_id) if log_id else None

    def sessions(self) -> list[Session]:
        """Everybody who is on a call."""
        return list(self._sessions.values())

    def incoming_calls(self) -> int:
        """How many of the calls that are up came in."""
        return sum(session.call.direction == "in" for session in self._sessions.values())

    def last_call(self, log_id: str) -> Call | None:
        """The call that a conversation is on, or the last one that it was on."""
        session = self._sessions.get(log_id)
        return session.call if session is not None else self._last.get(log_id)

    async def client(self) -> ControlClient:
        """The connection to the daemon, made (and the daemon started) when first needed. Raises MrSipError."""
        async with self._connecting:
            if self._client is None or self._client.closed:
                self._client = await self.daemon.connect(self._name)
            return self._client

    async def dial(
        self,
        log_id: str,
        destination: object,
        agent: Agent,
        *,
        account: str | None = None,
        timeout_s: float = DEFAULT_ESTABLISH_S,
    ) -> dict[str, Any]:
        """Calls, and waits until somebody answers or it is clear that nobody will.

        Returns `{status, log_id, destination, error, ...}`; status is call_established, call_failed, blocked or error.
        Never raises except for cancellation, which cancels the call.
        """
        report: dict[str, Any] = {"log_id": log_id, "destination": str(destination), "error": None}
        if log_id in self._dialing or log_id in self._sessions:
            return {**report, "status": "error", "error": "this conversation is on a call already: hang up first"}
        self._dialing.add(log_id)
        try:
            target = normalize(destination)
            report["destination"] = target
            call, gave_up = await self._dial(log_id, target, agent, account, timeout_s)
        except DestinationRefused as error:
            return {**report, "status": "blocked" if error.emergency else "error", "error": str(error)}
        except RequestRefused as error:
            return {**report, "status": "call_failed", "error": error.reason, "error_code": error.code}
        except MrSipError as error:
            log.error("%s", error)
            return {**report, "status": "error", "error": str(error)}
        finally:
            self._dialing.discard(log_id)
        report["call"] = call.id
        if log_id in self._sessions or (call.answered_at is not None and not gave_up):
            # Perhaps over already: then its session has told the agent so.
            return {**report, "status": "call_established"}
        cause = "no_answer" if gave_up or call.cause is None else call.cause
        return {
            **report,
            "status": "call_failed",
            "error": failure_text(cause, call),
            "cause": cause,
            "sip_status": call.status,
            "reason": call.reason,
        }

    async def hang_up(self, log_id: str) -> dict[str, Any]:
        """Ends the conversation's call: `{status: call_ended | no_active_call | error, call_duration_seconds,
        transcript}`.
        """
        session = self._sessions.get(log_id)
        if session is None:
            return {
                "status": "no_active_call",
                "log_id": log_id,
                "call_duration_seconds": 0.0,
                "transcript": "",
                "transcript_lines": [],
            }
        try:
            return await session.hang_up()
        except MrSipError as error:
            return {
                "status": "error",
                "log_id": log_id,
                "error": str(error),
                "call_duration_seconds": round(session.call.duration_s, 1),
                "transcript": "",
                "transcript_lines": [],
            }

    async def close(self) -> None:
        """Hangs everything up, ends the connection, and stops the daemon where it was started here."""
        sessions: list[Session] = list(self._sessions.values())
        for session in sessions:
            session.closing = True
        await asyncio.gather(*(session.call.hangup() for session in sessions), return_exceptions=True)
        await asyncio.gather(*(session.call.wait_ended(LAST_SUMMARIES_S) for session in sessions))
        if self._keeping:
            # What was said last is still being transcribed.
            await asyncio.wait(set(self._keeping), timeout=LAST_SUMMARIES_S)
        if self._client is not None:
            await self._client.close()
        await asyncio.gather(*(session.settled() for session in sessions), return_exceptions=True)
        self.daemon.stop()

    async def _dial(
        self, log_id: str, target: str, agent: Agent, account: str | None, timeout_s: float
    ) -> tuple[Call, bool]:
        """The call, established or over, and whether it was given up because nobody answered in time."""
        client = await self.client()
        call: Call | None = None
        wanted = asyncio.Event()
        wanted.set()
        try:
            call = await client.dial(
                target,
                account=account,
                timeout_ms=max(TIMEOUT_BOUNDS_MS[0], min(TIMEOUT_BOUNDS_MS[1], int(timeout_s * 1000))),
                metadata={"log_id": log_id},
                on_call=lambda made: self.attach(log_id, made, agent, wanted=wanted),
            )
            gave_up = not await call.wait_established(timeout_s + ESTABLISH_GRACE_S) and not call.ended
            if gave_up:
                wanted.clear()
                await call.hangup()
                await call.wait_ended(ESTABLISH_GRACE_S)
            return call, gave_up
        except BaseException:
            wanted.clear()
            session = self._sessions.get(log_id)
            if session is not None:
                # Answered in the very moment of being given up.
                session.closing = True
            if call is not None and not call.ended:
                client.hang_up_later(call)
            raise

    def attach(
        self, log_id: str, call: Call, agent: Agent, greeting: str = "", wanted: asyncio.Event | None = None
    ) -> None:
        """Makes a call this conversation's: its session begins in the very event that says the call is answered, so
        that no word of the caller is missed. The agent is then sent `greeting`, if there is one. Not before `wanted`
        is set, where that is given.
        """

        def on_event(_: Event) -> None:
            if call.answered and (wanted is None or wanted.is_set()) and log_id not in self._sessions:
                session = self._sessions[log_id] = Session(log_id, call, agent, self._ended)
                if greeting:
                    session.begin(greeting)
            if call.ended:
                undo()
                self._keep(log_id, call, agent)

        undo = call.listen(on_event)

    def _keep(self, log_id: str, call: Call, agent: Agent) -> None:
        """Remembers the call, and writes it down once its last words are there."""
        self._last[log_id] = call
        self._last.move_to_end(log_id)
        while len(self._last) > REMEMBERED_CALLS:
            self._last.popitem(last=False)
        if self.archive is not None:
            task = asyncio.get_running_loop().create_task(self._write_down(self.archive, log_id, call, agent))
            self._keeping.add(task)
            task.add_done_callback(self._keeping.discard)

    async def _write_down(self, archive: Archive, log_id: str, call: Call, agent: Agent) -> None:
        # Shown meanwhile, so that a call is at no moment neither up nor over.
        self.being_written[log_id] = {**call_record(log_id, call, agent), "id": log_id}
        try:
            if call.cause != "client_gone":
                await call.wait_summary(SUMMARY_WAIT_S)
            await asyncio.to_thread(archive.keep, call_record(log_id, call, agent))
        finally:
            self.being_written.pop(log_id, None)

    def _ended(self, session: Session) -> None:
        if self._sessions.get(session.log_id) is session:
            del self._sessions[session.log_id]


def call_record(log_id: str, call: Call, agent: Agent) -> dict[str, Any]:
    """What is kept of a call: the daemon's summary, and whose it was."""
    own: dict[str, Any] = {
        "log_id": log_id,
        "agent": agent.name,
        "user": agent.user,
        "party": call.party,
        "display_name": call.display_name,
        "direction": call.direction,
        "state": call.state,
        "from": call.remote_from,
        "to": call.remote_to,
        "cause": call.cause,
        "status": call.status,
        "reason": call.reason,
        "started_unix_ms": round(call.made_at * 1000),
        "duration_ms": round(call.duration_s * 1000),
        "transcript": [],
    }
    told = {name: value for name, value in (call.summary or {}).items() if name not in ("time_ms", "metadata")}
    record = {**own, **told}
    record["transcript"] = with_words(list(record["transcript"] or []), agent.said())
    return record


def live_record(session: Session) -> dict[str, Any]:
    """What is shown of a call that is up."""
    record = call_record(session.log_id, session.call, session.agent)
    record["id"] = session.log_id
    record["answered_unix_ms"] = round(time.time() * 1000) - record["duration_ms"]
    return record


def failure_text(cause: str, call: Call) -> str:
    """Why a call was not established, for an agent to read."""
    text = CAUSES.get(cause, "the call failed")
    detail = " ".join(str(part) for part in (call.status, call.reason) if part)
    return f"{text} ({detail})" if detail else text
