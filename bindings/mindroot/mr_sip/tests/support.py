"""What the tests share: a daemon and phone per test, an agent that writes down what was asked of it, bounded waits."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import tempfile
import time
import unittest
from typing import Any, Callable

from mr_sip.client import ControlClient
from mr_sip.daemon import Daemon
from mr_sip.phone import Phone

from .fake_daemon import FakeCall, FakeDaemon

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
        phone = Phone(Daemon(self.socket))
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
