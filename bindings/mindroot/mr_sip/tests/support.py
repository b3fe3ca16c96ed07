"""What the tests share: a daemon and phone per test, an agent that writes down what was asked of it, bounded waits."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import tempfile
import time
import unittest
from typing import Any, Callable

from mr_sip.archive import Archive
from mr_sip.client import ControlClient
from mr_sip.daemon import Daemon
from mr_sip.phone import Phone

from .fake_daemon import FakeCall, FakeDaemon
from .stub_mindroot import Context, MindRoot

# A condition that has not come by then is not coming, even on a loaded machine.
PATIENCE_S = 20.0


async def until(condition: Callable[[], Any], what: str = "") -> Any:
    """Waits for a condition, however slow the machine is; fails the test where it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"never came: {what or condition}")
        await asyncio.sleep(0.002)


class RecordingAgent:
    """An agent whose turn lasts until it is cancelled, and which remembers everything in order."""

    def __init__(self) -> None:
        self.name, self.user = "agent", "user"
        self.speech_to_speech = self.wants_audio = False
        self.audio = b""
        self.utterances: list[str] = []
        self.replies: list[str] = []
        self.heard: list[tuple[Any, ...]] = []
        self.on_turn: Callable[[str], Any] | None = None
        self._turn: asyncio.Future[None] | None = None

    def names(self) -> list[str]:
        return [entry[0] for entry in self.heard]

    def turns(self) -> list[str]:
        return [entry[1] for entry in self.heard if entry[0] == "take_turn"]

    async def interrupted(self) -> None:
        self.heard.append(("interrupted",))

    async def cancel_turn(self) -> None:
        self.heard.append(("cancel_turn",))
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    async def truncate(self, spoken_seconds: float) -> None:
        self.heard.append(("truncate", spoken_seconds))

    async def show(self, text: str) -> None:
        self.heard.append(("show", text))

    async def take_turn(self, text: str) -> None:
        self.heard.append(("take_turn", text))
        if self.on_turn is not None:
            await self.on_turn(text)
        self._turn = asyncio.get_running_loop().create_future()
        await self._turn

    async def hear(self, ulaw: bytes) -> None:
        self.audio += ulaw

    async def utterance_complete(self, text: str) -> None:
        # Not in `heard`: it may come at any time.
        self.utterances.append(text)

    def said(self) -> list[str]:
        return self.replies

    async def over(self) -> None:
        self.heard.append(("over",))

    async def remember(self, text: str) -> None:
        self.heard.append(("remember", text))


class DaemonCase(unittest.IsolatedAsyncioTestCase):
    """A fake daemon on a socket of its own; clients and phones made here are closed at the end."""

    window_ms = 2000

    async def asyncSetUp(self) -> None:
        for name in ("mr_sip", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._folder = tempfile.TemporaryDirectory()
        self.socket = pathlib.Path(self._folder.name) / "control.sock"
        self.daemon = FakeDaemon(self.socket, self.window_ms)
        await self.daemon.start()
        self._clients: list[ControlClient] = []
        self._phones: list[Phone] = []

    async def asyncTearDown(self) -> None:
        for phone in self._phones:
            await phone.close()
        for client in self._clients:
            await client.close()
        await self.daemon.stop()
        self._folder.cleanup()

    async def client(self, **options: Any) -> ControlClient:
        client = await ControlClient.connect(self.socket, **options)
        self._clients.append(client)
        return client

    def phone(self) -> Phone:
        phone = Phone(Daemon(self.socket), archive=Archive(pathlib.Path(self._folder.name) / "calls"))
        self._phones.append(phone)
        return phone

    async def established(
        self, phone: Phone, log_id: str = "log", to: str = "sip:alice@example.invalid"
    ) -> tuple[FakeCall, RecordingAgent]:
        """A call of `log_id` that was answered."""
        agent = RecordingAgent()
        report = await phone.dial(log_id, to, agent)
        self.assertEqual(report["status"], "call_established", report)
        return self.daemon.calls[report["call"]], agent


class PluginCase(DaemonCase):
    """The plugin in a stub of MindRoot, on the fake daemon."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.mindroot = MindRoot()
        self._installed = self.mindroot.installed()
        self.mod = self._installed.__enter__()
        self.telephone = self.phone()
        self.mod.use_phone(self.telephone)

    async def asyncTearDown(self) -> None:
        await self.mod.listener().stop()
        await super().asyncTearDown()
        self._installed.__exit__(None, None, None)

    async def service(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return await self.mindroot.services.execute(name, *args, **kwargs)

    async def command(self, name: str, context: Context, **args: Any) -> Any:
        """An agent runs a command."""
        return await self.mindroot.handle_cmds(name, args, context)

    async def on_a_call(self, log_id: str, to: str = "alice") -> tuple[Context, FakeCall]:
        """A conversation on a call that was answered."""
        context = Context(log_id)
        report = await self.service("dial_service", to, context=context)
        self.assertEqual(report["status"], "call_established", report)
        return context, self.daemon.calls[report["call"]]
