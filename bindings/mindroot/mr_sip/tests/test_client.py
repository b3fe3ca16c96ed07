"""The client: requests, events, resuming, and what it says when there is nobody to talk to."""

from __future__ import annotations

import asyncio
import pathlib
import tempfile
import unittest

from mr_sip.client import ControlClient
from mr_sip.errors import (
    ConnectionLost,
    DaemonNotRunning,
    MrSipError,
    RequestRefused,
    RequestTimeout,
    ResponseCut,
)
from mr_sip.frames import AudioFrame, Encoding, audio_frame, read_audio, read_header, whole_samples

from .fake_daemon import HEADER
from .support import DaemonCase, until


class Frames(unittest.TestCase):
    def test_audio_comes_back_as_it_was_sent(self) -> None:
        sent = AudioFrame(7, Encoding.ULAW, 3, 123_456_789, bytes(range(256)))
        raw = audio_frame(sent)
        self.assertEqual(read_audio(read_header(raw[:8]), raw[8:]), sent)

    def test_frames_that_version_1_does_not_have_are_refused(self) -> None:
        for raw in (HEADER.pack(1 << 20 | 1, 1, 0, 0), HEADER.pack(0, 9, 0, 0), b'{"jsonrp'):
            with self.assertRaises(MrSipError):
                read_header(raw)

    def test_audio_shorter_than_its_own_header_is_refused(self) -> None:
        with self.assertRaises(MrSipError):
            read_audio(read_header(HEADER.pack(15, 2, 0, 1)), b"x" * 15)

    def test_half_a_sample_waits_for_its_other_half(self) -> None:
        self.assertEqual(whole_samples(b"", b"abc", Encoding.S16), (b"ab", b"c"))
        self.assertEqual(whole_samples(b"c", b"d", Encoding.S16), (b"cd", b""))
        self.assertEqual(whole_samples(b"", b"abc", Encoding.ULAW), (b"abc", b""))


