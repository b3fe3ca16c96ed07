"""As much of MindRoot as the plugin's module imports: registries, and services that write down who asked what of whom.

`installed()` puts it where MindRoot puts its own `lib`, and imports a fresh `mr_sip.mod` against it.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import sys
import types
from collections.abc import Iterator
from typing import Any, Callable


class Manager:
    """MindRoot's `ProviderManager`, as far as plugins see it: register by decorator, call by attribute."""

    def __init__(self) -> None:
        self.functions: dict[str, Callable[..., Any]] = {}
        self.context: Any = None

    def decorator(self, *, flags: Any = ()) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def register(function: Callable[..., Any]) -> Callable[..., Any]:
            self.functions[function.__name__] = function
            return function

        return register

    async def execute(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # As MindRoot does: one variable for the whole process where no context is given.
        kwargs.setdefault("context", self.context)
        return await self.functions[name](*args, **kwargs)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in self.functions:
            raise AttributeError(name)
        return lambda *args, **kwargs: self.execute(name, *args, **kwargs)


class Context:
    def __init__(self, log_id: str) -> None:
        self.log_id = log_id
        self.username = f"user of {log_id}"
        self.agent_name = "caller"
        self.agent: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        self.data: dict[str, Any] = {}
        self.heard: list[tuple[Any, ...]] = []

    async def save_context(self) -> None:
        pass


class ChatLog:
    def __init__(self, log_id: str, agent: str, user: str, parent_log_id: str | None = None) -> None:
        self.log_id, self.agent, self.user, self.parent_log_id = log_id, agent, user, parent_log_id


class User:
    def __init__(self, *roles: str) -> None:
        self.roles = list(roles)


class MindRoot:
    def __init__(self) -> None:
        self.agents: dict[str, dict[str, Any]] = {"caller": {"name": "caller"}, "live": {"stream_chat": "live-1"}}
        self.pipes = Manager()
        self.on_message: Callable[[str, Context], Any] | None = None
        self.services = Manager()
        self.commands = Manager()
        self.hooks = Manager()
        self.contexts: dict[str, Any] = {}
        for name in ("cancel_and_wait", "truncate_last_assistant_speech", "backend_user_message", "append_message"):
            self.services.functions[name] = self._noted(name)
        self.services.functions["send_message_to_agent"] = self._noted("send_message_to_agent")
        for name in ("send_s2s_audio_chunk", "close_s2s_session", "init_chat_session"):
            self.services.functions[name] = self._noted(name)
        for name in ("on_interrupt", "user_utterance_complete"):
            self.hooks.functions[name] = self._noted(name)
        self.services.functions["get_agent_data"] = self._agent_data
        self.services.functions["list_users"] = self._users
        self.services.functions["get_user_data"] = self._user
        self.pipes.functions["sip_audio_in"] = self._piped

    def _context(self, command_manager: Any, service_manager: Any, user: str) -> Context:
        context = Context("")
        context.username = user
        return context

    async def _agent_data(self, name: str, context: Any = None) -> dict[str, Any]:
        if name not in self.agents:
            raise FileNotFoundError(f"Agent {name} not found")
        return self.agents[name]

    async def _users(self, context: Any = None) -> list[str]:
        return ["zoe", "adam"]

    async def _user(self, name: str, context: Any = None) -> User:
        return User("user", "admin") if name == "zoe" else User("user")

    async def _piped(self, data: dict[str, Any], context: Any) -> dict[str, Any]:
        context.heard.append(("sip_audio_in", data["audio_bytes"]))
        return {**data, "audio_bytes": data["audio_bytes"].upper()}

    def _noted(self, name: str) -> Callable[..., Any]:
        async def noted(*args: Any, context: Any, **kwargs: Any) -> None:
            context.heard.append((name, *args))
            if name == "send_message_to_agent" and self.on_message is not None:
                await self.on_message(args[1], context)
            if name == "cancel_and_wait":
                raise AttributeError("'NoneType' object has no attribute 'cancel'")

        return noted

    async def handle_cmds(self, name: str, args: dict[str, Any], context: Any) -> Any:
        """The agent runs a command, with MindRoot's gap between setting the global context and using it."""
        self.commands.context = context
        await asyncio.sleep(0)
        return await self.commands.execute(name, **args)

    @contextlib.contextmanager
    def installed(self) -> Iterator[Any]:
        modules = {
            "lib": {},
            "lib.chatcontext": {"contexts": self.contexts, "ChatContext": self._context},
            "lib.chatlog": {"ChatLog": ChatLog},
            "lib.pipelines": {},
            "lib.pipelines.pipe": {"pipeline_manager": self.pipes},
            "lib.providers": {},
            "lib.providers.services": {"service": self.services.decorator, "service_manager": self.services},
            "lib.providers.commands": {"command": self.commands.decorator, "command_manager": self.commands},
            "lib.providers.hooks": {"hook": self.hooks.decorator, "hook_manager": self.hooks},
        }
        for name, content in modules.items():
            module = types.ModuleType(name)
            module.__dict__.update(content)
            sys.modules[name] = module
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)
        try:
            yield importlib.import_module("mr_sip.mod")
        finally:
            ours = [f"mr_sip.{name}" for name in ("mod", "agent", "services", "commands", "tasks", "router")]
            for name in [*modules, *ours]:
                sys.modules.pop(name, None)
                # `from . import tasks` looks at the package first.
                if name.startswith("mr_sip."):
                    vars(sys.modules["mr_sip"]).pop(name[len("mr_sip.") :], None)
