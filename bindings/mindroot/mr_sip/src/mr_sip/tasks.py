"""Calls that one agent makes for another: begun, watched, and their result brought back.

The result is what the calling agent gives to MindRoot's `task_result`; where it gives none, what was said.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any, NamedTuple

import lib.chatcontext
from lib.providers.services import service_manager

from .agent import open_conversation, phone
from .calls import Event
from .errors import MrSipError
from .session import transcript_text

# MindRoot tells of a result by a field that is set: it has to be looked at.
POLL_S = 0.1
LONGEST_S = 6 * 3600.0
# A last sentence is heard to its end before the call of a finished task is ended.
GOODBYE_S = 15.0

TASK = (
    "SYSTEM: you are on the telephone with {number}, who has just answered. What they say comes as user messages; only "
    "what you speak is heard. Your task:\n\n{instructions}\n\nWhen it is done, or cannot be done, say goodbye, use "
    "hangup, and report by task_result."
)

log = logging.getLogger("mr_sip")


class Limits(NamedTuple):
    """In seconds: how long nobody may speak, how long the result may take after the call, how long a call may last."""

    idle_s: float
    finish_s: float
    length_s: float

    @classmethod
    def read(cls, idle: Any, finish: Any, length: Any) -> Limits:
        """From what a model wrote; nonsense counts as the default."""
        return cls(_seconds(idle, 120.0), _seconds(finish, 20.0), _seconds(length, LONGEST_S))


async def delegate(context: Any, agent: str, number: Any, instructions: str, limits: Limits) -> str:
    """Opens a conversation with `agent`, calls, has it do the task, and returns its result as a text."""
    if not instructions.strip():
        return "SYSTEM: not called: no instructions given."
    user = str(getattr(context, "username", "") or "system")
    try:
        child = await open_conversation(agent, user, parent_log_id=getattr(context, "log_id", None))
    except Exception as error:
        return f"SYSTEM: not called: there is no agent {agent!r} to call ({error})."
    report = await service_manager.dial_service(number, context=child)
    if report["status"] != "call_established":
        return f"SYSTEM: the call to {report['destination']} was not established: {report['error']}"
    session = phone().session(child.log_id)
    if session is not None:
        session.begin(TASK.format(number=report["destination"], instructions=instructions))
    return await result_of(context, child.log_id, agent, limits)


async def result_of(context: Any, log_id: str, agent: str, limits: Limits) -> str:
    """Waits for what comes of the call of conversation `log_id`. Cancelled, it ends the call."""
    telephone = phone()
    if telephone.last_call(log_id) is None and log_id not in lib.chatcontext.contexts:
        return f"SYSTEM: there is no conversation {log_id!r} on the telephone."
    began = last = time.monotonic()
    over_at: float | None = None
    spoke = [last]

    def on_event(event: Event) -> None:
        if event.name.split(".", 1)[0] in ("speech", "transcript", "response", "play"):
            spoke[0] = time.monotonic()

    undo = None
    why = ""
    try:
        while True:
            result = _task_result(log_id)
            call = telephone.last_call(log_id)
            now = time.monotonic()
            if call is not None and undo is None:
                undo = call.listen(on_event)
            up = call is not None and not call.ended
            if result is not None:
                await _end(log_id)
                return _text(log_id, agent, f"Result:\n{result}")
            if up:
                over_at = None
                if now - began > limits.length_s:
                    why = f"ended after {limits.length_s:.0f} seconds, the longest it may last"
                    await _end(log_id)
                elif now - spoke[0] > limits.idle_s:
                    why = f"ended because nobody said anything for {limits.idle_s:.0f} seconds"
                    await _end(log_id)
            elif over_at is None:
                over_at = now
            elif now - over_at > (limits.finish_s if call is not None else limits.idle_s):
                return _text(log_id, agent, await _without_result(log_id, why))
            await asyncio.sleep(POLL_S)
    except asyncio.CancelledError:
        session = telephone.session(log_id)
        if session is not None:
            (await telephone.client()).hang_up_later(session.call)
        raise
    finally:
        if undo is not None:
            undo()


def _task_result(log_id: str) -> Any:
    data = getattr(lib.chatcontext.contexts.get(log_id), "data", None)
    return data.get("task_result") if isinstance(data, dict) else None


async def _end(log_id: str) -> None:
    session = phone().session(log_id)
    if session is None:
        return
    await session.voice.drained(GOODBYE_S)
    try:
        await session.hang_up()
    except MrSipError as error:
        log.warning("call %s could not be ended: %s", session.call.id, error)


async def _without_result(log_id: str, why: str) -> str:
    call = phone().last_call(log_id)
    if call is None:
        return "No call was made, and no result was reported."
    await call.wait_summary(2.0)
    said = transcript_text(list((call.summary or {}).get("transcript") or [])) or "(nothing was said)"
    ended = why or f"over ({call.cause})"
    return f"No result was reported; the call was {ended}. What was said:\n{said}"


def _text(log_id: str, agent: str, text: str) -> str:
    return f"SYSTEM: telephone task of {agent or 'the agent'}, conversation {log_id}.\n{text}"


def _seconds(value: Any, default: float) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        return default
    return min(seconds, LONGEST_S) if seconds > 0 else default
