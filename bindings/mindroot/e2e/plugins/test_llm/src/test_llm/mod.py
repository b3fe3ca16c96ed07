"""A language model that answers by rule. The rules are the scenarios' side of the conversation: see scenarios.py.

Told by words it says them back; told that the call is over it says nothing.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from lib.pipelines.pipe import pipeline_manager
from lib.providers.commands import command, command_manager
from lib.providers.hooks import hook_manager
from lib.providers.services import service, service_manager
from mr_sip.agent import phone

CALL = "Please call "
GREETING = "four three two one"
# The caller who says this gets the long answer, for being interrupted in it.
LONG_FOR = "nine nine nine"
LONG = "one two three four five six seven eight nine zero " * 5
TASK = "Your task:"
QUESTION = "one eight five"
GOODBYE = "six zero three"


@service()
async def get_service_models(context: Any = None) -> dict[str, list[str]]:
    """MindRoot's question which models there are."""
    return {"stream_chat": ["rules-1"]}


@service()
async def stream_chat(model: Any, messages: Any = (), context: Any = None, **kw: Any) -> AsyncIterator[str]:
    """The model's answer, in two pieces, as a JSON list of commands."""
    text = json.dumps(answer([text_of(message) for message in messages]))

    async def stream() -> AsyncIterator[str]:
        yield text[: len(text) // 2]
        yield text[len(text) // 2 :]

    return stream()


def answer(said: list[str]) -> list[dict[str, Any]]:
    told = said[-1] if said else ""
    if "CALL DISCONNECTED" in told:
        return [{"note": {"text": "the call is over"}}]
    if told.startswith(CALL):
        return [{"call": {"destination": told[len(CALL) :]}}]
    if "you have answered a telephone call" in told:
        return [{"speak": {"text": GREETING}}]
    if TASK in told:
        return [{"speak": {"text": QUESTION}}]
    if any(TASK in earlier for earlier in said):
        done = {"task_result": {"output": f"they said: {told}"}}
        return [{"speak": {"text": GOODBYE}}, {"hangup": {}}, done]
    return [{"speak": {"text": LONG.strip() if LONG_FOR in told else told}}]


@command()
async def note(text: str = "", context: Any = None, **kw: Any) -> None:
    """Say nothing.

    Example:
    { "note": { "text": "" } }
    """


@command()
async def turn_policy(context: Any = None, **changes: Any) -> Any:
    """Change when it is whose turn on this conversation's call.

    Example:
    { "turn_policy": { "barge_in_words": 1 } }
    """
    session = phone().session(context.log_id)
    return "no call" if session is None else dict(await session.call.turn_policy(**changes))


@command()
async def registered(what: str = "", context: Any = None, **kw: Any) -> Any:
    """Which names a plugin has registered: for the test that drives this from outside.

    Example:
    { "registered": { "what": "mr_sip" } }
    """
    found: dict[str, Any] = {
        kind: sorted(
            name for name, entries in manager.functions.items() if any(entry["provider"] == what for entry in entries)
        )
        for kind, manager in (("commands", command_manager), ("services", service_manager))
    }
    found["hooks"] = [
        name
        for name, hooks in hook_manager.hooks.items()
        if any(entry["implementation"].__module__.split(".")[0] == what for entry in hooks)
    ]
    found["pipes"] = sorted(pipeline_manager.pipes)
    return found


def text_of(message: Any) -> str:
    """The words of a chat message, whichever of its forms it has."""
    content = message.get("content", "") if isinstance(message, dict) else message
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict)).strip()
    return str(content).strip()
