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
        self.agent: dict[str, Any] = {}
        self.env: dict[str, str] = {}
        self.heard: list[tuple[Any, ...]] = []


class MindRoot:
    def __init__(self) -> None:
        self.services = Manager()
        self.commands = Manager()
        self.hooks = Manager()
        self.contexts: dict[str, Any] = {}
        for name in ("cancel_and_wait", "truncate_last_assistant_speech", "backend_user_message", "append_message"):
            self.services.functions[name] = self._noted(name)
        self.services.functions["send_message_to_agent"] = self._noted("send_message_to_agent")
        self.hooks.functions["on_interrupt"] = self._noted("on_interrupt")

    def _noted(self, name: str) -> Callable[..., Any]:
        async def noted(*args: Any, context: Any, **kwargs: Any) -> None:
            context.heard.append((name, *args))
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
            "lib.chatcontext": {"contexts": self.contexts},
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
            for name in [*modules, "mr_sip.mod"]:
                sys.modules.pop(name, None)
