"""MindRoot as a call's session needs it: its conversations as agents, and the one telephone of this MindRoot.

Imported inside MindRoot only. Everything asked of MindRoot is asked with `context=`, because without it MindRoot takes
whichever context ran last.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import sys
import time
from types import FrameType
from typing import Any

import lib.chatcontext
from lib.chatlog import ChatLog
from lib.pipelines.pipe import pipeline_manager
from lib.providers.commands import command_manager
from lib.providers.hooks import hook_manager
from lib.providers.services import service_manager

from .archive import Archive
from .calls import Call
from .incoming import Listener
from .phone import Phone

# How far up the stack a command looks for the agent that runs it: MindRoot's own frames in between are three.
MAX_FRAMES = 10
# Commands of MindRoot's whose text is voiced.
VOICED = ("speak", "say")
# Where records and recordings of calls are kept, in MindRoot's working folder, unless MR_SIP_CALLS_DIR names another.
CALLS_FOLDER = "data/calls"
# What an agent is told of a call that came in, unless MR_SIP_INCOMING_MESSAGE says otherwise; empty: it waits for the
# caller.
INCOMING_MESSAGE = "SYSTEM: you have answered a telephone call from {from}. Greet the caller."

log = logging.getLogger("mr_sip")

_phone: Phone | None = None
_listener: Listener | None = None


class MindRootAgent:
    """A conversation of MindRoot (`session.Agent`)."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.name = str(getattr(context, "agent_name", None) or getattr(context, "name", None) or "")
        self.user = str(getattr(context, "username", "") or "")
        self._before = len(self._messages())

    @property
    def speech_to_speech(self) -> bool:
        """Whether a speech-to-speech model is the agent; the same rule as MindRoot's own."""
        agent = getattr(self._context, "agent", None)
        model = agent.get("stream_chat") if isinstance(agent, dict) else None
        return isinstance(model, (str, dict, list)) and ("live" in model or "realtime" in model)

    @property
    def wants_audio(self) -> bool:
        """Whether the caller's audio itself is wanted, and not only the words."""
        return self.speech_to_speech or os.getenv("MR_SIP_AUDIO_IN_PIPELINE") == "1"

    async def hear(self, ulaw: bytes) -> None:
        """The caller's audio: through the pipe `sip_audio_in` where that is on, and to a speech-to-speech model."""
        if os.getenv("MR_SIP_AUDIO_IN_PIPELINE") == "1":
            data = {"audio_bytes": ulaw, "timestamp": time.perf_counter()}
            data = await pipeline_manager.sip_audio_in(data, context=self._context)
            ulaw = data["audio_bytes"]
        if self.speech_to_speech:
            await service_manager.send_s2s_audio_chunk(ulaw, context=self._context)

    async def interrupted(self) -> None:
        """Text-to-speech plugins stop speaking on this hook."""
        await hook_manager.on_interrupt(context=self._context)

    async def utterance_complete(self, text: str) -> None:
        """The caller has said a sentence; for whoever hooks in."""
        await hook_manager.user_utterance_complete(text, context=self._context)

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

    def said(self) -> list[str]:
        """What the agent has spoken since this call began, cut to what was heard where it was interrupted."""
        replies = (spoken_text(message) for message in self._messages()[self._before :])
        return [text for text in replies if text]

    def _messages(self) -> list[Any]:
        messages = getattr(getattr(self._context, "chat_log", None), "messages", None)
        return messages if isinstance(messages, list) else []

    async def over(self) -> None:
        """The call is over; a speech-to-speech model's session ends with it."""
        if self.speech_to_speech:
            await service_manager.close_s2s_session(context=self._context)


def spoken_text(message: Any) -> str:
    """What is voiced of a message of MindRoot's history; empty where nothing is."""
    if not isinstance(message, dict) or message.get("role") != "assistant":
        return ""
    commands = message.get("commands")
    if not isinstance(commands, list):
        content = message.get("content")
        if isinstance(content, list) and content and isinstance(content[0], dict):
            content = content[0].get("text")
        try:
            commands = json.loads(content) if isinstance(content, str) else None
        except ValueError:
            commands = None
    if not isinstance(commands, list):
        return ""
    voiced = [
        args.get("text")
        for command in commands
        if isinstance(command, dict)
        for name, args in command.items()
        if name in VOICED and isinstance(args, dict)
    ]
    return " ".join(text for text in voiced if isinstance(text, str)).strip()


def phone() -> Phone:
    """The one telephone of this MindRoot, made when first needed, in the server's event loop."""
    global _phone
    if _phone is None:
        _phone = Phone(archive=Archive(os.environ.get("MR_SIP_CALLS_DIR") or CALLS_FOLDER))
    return _phone


def use_phone(other: Phone | None) -> Phone | None:
    """Puts another telephone (or none) in the place of the one there was, which is returned."""
    global _phone, _listener
    before, _phone = _phone, other
    _listener = None
    return before


def listener() -> Listener:
    """Who answers the calls that come in to `phone`."""
    global _listener
    if _listener is None:
        _listener = Listener(phone(), _answer_as)
    return _listener


async def open_conversation(agent_name: str, user: str, parent_log_id: str | None = None) -> Any:
    """A new conversation with an agent: its context. Raises what MindRoot raises for an agent that it does not know."""
    context = lib.chatcontext.ChatContext(command_manager, service_manager, user)
    context.agent_name = context.name = agent_name
    # Names a file of MindRoot's and one of ours: nothing but letters, digits, - and _.
    context.log_id = log_id = secrets.token_urlsafe(15)
    context.parent_log_id = parent_log_id
    context.agent = await service_manager.get_agent_data(agent_name, context=context)
    if isinstance(context.agent.get("env"), dict):
        context.env = context.agent["env"]
    context.chat_log = ChatLog(log_id=log_id, agent=agent_name, user=user, parent_log_id=parent_log_id)
    await context.save_context()
    lib.chatcontext.contexts[log_id] = context
    await service_manager.init_chat_session(user, agent_name, log_id, context=context)
    return context


async def incoming_user(context: Any = None) -> str:
    """Whose conversations with callers are: MR_SIP_INCOMING_USER, who began to listen, or the first administrator."""
    named = os.environ.get("MR_SIP_INCOMING_USER") or getattr(context, "username", None)
    if named:
        return str(named)
    try:
        for name in sorted(await service_manager.list_users(context=context)):
            user = await service_manager.get_user_data(name, context=context)
            if user is not None and "admin" in user.roles:
                return str(name)
    except Exception:
        log.exception("MindRoot's users could not be listed")
    return "system"


async def _answer_as(agent_name: str, user: str, call: Call) -> tuple[str, MindRootAgent, str]:
    """What the listener asks for a call that came in: a conversation, its agent, and the first message to it."""
    context = await open_conversation(agent_name, user)
    text = os.getenv("MR_SIP_INCOMING_MESSAGE")
    text = INCOMING_MESSAGE if text is None else text
    return context.log_id, MindRootAgent(context), text.replace("{from}", call.party).strip()


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
