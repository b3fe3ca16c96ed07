"""The commands an agent has on the telephone.

A command that returns None ends the agent's turn; a text goes back to it and it may go on. Every command takes `**kw`,
because models invent arguments.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
from typing import Any

from lib.providers.commands import command
from lib.providers.services import service_manager

from . import tasks
from .agent import phone, running_context
from .calls import Event
from .destination import normalize
from .errors import DestinationRefused, MrSipError
from .session import Session

__all__ = [
    "call",
    "hangup",
    "send_dtmf",
    "wait",
    "play_audio",
    "transfer",
    "hold",
    "resume",
    "delegate_call_task",
    "await_call_result",
    "start_incoming_calls",
    "stop_incoming_calls",
    "incoming_call_status",
]

# The longest goodbye that the `hangup` command waits for.
GOODBYE_S = 20.0
# An agent does not wait longer than this in one command.
LONGEST_WAIT_S = 600.0
# The far end's answer to a transfer: it may ring at the new place first.
TRANSFER_S = 60.0
# A comma among digits, as every telephone has it.
COMMA_S = 2.0
# What the daemon takes at once, and how long keys are pressed and let go.
DIGITS_AT_ONCE = 64
DIGIT_MS, DIGIT_GAP_MS = 120, 60

NO_CALL = "SYSTEM: there is no call."

log = logging.getLogger("mr_sip")


@command()
async def call(destination: str, context: Any = None, **kw: Any) -> str | None:
    """Call a telephone number or a SIP address, and wait until it is answered.

    destination: telephone number with country code, or a SIP URI.

    After the call is established, everything the other side says arrives as user messages, and what you speak is heard
    by them. Wait for their first words. If the call cannot be established, the result says why.

    Example:
    { "call": { "destination": "+15550100199" } }

    Example (SIP address):
    { "call": { "destination": "sip:reception@example.com" } }
    """
    context = running_context(context)
    report = await service_manager.dial_service(destination, context=context)
    if report["status"] == "call_established":
        return None
    return f"SYSTEM: the call to {report['destination']} was not established: {report['error']}"


@command()
async def hangup(context: Any = None, **kw: Any) -> str:
    """End the telephone call of this conversation.

    Say goodbye first: what you have spoken is heard to its end before the call is ended.

    Example:
    { "hangup": {} }
    """
    context = running_context(context)
    session = phone().session(getattr(context, "log_id", None))
    if session is not None:
        # A voice hands over its last sentence faster than it is heard; a goodbye that is cut off is worse than a late
        # one.
        await session.voice.drained(GOODBYE_S)
    report = await service_manager.end_call_service(context=context)
    if report["status"] == "no_active_call":
        return "SYSTEM: there is no call to hang up."
    if report["status"] == "error":
        return f"SYSTEM: the call could not be ended: {report['error']}"
    transcript = report["transcript"] or "(nothing was said)"
    return f"SYSTEM: call ended after {report['call_duration_seconds']:.0f} seconds. Transcript:\n{transcript}"


@command()
async def send_dtmf(digits: str = "", context: Any = None, **kw: Any) -> str | None:
    """Press keys on the telephone, for menus and codes. A comma waits for two seconds.

    digits: 0-9, *, #, A-D and commas.

    Example:
    { "send_dtmf": { "digits": "1,4711#" } }
    """
    session = _session(context)
    if session is None:
        return NO_CALL
    keys = re.sub(r"[\s().\-]", "", str(digits)).upper()
    if not keys or re.search(r"[^0-9*#A-D,]", keys):
        return f"SYSTEM: not keys of a telephone: {str(digits)[:80]!r}. There are 0-9, *, #, A-D, and a comma to wait."
    if len(keys) > DIGITS_AT_ONCE:
        return f"SYSTEM: {len(keys)} keys at once are too many: at most {DIGITS_AT_ONCE}."
    try:
        for number, pressed in enumerate(keys.split(",")):
            if number:
                await asyncio.sleep(COMMA_S)
            if pressed:
                await session.call.send_digits(pressed, DIGIT_MS, DIGIT_GAP_MS)
                await asyncio.sleep(len(pressed) * (DIGIT_MS + DIGIT_GAP_MS) / 1000)
    except MrSipError as error:
        return f"SYSTEM: the keys could not be pressed: {error}"
    return None


@command()
async def wait(seconds: float = 1.0, context: Any = None, **kw: Any) -> str:
    """Say nothing for a while: while you are put on hold, or an announcement plays. What the other side says ends it.

    Example:
    { "wait": { "seconds": 10 } }
    """
    length = _number(seconds, 1.0, LONGEST_WAIT_S)
    session = _session(context)
    if session is None:
        await asyncio.sleep(length)
    elif await session.call.wait_ended(length):
        return "SYSTEM: the call has ended."
    return f"SYSTEM: waited {length:g} seconds; nothing was said."


@command()
async def play_audio(
    file_path: str = "", channel: str = "mix", wait: Any = True, bargeable: Any = True, context: Any = None, **kw: Any
) -> str | None:
    """Play a WAV file to the other side.

    file_path: absolute, or a name in the telephone's folder of sounds.
    channel: "mix" plays it together with your voice, "instead" makes your voice wait until it is over.
    wait: whether you go on only when it is over. bargeable: whether it stops when the other side speaks.

    Example:
    { "play_audio": { "file_path": "/srv/sounds/terms.wav", "channel": "instead", "wait": true, "bargeable": false } }
    """
    session = _session(context)
    if session is None:
        return NO_CALL
    instead = str(channel).strip().lower() in ("instead", "replace", "exclusive")
    ended: dict[Any, Event] = {}
    undo = session.call.listen(
        lambda event: ended.update({event.params.get("play"): event}) if event.name == "play.finished" else None
    )
    try:
        # What lies in MindRoot's own folder is named from there, as everywhere in MindRoot.
        path = os.path.abspath(file_path) if os.path.isfile(file_path) else str(file_path)
        play = await session.call.play_file(path, instead=instead, bargeable=_yes(bargeable))
        if _yes(wait):
            await session.call.wait_until(lambda call: call.ended or play in ended)
            if play in ended and ended[play].params.get("reason") == "failed":
                return f"SYSTEM: {file_path} could not be played to its end."
    except MrSipError as error:
        return f"SYSTEM: {file_path} could not be played: {error}"
    finally:
        undo()
    return None


@command()
async def transfer(destination: str = "", context: Any = None, **kw: Any) -> str:
    """Send the other side to another number or SIP address; then you are out of the call.

    Example:
    { "transfer": { "destination": "+15550100199" } }
    """
    session = _session(context)
    if session is None:
        return NO_CALL
    said: list[Event] = []
    undo = session.call.listen(
        lambda event: said.append(event) if event.params.get("state") in ("accepted", "failed") else None
    )
    # The agent knows that it is out of the call; the marker of the far end's hanging up would be wrong.
    session.closing = True
    try:
        target = normalize(destination)
        await session.call.transfer(target)
        await session.call.wait_until(lambda call: call.ended or bool(said), TRANSFER_S)
    except (DestinationRefused, MrSipError) as error:
        session.closing = session.call.ended
        return f"SYSTEM: not transferred: {error}"
    finally:
        undo()
    if session.call.cause == "transferred" or (said and said[-1].params["state"] == "accepted"):
        return f"SYSTEM: transferred to {target}. You are no longer in the call."
    session.closing = session.call.ended
    params = said[-1].params if said else {}
    why = " ".join(str(params[name]) for name in ("status", "reason") if params.get(name)) or "no answer"
    return f"SYSTEM: not transferred: the other side said {why}. You are still in the call."


@command()
async def hold(context: Any = None, **kw: Any) -> str | None:
    """Put the other side on hold: you do not hear them until `resume`.

    Example:
    { "hold": {} }
    """
    session = _session(context)
    return NO_CALL if session is None else await _done(session.call.hold(), "put on hold")


@command()
async def resume(context: Any = None, **kw: Any) -> str | None:
    """Take the other side off hold.

    Example:
    { "resume": {} }
    """
    session = _session(context)
    return NO_CALL if session is None else await _done(session.call.unhold(), "taken off hold")


@command()
async def delegate_call_task(
    agent: str = "",
    phone_number: str = "",
    instructions: str = "",
    idle_timeout_seconds: float = 120,
    finish_timeout_seconds: float = 20,
    max_call_length_seconds: float = 300,
    context: Any = None,
    **kw: Any,
) -> str:
    """Have another agent make a telephone call for you, and wait for its result.

    agent: who calls; it needs the commands speak, hangup and task_result.
    instructions: all it has to know; it does not see this conversation.
    idle_timeout_seconds: the call is ended when nobody has said anything for so long.
    finish_timeout_seconds: after the call the agent has so long to report.
    max_call_length_seconds: the call is ended after so long.

    Example:
    { "delegate_call_task": { "agent": "caller", "phone_number": "+15550100199",
        "instructions": "Ask whether a table for two is free on Friday at eight, and reserve it for Ann Lee." } }
    """
    return await tasks.delegate(
        running_context(context),
        str(agent),
        phone_number,
        str(instructions),
        tasks.Limits.read(idle_timeout_seconds, finish_timeout_seconds, max_call_length_seconds),
    )


@command()
async def await_call_result(
    log_id: str = "",
    agent: str = "",
    idle_timeout_seconds: float = 120,
    finish_timeout_seconds: float = 20,
    context: Any = None,
    **kw: Any,
) -> str:
    """Wait for what comes of a call that another agent makes in the conversation `log_id`.

    Example:
    { "await_call_result": { "log_id": "Zk3fWq0xYp", "agent": "caller" } }
    """
    limits = tasks.Limits.read(idle_timeout_seconds, finish_timeout_seconds, None)
    return await tasks.result_of(running_context(context), str(log_id), str(agent), limits)


@command()
async def start_incoming_calls(agent: str | None = None, context: Any = None, **kw: Any) -> str:
    """Have calls that come in answered by an agent: you, unless you name another.

    Example:
    { "start_incoming_calls": { "agent": "receptionist" } }
    """
    context = running_context(context)
    return _listening(await service_manager.start_incoming_listener_service(agent, context=context))


@command()
async def stop_incoming_calls(context: Any = None, **kw: Any) -> str:
    """Have no more incoming calls answered; those that are up go on.

    Example:
    { "stop_incoming_calls": {} }
    """
    return _listening(await service_manager.stop_incoming_listener_service(context=running_context(context)))


@command()
async def incoming_call_status(context: Any = None, **kw: Any) -> str:
    """Whether incoming calls are answered, by whom, and how many there were.

    Example:
    { "incoming_call_status": {} }
    """
    return _listening(await service_manager.get_incoming_listener_status(context=running_context(context)))


def _session(context: Any) -> Session | None:
    return phone().session(getattr(running_context(context), "log_id", None))


async def _done(asking: Any, what: str) -> str | None:
    try:
        await asking
    except MrSipError as error:
        return f"SYSTEM: the other side was not {what}: {error}"
    return None


def _listening(status: dict[str, Any]) -> str:
    agent = status.get("agent")
    said = {
        "listening": f"incoming calls are answered by {agent}",
        "not_connected": f"incoming calls will be answered by {agent} as soon as the telephone works",
        "stopped": "incoming calls are not answered",
    }.get(str(status["status"]), "incoming calls cannot be answered")
    counts = f"{status['calls_answered']} answered so far, {status['active_calls']} now"
    error = f" ({status['error']})" if status.get("error") else ""
    return f"SYSTEM: {said}; {counts}{error}."


def _yes(value: Any) -> bool:
    """Models write booleans as words."""
    return str(value).strip().lower() not in ("false", "no", "0", "none", "")


def _number(value: Any, default: float, most: float) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return default
    return min(max(number, 0.0), most) if number == number else default