class Connecting(unittest.IsolatedAsyncioTestCase):
    async def test_no_daemon_says_how_to_start_it(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(DaemonNotRunning, "start it with `mr-sip serve`"):
                await ControlClient.connect(pathlib.Path(folder) / "control.sock")

    async def test_somebody_else_on_the_socket_is_said_and_does_not_hang(self) -> None:
        async def web_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "control.sock"
            server = await asyncio.start_unix_server(web_server, str(path))
            with self.assertRaisesRegex(MrSipError, "is this the mr-sip socket"):
                await ControlClient.connect(path)
            server.close()


class Requests(DaemonCase):
    async def test_hello_comes_first_and_is_told_who_we_are(self) -> None:
        client = await self.client(name="test")
        method, params = self.daemon.requests[0]
        self.assertEqual((method, params["client"], params["protocol"], params["events"]), ("hello", "test", 1, "own"))
        self.assertEqual(client.server.version, "fake")

    async def test_an_error_names_the_request_and_the_code(self) -> None:
        client = await self.client()
        with self.assertRaisesRegex(RequestRefused, r"call.get: no such call \(error 1001\)") as caught:
            await client.request("call.get", {"call": "c99"})
        self.assertEqual(caught.exception.code, 1001)

    async def test_an_answer_that_does_not_come_is_a_timeout(self) -> None:
        client = await self.client()
        self.daemon.unanswered.add("daemon.status")
        with self.assertRaises(RequestTimeout):
            await client.request("daemon.status", timeout=0.05)

    async def test_a_request_under_way_fails_with_the_connection(self) -> None:
        client = await self.client()
        self.daemon.unanswered.add("daemon.status")
        asking = asyncio.ensure_future(client.request("daemon.status"))
        await until(lambda: "daemon.status" in self.daemon.methods())
        self.daemon.drop_connections()
        with self.assertRaises(ConnectionLost):
            await asking

    async def test_a_closed_client_refuses_instead_of_hanging(self) -> None:
        client = await self.client()
        await client.close()
        with self.assertRaises(ConnectionLost):
            await client.request("call.list")

    async def test_unknown_events_and_fields_are_passed_on_unharmed(self) -> None:
        client = await self.client()
        events = client.events()
        waiting = asyncio.ensure_future(events.__anext__())
        await asyncio.sleep(0)
        (connection,) = self.daemon.connections
        connection.send({"method": "future.event", "params": {"call": "c404", "new": 1}})
        event = await waiting
        self.assertEqual((event.name, event.params["new"], event.call), ("future.event", 1, None))
        await events.aclose()

    async def test_a_listener_that_fails_harms_nobody_else(self) -> None:
        client = await self.client()
        client.listen(lambda event: 1 / 0)
        call = await client.dial("alice")
        self.assertTrue(await call.wait_established(20))


class Calls(DaemonCase):
    async def test_a_call_is_mirrored_from_ringing_to_its_summary(self) -> None:
        client = await self.client()
        seen: list[str] = []
        call = await client.dial("alice", on_call=lambda made: made.listen(lambda event: seen.append(made.state)))
        self.assertTrue(await call.wait_established(20))
        await call.hangup()
        self.assertTrue(await call.wait_summary(20))
        self.assertEqual(seen, ["ringing", "answered", "ended", "ended"])
        self.assertEqual((call.cause, client.calls), ("hangup", {}))

    async def test_events_of_a_call_can_be_iterated_to_the_end(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        iterator = call.events()
        first = asyncio.ensure_future(iterator.__anext__())
        await asyncio.sleep(0)
        self.daemon.say(self.daemon.calls[str(call.id)], "hello")
        names = [(await first).name]
        self.daemon.end(self.daemon.calls[str(call.id)], "remote_hangup")
        async for event in iterator:
            names.append(event.name)
        self.assertEqual(names, ["speech.start", "speech.stop", "transcript.final", "call.state", "call.summary"])

    async def test_a_cancelled_dial_hangs_up_even_when_the_answer_was_under_way(self) -> None:
        client = await self.client()
        self.daemon.hold_dials = True
        dialing = asyncio.ensure_future(client.dial("ringing"))
        await until(lambda: self.daemon.held)
        dialing.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await dialing
        self.daemon.release()
        await until(lambda: "call.hangup" in self.daemon.methods())

    async def test_hanging_up_twice_is_no_error(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        await call.hangup()
        await call.hangup()


class Speaking(DaemonCase):
    window_ms = 500

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.connected = await self.client()
        self.call = await self.connected.dial("alice")
        await self.call.wait_established(20)
        self.fake = self.daemon.calls[str(self.call.id)]

    async def test_what_is_written_is_heard_byte_for_byte_and_never_beyond_the_window(self) -> None:
        response = await self.call.start_response()
        speech = bytes(index % 251 for index in range(8 * 3000))
        writing = asyncio.ensure_future(response.write(speech))
        while not writing.done():
            await until(lambda: writing.done() or len(self.fake.queued) > 8 * 200)
            self.assertLessEqual(len(self.fake.queued), 8 * self.window_ms)
            self.daemon.play(self.fake, 200)
        await response.end()
        self.daemon.play(self.fake, 10_000)
        self.assertEqual(self.fake.heard, speech)
        self.assertEqual((self.daemon.refusals, self.call.refused_samples), (0, 0))

    async def test_a_full_window_is_counted_over_all_responses_that_still_sound(self) -> None:
        first = await self.call.start_response()
        await first.write(b"a" * 8 * 400)
        await first.end()
        second = await self.call.start_response()
        writing = asyncio.ensure_future(second.write(b"b" * 8 * 400))
        while not writing.done():
            self.daemon.play(self.fake, 50)
            await asyncio.sleep(0.005)
        self.assertEqual(self.daemon.refusals, 0)

    async def test_s16_of_odd_lengths_arrives_whole(self) -> None:
        response = await self.call.start_response(Encoding.S16)
        data = bytes(range(101)) * 2
        for piece in (data[:1], data[1:2], data[2:77], data[77:]):
            await response.write(piece)
        await response.end()
        self.daemon.play(self.fake, 1000)
        self.assertEqual(self.fake.heard, data)

    async def test_files_and_tones_are_played_and_stopped_and_the_voice_is_ducked(self) -> None:
        file = await self.call.play_file("/sounds/wait.wav", instead=True, gain_db=-6.0)
        tone = await self.call.play_tone("busy", region="us", for_ms=500)
        how = {"call": self.call.id, "path": "/sounds/wait.wav", "mode": "instead", "bargeable": True, "gain_db": -6.0}
        self.assertEqual(self.fake.plays[file], how)
        self.assertEqual((self.fake.plays[tone]["tone"], self.fake.plays[tone]["for_ms"]), ("busy", 500))
        await self.call.stop_play(tone)
        self.assertEqual(list(self.fake.plays), [file])
        await self.call.duck(True)
        self.assertTrue(self.fake.ducked)

    async def test_a_halt_ends_a_write_that_waits(self) -> None:
        response = await self.call.start_response()
        writing = asyncio.ensure_future(response.write(b"x" * 8 * 2000))
        await until(lambda: len(self.fake.queued) > 8 * 200)
        await self.call.halt()
        with self.assertRaises(ResponseCut):
            await writing
        self.assertTrue(self.call.halted)

    async def test_a_halt_while_the_response_is_being_opened_leaves_none_open(self) -> None:
        opening = asyncio.ensure_future(self.call.start_response())
        await asyncio.sleep(0)
        halting = asyncio.ensure_future(self.call.halt())
        with self.assertRaises(ResponseCut):
            await opening
        await halting
        self.assertEqual(self.call.responses, {})

    async def test_the_window_opens_by_asking_when_no_event_tells(self) -> None:
        response = await self.call.start_response()
        writing = asyncio.ensure_future(response.write(b"x" * 8 * 700))
        await until(lambda: len(self.fake.queued) >= 8 * 400)
        quiet = self.fake.responses[0]
        quiet.heard += quiet.queue
        quiet.queue.clear()
        await asyncio.wait_for(writing, 20)

    async def test_the_turn_counts_over_responses_and_begins_again_with_resume(self) -> None:
        for length in (300, 200):
            response = await self.call.start_response()
            await response.write(b"x" * 8 * length)
            await response.end()
            self.daemon.play(self.fake, length)
        position = await self.call.position()
        self.assertEqual((position.turn_ms, self.call.turn_ms), (500, 500))
        await self.call.halt()
        await self.call.resume()
        self.assertEqual(((await self.call.position()).turn_ms, self.call.turn_ms, self.call.halted), (0, 0, False))


class Resuming(DaemonCase):
    async def resumed(self, client: ControlClient) -> None:
        await until(lambda: client.connection_number == 2 and client.connected, "resumed")

    async def test_a_lost_connection_is_resumed_and_the_call_goes_on(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        fake = self.daemon.calls[str(call.id)]
        self.daemon.drop_connections()
        await self.resumed(client)
        heard: list[str] = []
        call.listen(lambda event: heard.append(event.params.get("text", "")))
        self.daemon.final(fake, "still there?")
        await until(lambda: heard == ["still there?"])
        response = await call.start_response()
        await response.write(b"y" * 800)
        await until(lambda: fake.queued == b"y" * 800)

    async def test_what_happened_while_the_connection_was_lost_is_told_afterwards(self) -> None:
        client = await self.client()
        one, two = await client.dial("alice"), await client.dial("bob")
        await one.wait_established(20)
        await two.wait_established(20)
        fake_one, fake_two = self.daemon.calls[str(one.id)], self.daemon.calls[str(two.id)]
        heard: list[str] = []
        one.listen(lambda event: heard.append(event.params["text"]) if event.name == "transcript.final" else None)
        self.daemon.drop_connections()
        self.daemon.final(fake_one, "are you there?")
        self.daemon.end(fake_two, "remote_hangup")
        await self.resumed(client)
        self.assertEqual((heard, one.answered, two.cause), (["are you there?"], True, "remote_hangup"))

    async def test_a_voice_that_fell_silent_with_the_connection_may_speak_again(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        fake = self.daemon.calls[str(call.id)]
        self.daemon.drop_connections()
        self.assertTrue(fake.halted)
        await self.resumed(client)
        self.assertFalse(fake.halted)

    async def test_a_voice_that_was_halted_stays_halted(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        await call.halt()
        self.daemon.drop_connections()
        await self.resumed(client)
        self.assertTrue(call.halted)
        self.assertNotIn("audio.resume", self.daemon.methods())

    async def test_calls_that_did_not_survive_end_as_client_gone(self) -> None:
        client = await self.client()
        call = await client.dial("alice")
        await call.wait_established(20)
        self.daemon.accept_tokens = False
        self.daemon.drop_connections()
        self.assertTrue(await call.wait_ended(20))
        self.assertEqual(call.cause, "client_gone")
        again = await client.dial("alice")
        self.assertTrue(await again.wait_established(20))

    async def test_without_a_daemon_to_return_to_the_client_is_closed_and_says_so(self) -> None:
        from unittest import mock

        with mock.patch("mr_sip.client.RESUME_FOR_S", 0.1):
            client = await self.client()
            call = await client.dial("alice")
            await call.wait_established(20)
            await self.daemon.stop()
            self.assertTrue(await call.wait_ended(20))
            await until(lambda: client.closed)
            with self.assertRaises(ConnectionLost):
                await client.request("call.list")


if __name__ == "__main__":
    unittest.main()
