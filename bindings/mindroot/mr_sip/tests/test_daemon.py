"""Finding the daemon, starting it, and stopping only what was started here."""

from __future__ import annotations

import logging
import os
import pathlib
import shlex
import sys
import tempfile
import unittest
from unittest import mock

from mr_sip.client import default_socket_path
from mr_sip.daemon import Daemon
from mr_sip.errors import DaemonNotRunning
from mr_sip.phone import Phone

from .fake_daemon import FakeDaemon
from .support import RecordingAgent, until

FAKE = pathlib.Path(__file__).resolve().parent / "fake_daemon.py"


class Paths(unittest.TestCase):
    def _path(self, uid: int, **environment: str) -> str:
        with mock.patch.dict("os.environ", environment, clear=True), mock.patch("os.geteuid", return_value=uid):
            return str(default_socket_path())

    def test_the_socket_is_where_the_daemon_puts_it(self) -> None:
        self.assertEqual(self._path(1000, MR_SIP_SOCKET="/a/b.sock", XDG_RUNTIME_DIR="/run/user/1000"), "/a/b.sock")
        self.assertEqual(self._path(0, XDG_RUNTIME_DIR="/run/user/0"), "/run/mr-sip/control.sock")
        self.assertEqual(self._path(1000, XDG_RUNTIME_DIR="/run/user/1000"), "/run/user/1000/mr-sip/control.sock")
        self.assertEqual(self._path(1000), "/tmp/mr-sip-1000/control.sock")


class Starting(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self) -> None:
        logging.getLogger("mr_sip").setLevel(logging.CRITICAL)
        self._temporary = tempfile.TemporaryDirectory()
        self.folder = pathlib.Path(self._temporary.name)
        self.socket = self.folder / "run" / "control.sock"
        self.daemon = Daemon(self.socket)

    async def asyncTearDown(self) -> None:
        self.daemon.stop()
        self._temporary.cleanup()

    def program(self, body: str) -> str:
        path = self.folder / "mr-sip"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)
        return str(path)

    async def test_a_daemon_on_path_is_started_used_and_stopped(self) -> None:
        self.program(f'exec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"')
        with mock.patch.dict("os.environ", {"PATH": f"{self.folder}:{os.environ['PATH']}", "MR_SIP_BIN": ""}):
            client = await self.daemon.connect("test")
        self.assertTrue(self.daemon.started_here)
        self.assertEqual(client.server.version, "fake")
        self.assertEqual(oct(self.socket.parent.stat().st_mode & 0o777), "0o700")
        await client.close()
        self.daemon.stop()
        self.assertFalse(self.daemon.started_here)
        with self.assertRaises(DaemonNotRunning):
            with mock.patch.dict("os.environ", {"PATH": "", "MR_SIP_BIN": ""}):
                await self.daemon.connect("test")

    async def test_case_42_a_daemon_that_was_killed_is_started_again_by_the_next_call(self) -> None:
        program = self.program(f'exec {shlex.quote(sys.executable)} {shlex.quote(str(FAKE))} "$@"')
        phone = Phone(self.daemon)
        with mock.patch.dict("os.environ", {"MR_SIP_BIN": program}), mock.patch("mr_sip.client.RESUME_FOR_S", 0.2):
            agent = RecordingAgent()
            self.assertEqual((await phone.dial("log", "alice", agent))["status"], "call_established")
            process = self.daemon._process
            assert process is not None
            process.kill()
            await until(agent.turns, "the agent is told that the call is over")
            self.assertEqual((await phone.dial("log", "alice", agent))["status"], "call_established")
            await phone.close()
        self.assertFalse(self.daemon.started_here)

    async def test_a_daemon_that_runs_already_is_used_and_left_alone(self) -> None:
        self.socket.parent.mkdir()
        async with FakeDaemon(self.socket) as fake:
            client = await self.daemon.connect("test")
            self.daemon.stop()
            self.assertEqual((self.daemon.started_here, client.connected), (False, True))
            await client.close()
            await until(lambda: not fake.connections)

    async def test_case_46_a_daemon_that_ends_at_once_is_quoted_without_the_password(self) -> None:
        program = self.program('echo "account refused: bad password $SIP_PASSWORD" >&2; exit 3')
        with mock.patch.dict("os.environ", {"MR_SIP_BIN": program, "SIP_PASSWORD": "hunter2"}):
            with self.assertRaises(DaemonNotRunning) as caught:
                await self.daemon.connect("test")
        self.assertIn("status 3", str(caught.exception))
        self.assertIn("account refused", str(caught.exception))
        self.assertNotIn("hunter2", str(caught.exception))

    async def test_a_wrong_program_is_named(self) -> None:
        with mock.patch.dict("os.environ", {"MR_SIP_BIN": "/nowhere/mr-sip"}):
            with self.assertRaisesRegex(DaemonNotRunning, "MR_SIP_BIN=/nowhere/mr-sip is not a program"):
                await self.daemon.connect("test")


if __name__ == "__main__":
    unittest.main()
