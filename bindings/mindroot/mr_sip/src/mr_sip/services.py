"""The services that MindRoot's core and its speech plugins call by name, each a thin skin over `Phone`.

`context.log_id` names the call, so that conversations telephone at once without hearing of one another. Settings are
read inside functions: MindRoot's `os.getenv` answers with the calling agent's own settings, and only there.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import lib.chatcontext
from lib.providers.services import service

from .agent import MindRootAgent, incoming_user, listener, phone
from .errors import MrSipError
from .phone import DEFAULT_ESTABLISH_S

__all__ = [
    "dial_service",
    "dial_service_v2",
    "end_call_service",
    "end_call_service_v2",
    "sip_audio_out_chunk",
    "sip_start_audio_response",
    "sip_end_audio_response",
    "sip_is_audio_halted",
    "sip_halt_audio",
    "sip_resume_audio",
    "sip_clear_audio_queue",
    "sip_response_spoken_seconds",
    "start_incoming_listener_service",
    "stop_incoming_listener_service",
    "get_incoming_listener_status",
]

log = logging.getLogger("mr_sip")


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
async def dial_service_v2(destination: str, context: Any = None, **kw: Any) -> dict[str, Any]:
    """The same as `dial_service`, by the name that newer plugins use."""
    report: dict[str, Any] = await dial_service(destination, context=context, **kw)
    return report


@service()
async def end_call_service(context: Any = None, **kw: Any) -> dict[str, Any]:
    """Hangs up: `{status: call_ended | no_active_call | error, call_duration_seconds, transcript}`."""
    return await phone().hang_up(str(getattr(context, "log_id", "") or ""))


@service()
async def end_call_service_v2(context: Any = None, **kw: Any) -> dict[str, Any]:
    """The same as `end_call_service`, by the name that newer plugins use."""
    report: dict[str, Any] = await end_call_service(context=context, **kw)
    return report


@service()
async def sip_audio_out_chunk(
    audio_chunk: bytes, timestamp: float | None = None, context: Any = None, **kw: Any
) -> bool:
    """Speech for the caller: u-law, 8 kHz, mono, any length. False: halted or no call, and the speaker is to stop.

    Accepts many seconds at once; waits while more than 30 s are queued. `timestamp` is a hint that is not needed, for
    the daemon paces.
    """
    session = phone().session(getattr(context, "log_id", None))
    if session is None:
        return False
    if not isinstance(audio_chunk, (bytes, bytearray, memoryview)):
        log.error("call %s: a voice handed over %s and not bytes", session.call.id, type(audio_chunk).__name__)
        return False
    return await session.voice.write(bytes(audio_chunk))


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


@service()
async def start_incoming_listener_service(
    agent_name: str | None = None, context: Any = None, **kw: Any
) -> dict[str, Any]:
    """Answers calls that come in from now on, each in a conversation of its own with the agent.

    Without `agent_name` it is SIP_INCOMING_AGENT, or the agent of `context`. Returns `{status: listening |
    not_connected | error, agent, user, calls_answered, calls_refused, active_calls, error}`; not_connected is tried
    further.
    """
    name = agent_name or os.getenv("SIP_INCOMING_AGENT") or getattr(context, "agent_name", None)
    if not name:
        return {
            **listener().status(),
            "status": "error",
            "error": "no agent named: give one, or set SIP_INCOMING_AGENT",
        }
    return await listener().start(str(name), await incoming_user(context))


@service()
async def stop_incoming_listener_service(context: Any = None, **kw: Any) -> dict[str, Any]:
    """Answers no more calls; those that are up go on. Returns what `get_incoming_listener_status` does."""
    return await listener().stop()


@service()
async def get_incoming_listener_status(context: Any = None, **kw: Any) -> dict[str, Any]:
    """How it stands: `{status, agent, user, calls_answered, calls_refused, active_calls, error}`, status being
    listening, not_connected or stopped.
    """
    return listener().status()


def _seconds(text: str | None, default: float) -> float:
    """A setting in seconds; nonsense and what is not positive count as not set."""
    try:
        value = float(text) if text else default
    except ValueError:
        log.warning("not a number of seconds: %r; %s is used", text, default)
        return default
    return value if 0 < value < 86_400 else default
