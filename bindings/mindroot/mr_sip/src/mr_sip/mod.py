"""The MindRoot plugin: commands and services, each a thin skin over `Phone`.

Imported inside MindRoot only. `context.log_id` names the call, so that conversations telephone at once without hearing
of one another; everything asked of MindRoot is asked with `context=`, because without it MindRoot takes whichever
context ran last. Settings are read inside functions: MindRoot's `os.getenv` answers with the calling agent's own
settings, and only there.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from types import FrameType
from typing import Any

import lib.chatcontext
from lib.providers.commands import command
from lib.providers.hooks import hook, hook_manager
from lib.providers.services import service, service_manager

from .errors import MrSipError
from .phone import DEFAULT_ESTABLISH_S, Phone

__all__ = [
    "call",
    "hangup",
    "dial_service",
    "end_call_service",
    "sip_audio_out_chunk",
    "sip_start_audio_response",
    "sip_end_audio_response",
    "sip_is_audio_halted",
    "sip_halt_audio",
    "sip_resume_audio",
    "sip_clear_audio_queue",
    "sip_response_spoken_seconds",
    "startup",
    "on_load",
]

log = logging.getLogger("mr_sip")

# How far up the stack a command looks for the agent that runs it: MindRoot's own frames in between are three.
MAX_FRAMES = 8

# The longest goodbye that the `hangup` command waits for.
GOODBYE_S = 20.0
# Hanging up takes milliseconds; a daemon that hangs is not to keep MindRoot from ending.
SHUTDOWN_S = 8.0

_phone: Phone | None = None


class MindRootAgent:
    """A conversation of MindRoot, as a call's session needs it (`session.Agent`)."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def interrupted(self) -> None:
        """Text-to-speech plugins stop speaking on this hook."""
        await hook_manager.on_interrupt(context=self._context)

    async def cancel_turn(self) -> None:
        """Never `cancel_active_response`: it deletes the reply that is still to be cut to what was heard."""
        context = self._context
        try:
            await service_manager.cancel_and_wait(context.log_id, context.username, context=context)
        except AttributeError:
            # What MindRoot 15.3 raises where a turn is marked as running and no task is there for it.
            log.debug("nothing to cancel in %s", context.log_id)

    async def truncate(self, spoken_seconds: float) -> None:
        """The last reply in the history is cut to what was heard."""
        await service_manager.truncate_last_assistant_speech(spoken_seconds, context=self._context)

    async def show(self, text: str) -> None:
        """What the caller said, in the chat window."""
        await service_manager.backend_user_message(text, context=self._context)

    async def take_turn(self, text: str) -> None:
        """The agent answers. Takes as long as the turn, speech included."""
        context = self._context
        await service_manager.send_message_to_agent(context.log_id, text, context=context, user=context.username)

    async def remember(self, text: str) -> None:
        """Into the history, without an answer."""
        await service_manager.append_message("user", text, context=self._context)


def phone() -> Phone:
    """The one telephone of this MindRoot, made when first needed, in the server's event loop."""
    global _phone
    if _phone is None:
        _phone = Phone()
    return _phone


async def on_load(app: Any) -> None:
    """MindRoot has loaded the plugin; the daemon is looked for by the `startup` hook."""
    # MindRoot keeps its root logger at CRITICAL; what an administrator must read is to be seen nevertheless.
    if log.level == logging.NOTSET:
        log.setLevel(os.getenv("MR_SIP_LOG_LEVEL", "WARNING").upper())
    # MindRoot's `quit` hook never runs, and its web server ends by a signal that skips `atexit`. What does run is
    # FastAPI's list; first in it, because MindRoot's own handler may fail.
    handlers = getattr(getattr(app, "router", None), "on_shutdown", None)
    if isinstance(handlers, list):
        handlers.insert(0, shut_down)
    else:
        log.warning("this FastAPI has no shutdown handlers: a daemon started here is stopped at exit only")


@hook()
async def startup(app: Any, context: Any = None) -> None:
    """Says whether the daemon is there, so that an administrator hears of it before a caller does."""
    task = asyncio.get_running_loop().create_task(_say_whether_daemon_runs())
    _background.add(task)
    task.add_done_callback(_background.discard)


async def shut_down() -> None:
    """MindRoot ends: calls are hung up, and the daemon is stopped where it was started here."""
    global _phone
    ending, _phone = _phone, None
    if ending is None:
        return
    try:
        await asyncio.wait_for(ending.close(), SHUTDOWN_S)
    except Exception:
        log.exception("the telephone could not be put down properly")
        ending.daemon.stop()


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


