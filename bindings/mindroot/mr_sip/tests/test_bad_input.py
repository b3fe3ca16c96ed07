"""What no well-behaved speech plugin, agent, client or daemon does: each is answered, and nothing hangs or is lost."""

from __future__ import annotations

import asyncio
import json
import pathlib
import tempfile
import unittest
from typing import Any
from unittest import mock

from mr_sip.client import ControlClient
from mr_sip.errors import ConnectionLost, ProtocolError, RequestRefused, RequestTimeout
from mr_sip.frames import Encoding

from .fake_daemon import AUDIO_HEADER, HEADER
from .stub_mindroot import Context
from .support import DaemonCase, PluginCase, until


class Chunks(PluginCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.context, self.fake = await self.on_a_call("log")

    async def chunk(self, data: Any) -> Any:
        return await self.service("sip_audio_out_chunk", data, context=self.context)

    async def heard(self, wanted: bytes) -> None:
        """Waits until the other side has heard exactly this."""

        def played() -> bool:
            self.daemon.play(self.fake, 1000)
            return len(self.fake.heard) >= len(wanted)

        await until(played)
        self.assertEqual(self.fake.heard, wanted)
        self.assertEqual(self.daemon.refusals, 0)

    async def test_odd_lengths_are_heard_byte_for_byte(self) -> None:
        pieces = [bytes([number]) * number for number in (1, 3, 7, 159, 161, 251)]
        for piece in pieces:
            self.assertIs(await self.chunk(piece), True)
        await self.service("sip_end_audio_response", context=self.context)
        await self.heard(b"".join(pieces))

    async def test_an_empty_chunk_is_accepted_and_opens_nothing(self) -> None:
        self.assertIs(await self.chunk(b""), True)
        client = await self.telephone.client()
        await client.status()
        self.assertNotIn("response.start", self.daemon.methods())

    async def test_megabytes_at_once_are_all_heard(self) -> None:
        speech = bytes(range(256)) * 4 * 3072
        writing = asyncio.ensure_future(self.chunk(speech))
        await self.heard(speech)
        self.assertIs(await writing, True)

    async def test_a_writer_of_megabytes_is_freed_by_the_end_of_the_call(self) -> None:
        writing = asyncio.ensure_future(self.chunk(bytes(8 << 20)))
        await until(lambda: self.fake.queued)
        self.daemon.end(self.fake, "remote_hangup")
        self.assertIs(await asyncio.wait_for(writing, 20), False)

    async def test_after_the_call_nothing_is_accepted(self) -> None:
        self.daemon.end(self.fake, "remote_hangup")
        await until(lambda: not self.telephone.sessions())
        self.assertIs(await self.chunk(b"x"), False)
        self.assertIs(await self.service("sip_start_audio_response", context=self.context), False)

    async def test_two_responses_at_once_lose_nothing(self) -> None:
        async def voice(letter: bytes) -> None:
            await self.service("sip_start_audio_response", context=self.context)
            for _ in range(50):
                self.assertIs(await self.chunk(letter * 80), True)
                await asyncio.sleep(0)
            await self.service("sip_end_audio_response", context=self.context)

        await asyncio.gather(voice(b"a"), voice(b"b"))

        def played() -> bool:
            self.daemon.play(self.fake, 1000)
            return len(self.fake.heard) == 8000

        await until(played)
        self.assertEqual((self.fake.heard.count(b"a"), self.fake.heard.count(b"b")), (4000, 4000))

    async def test_what_is_no_audio_is_refused_and_said(self) -> None:
        for nonsense in ("text", None, 7, [1, 2], {"audio": b"x"}):
            with self.assertLogs("mr_sip", "ERROR"):
                self.assertIs(await self.chunk(nonsense), False)
        for fine in (bytearray(b"x" * 80), memoryview(b"y" * 80)):
            self.assertIs(await self.chunk(fine), True)
        await self.heard(b"x" * 80 + b"y" * 80)

    async def test_ends_without_a_start_and_starts_without_an_end_do_no_harm(self) -> None:
        for _ in range(3):
            self.assertIs(await self.service("sip_end_audio_response", context=self.context), True)
        for _ in range(3):
            self.assertIs(await self.service("sip_start_audio_response", context=self.context), True)
        self.assertIs(await self.chunk(b"z" * 80), True)
        await self.heard(b"z" * 80)


class Dialling(PluginCase):
    async def test_two_dials_for_one_conversation_make_one_call(self) -> None:
        context = Context("log")
        reports = await asyncio.gather(
            *(self.service("dial_service", name, context=context) for name in ("alice", "bob"))
        )
        self.assertEqual([report["status"] for report in reports], ["call_established", "error"])
        self.assertIn("hang up first", reports[1]["error"])
        self.assertEqual(len(self.daemon.calls), 1)

    async def test_nonsense_as_a_destination_is_said_and_dials_nothing(self) -> None:
        for nonsense in (
            None,
            "",
            "   ",
            "call my mother",
            "sip:",
            "sip:a b@c",
            "1\r\nVia: x",
            "x" * 300,
            "<sip:a@b>",
            {},
            5.5,
        ):
            report = await self.service("dial_service", nonsense, context=Context("log"))
            self.assertEqual(report["status"], "error", nonsense)
            self.assertTrue(report["error"])
        self.assertEqual(self.daemon.calls, {})

    async def test_emergency_numbers_are_blocked_in_any_dress(self) -> None:
        dressed = ("911", " 9-1-1 ", "tel:112", "sip:999@example.com;transport=tcp", "sip:1%31%30@example.com")
        for number in (*dressed, "\uff11\uff11\uff12", 911):
            report = await self.service("dial_service", number, context=Context("log"))
            self.assertEqual(report["status"], "blocked", number)
        self.assertEqual(self.daemon.calls, {})

    async def test_a_sip_uri_keeps_its_parameters(self) -> None:
        uri = "sip:user@domain.com:5070;transport=tcp;x=1?Subject=hello"
        await self.service("dial_service", uri, context=Context("log"))
        self.assertEqual(self.daemon.params("call.dial")[0]["to"], uri)

    async def test_keys_that_no_telephone_has_are_refused(self) -> None:
        context, _ = await self.on_a_call("log")
        for keys in ("", "12x", "1;2", "\u0663", "1" * 65, None):
            self.assertIn("SYSTEM:", str(await self.command("send_dtmf", context, digits=keys)))
        self.assertEqual(self.daemon.params("call.dtmf"), [])

    async def test_a_file_that_cannot_be_played_is_said(self) -> None:
        context, fake = await self.on_a_call("log")
        fake.state = "ringing"  # as the daemon sees it; any refusal will do
        text = await self.command("play_audio", context, file_path="/no/such.wav")
        self.assertIn("could not be played", text)


class OtherVersions(DaemonCase):
    async def test_a_newer_daemon_may_say_more_than_is_known(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        (connection,) = self.daemon.connections
        for message in (
            {"method": "call.future", "params": {"call": call.id, "x": [1]}},
            {"method": "call.state", "params": {"call": call.id, "state": "dreaming", "new": {}}},
            {"method": "call.state", "params": {"call": call.id, "state": "answered", "status": "200"}},
            {"method": "response.progress", "params": {"call": call.id, "response": 99}},
            {"method": "transcript.final", "params": None},
            {"id": 999_999, "result": {}},
            {"nothing": "of the kind"},
        ):
            connection.send(message)
        self.assertEqual((await client.status())["version"], "fake")
        self.assertTrue(call.answered and client.connected)

    async def test_an_older_daemon_may_leave_out_what_is_new(self) -> None:
        def hello(connection: Any, params: Any, after: Any) -> dict[str, Any]:
            connection.greeted = True
            return {"protocol": 1}

        answer = self.daemon._answer

        def older(connection: Any, method: str, params: Any, after: Any) -> dict[str, Any]:
            told = answer(connection, method, params, after)
            told.pop("window_ms", None)
            told.pop("more", None)
            return told

        with mock.patch.object(self.daemon, "_hello", hello), mock.patch.object(self.daemon, "_answer", older):
            client = await self.client()
            call = await client.dial("alice")
            await call.wait_established(20)
            response = await call.start_response()
            await response.write(b"x" * 800)
            self.assertEqual(len(await client.list_calls()), 1)
            with self.assertRaises(RequestRefused):
                await client.request("call.levitate", {"call": call.id})

    async def test_a_daemon_of_another_protocol_is_said(self) -> None:
        from .fake_daemon import Refused

        def hello(*_: Any) -> dict[str, Any]:
            raise Refused(1008, "protocol 1 is not spoken here, but 2")

        with mock.patch.object(self.daemon, "_hello", hello):
            with self.assertRaisesRegex(ProtocolError, "refused this client: protocol 1 is not spoken here, but 2"):
                await ControlClient.connect(self.socket)

    async def test_audio_in_an_encoding_that_is_not_known_ends_the_connection_and_not_the_program(self) -> None:
        client = await self.client(resume=False)
        call = await client.dial("alice")
        await call.wait_established(20)
        subscription = await call.subscribe(encoding=Encoding.ULAW)
        (connection,) = self.daemon.connections
        connection.send_raw(HEADER.pack(16, 2, 9, subscription.channel) + AUDIO_HEADER.pack(0, 0))
        with self.assertLogs("mr_sip", "ERROR"):
            await until(lambda: client.closed)
        with self.assertRaises(ConnectionLost):
            await client.status()
        self.assertEqual(call.cause, "client_gone")


class HalfAFrame(unittest.IsolatedAsyncioTestCase):
    async def test_half_a_frame_and_then_nothing_is_a_timeout_and_no_hang(self) -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            length, *_ = HEADER.unpack(await reader.readexactly(HEADER.size))
            number = json.loads(await reader.readexactly(length))["id"]
            payload = json.dumps({"jsonrpc": "2.0", "id": number, "result": {"token": "t"}}).encode()
            writer.write(HEADER.pack(len(payload), 1, 0, 0) + payload)
            # Half of a frame, and then nothing, for as long as somebody waits.
            writer.write(HEADER.pack(100, 1, 0, 0) + b'{"jso')
            await writer.drain()
            await reader.read()
            writer.close()

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "control.sock"
            server = await asyncio.start_unix_server(serve, str(path))
            client = await ControlClient.connect(path)
            with self.assertRaises(RequestTimeout):
                await client.request("daemon.status", timeout=0.05)
            await asyncio.wait_for(client.close(), 20)
            server.close()