@service()
async def dial_service(destination: str, context: Any = None, **kw: Any) -> dict[str, Any]:
    """Calls `destination` for the conversation `context`, and waits until it is established or clear that it will not
    be.

    Returns `{status, log_id, destination, error, ...}`, status being call_established, call_failed (with `cause`,
    `sip_status`), blocked (emergency numbers) or error. Cancelling the task cancels the call.
    """
    if context is None or not getattr(context, "log_id", None):
        return {
            "status": "error",
            "log_id": None,
            "destination": str(destination),
            "error": "dial_service needs context= with a log_id: a call belongs to a conversation",
        }
    # In tasks and delegated runs `get_context` would otherwise give another object than the one that runs.
    lib.chatcontext.contexts[context.log_id] = context
    return await phone().dial(
        context.log_id,
        destination,
        MindRootAgent(context),
        account=os.getenv("SIP_ACCOUNT") or None,
        timeout_s=_seconds(os.getenv("SIP_CALL_ESTABLISH_TIMEOUT"), DEFAULT_ESTABLISH_S),
    )


@service()
async def end_call_service(context: Any = None, **kw: Any) -> dict[str, Any]:
    """Hangs up: `{status: call_ended | no_active_call | error, call_duration_seconds, transcript}`."""
    return await phone().hang_up(str(getattr(context, "log_id", "") or ""))


@service()
async def sip_audio_out_chunk(
    audio_chunk: bytes, timestamp: float | None = None, context: Any = None, **kw: Any
) -> bool:
    """Speech for the caller: u-law, 8 kHz, mono, any length. False: halted or no call, and the speaker is to stop.

    Accepts many seconds at once; waits while more than 30 s are queued. `timestamp` is a hint that is not needed, for
    the daemon paces.
    """
    session = phone().session(getattr(context, "log_id", None))
    return session is not None and await session.voice.write(audio_chunk)


@service()
async def sip_start_audio_response(context: Any = None, **kw: Any) -> bool:
    """The chunks that follow are one response. False while halted or without a call."""
    session = phone().session(getattr(context, "log_id", None))
    return session is not None and session.voice.start()


@service()
async def sip_end_audio_response(context: Any = None, **kw: Any) -> bool:
    """No more chunks of this response; what is queued is still heard. False without a call."""
    session = phone().session(getattr(context, "log_id", None))
    return session is not None and session.voice.end()


@service()
async def sip_is_audio_halted(context: Any = None, **kw: Any) -> bool:
    """Whether the caller has interrupted and the voice is latched. From the mirrored state, without asking the
    daemon.
    """
    session = phone().session(getattr(context, "log_id", None))
    return session is not None and session.voice.halted


@service()
async def sip_halt_audio(context: Any = None, **kw: Any) -> dict[str, Any]:
    """Silence at once, until `sip_resume_audio`: `{status: halted | no_active_call | error}`."""
    session = phone().session(getattr(context, "log_id", None))
    if session is None:
        return {"status": "no_active_call"}
    try:
        await session.voice.halt()
    except MrSipError as error:
        return {"status": "error", "error": str(error)}
    return {"status": "halted"}


@service()
async def sip_resume_audio(context: Any = None, **kw: Any) -> bool:
    """The next turn may speak. False without a call."""
    session = phone().session(getattr(context, "log_id", None))
    if session is None:
        return False
    try:
        await session.voice.resume()
    except MrSipError as error:
        log.warning("call %s: %s", session.call.id, error)
    return not session.voice.halted


@service()
async def sip_clear_audio_queue(context: Any = None, **kw: Any) -> dict[str, Any]:
    """Silence at once without a latch, for speech-to-speech: `{status: cleared | no_active_call | error,
    cleared_ms}`.
    """
    session = phone().session(getattr(context, "log_id", None))
    if session is None:
        return {"status": "no_active_call", "cleared_ms": 0}
    try:
        cleared_ms = await session.voice.clear()
    except MrSipError as error:
        return {"status": "error", "error": str(error), "cleared_ms": 0}
    return {"status": "cleared", "cleared_ms": round(cleared_ms)}


@service()
async def sip_response_spoken_seconds(context: Any = None, **kw: Any) -> float:
    """Seconds really sent to the caller, summed over this turn's responses. 0.0 without a call."""
    session = phone().session(getattr(context, "log_id", None))
    return 0.0 if session is None else await session.voice.spoken_seconds()


def running_context(context: Any) -> Any:
    """The conversation that runs the command which calls this.

    MindRoot hands commands `command_manager.context`, one variable for the whole process that it sets before an
    `await`: with two agents calling at once, one is handed the other's. The agent's own frame (`handle_cmds`,
    `execute_command`) has the right one.
    """
    frame: FrameType | None = sys._getframe(1)
    for _ in range(MAX_FRAMES):
        if frame is None:
            break
        if frame.f_code.co_name in ("handle_cmds", "execute_command"):
            return frame.f_locals.get("context") or context
        frame = frame.f_back
    return context


_background: set[asyncio.Task[None]] = set()


async def _say_whether_daemon_runs() -> None:
    try:
        client = await phone().client()
        log.info("telephone daemon %s on %s", client.server.version, client.path)
    except MrSipError as error:
        log.warning("no calls until this is mended: %s", error)


def _seconds(text: str | None, default: float) -> float:
    """A setting in seconds; nonsense and what is not positive count as not set."""
    try:
        value = float(text) if text else default
    except ValueError:
        log.warning("not a number of seconds: %r; %s is used", text, default)
        return default
    return value if 0 < value < 86_400 else default
