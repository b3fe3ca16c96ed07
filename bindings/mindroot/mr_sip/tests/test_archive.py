"""Records of calls that are over, and their recordings."""

from __future__ import annotations

import array
import importlib.util
import json
import pathlib
import tempfile
import types
import unittest
import wave
from unittest import mock

from mr_sip.archive import Archive, wait_until_whole
from mr_sip.session import with_words

from .support import DaemonCase, PluginCase, until


class Keeping(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.archive = Archive(self.folder / "calls")

    def recording(self, name: str = "c1.wav", seconds: float = 1.0) -> pathlib.Path:
        """The caller at half the height first, the agent at a quarter of it after."""
        path, half = self.folder / name, int(4000 * seconds)
        with wave.open(str(path), "wb") as file:
            file.setnchannels(2)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(array.array("h", [16384, 0] * half + [0, -8192] * half).tobytes())
        return path

    def test_an_empty_archive_is_empty(self) -> None:
        self.assertEqual(
            (self.archive.records(), self.archive.record("x"), self.archive.recording("x")), ([], None, None)
        )

    def test_a_call_is_kept_with_its_recording_under_the_conversations_name(self) -> None:
        path = self.recording()
        name = self.archive.keep({"log_id": "abc", "recording": str(path), "transcript": [{"who": "caller"}]})
        self.assertEqual(name, "abc")
        self.assertEqual((self.folder / "calls" / "abc.wav").read_bytes(), path.read_bytes())
        record = self.archive.record("abc")
        assert record is not None
        self.assertEqual((record["id"], record["has_audio"], record["transcript"]), ("abc", True, [{"who": "caller"}]))
        self.assertNotIn("transcript", self.archive.records()[0])

    def test_a_conversations_further_calls_get_a_number(self) -> None:
        names = [self.archive.keep({"log_id": "abc", "started_unix_ms": at}) for at in (1, 2, 3)]
        self.assertEqual(names, ["abc", "abc-2", "abc-3"])
        self.assertEqual([record["id"] for record in self.archive.records()], ["abc-3", "abc-2", "abc"])

    def test_case_names_that_are_paths_reach_nothing(self) -> None:
        (self.folder / "secret.json").write_text("{}")
        (self.folder / "secret.wav").write_text("x")
        for name in ("../secret", "", ".", "a/b", "a\0b", "x" * 300, "..%2fsecret", "a;b", "ä"):
            self.assertIsNone(self.archive.keep({"log_id": name}), name)
            self.assertIsNone(self.archive.record(name), name)
            self.assertIsNone(self.archive.recording(name), name)
            self.assertEqual(self.archive.picture(name)["length_ms"], 0)

    def test_a_recording_that_is_still_being_written_is_waited_for(self) -> None:
        path = self.recording()
        whole = path.read_bytes()
        path.write_bytes(whole[:1000])
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            path.write_bytes(whole[: 1000 + 20_000 * len(slept)])

        with mock.patch("mr_sip.archive.time.sleep", sleep):
            self.assertTrue(wait_until_whole(str(path)))
        self.assertEqual(path.read_bytes(), whole)
        self.assertFalse(wait_until_whole(str(self.folder / "nothing.wav")))
        self.assertFalse(wait_until_whole(""))

    def test_the_picture_has_a_lane_for_each(self) -> None:
        self.archive.keep({"log_id": "abc", "recording": str(self.recording())})
        picture = self.archive.picture("abc", points=10)
        self.assertEqual(picture["caller"], [0.5] * 5 + [0.0] * 5)
        self.assertEqual(picture["agent"], [0.0] * 5 + [0.25] * 5)
        self.assertEqual(picture["length_ms"], 1000)

    def test_broken_files_are_left_out_and_harm_nothing(self) -> None:
        self.archive.keep({"log_id": "good"})
        calls = self.folder / "calls"
        for name, content in (("half.json", '{"log'), ("list.json", "[]"), (".hidden.json", "{}"), ("a b.json", "{}")):
            (calls / name).write_text(content)
        (calls / "noise.wav").write_bytes(b"RIFF????WAVE")
        (calls / "noise.json").write_text("{}")
        self.assertEqual({record["id"] for record in self.archive.records()}, {"good", "noise"})
        self.assertEqual(self.archive.picture("noise")["caller"], [])

    def test_a_disk_that_does_not_take_it_is_no_error_of_the_call(self) -> None:
        (self.folder / "calls").write_text("a file where the folder should be")
        with self.assertLogs("mr_sip", "ERROR"):
            self.assertIsNone(self.archive.keep({"log_id": "abc"}))


class Words(unittest.TestCase):
    def test_the_agents_words_are_put_to_its_lines_where_that_is_certain(self) -> None:
        agent, caller = {"who": "agent", "start_ms": 0}, {"who": "caller", "text": "hello"}
        lines = [agent, caller, agent]
        self.assertEqual(
            [line.get("text") for line in with_words(lines, ["good day", "goodbye"])], ["good day", "hello", "goodbye"]
        )
        self.assertEqual([line.get("text") for line in with_words(lines, ["good day"])], ["good day", "hello", None])
        for said in ([], ["a", "b", "c"]):
            self.assertEqual(with_words(lines, said), lines)


@unittest.skipIf(importlib.util.find_spec("fastapi") is None, "no FastAPI here")
class Pages(PluginCase):
    """Needs FastAPI; the end-to-end test has it where this does not."""

    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.router = importlib.import_module("mr_sip.router")

    def request(self, user: str | None, *roles: str, **headers: str) -> types.SimpleNamespace:
        state = types.SimpleNamespace()
        if user is not None:
            state.user = types.SimpleNamespace(username=user, roles=["user", *roles])
        return types.SimpleNamespace(state=state, headers=headers)

    async def listed(self, *who: str | None) -> list[str]:
        answer = await self.router.calls_list(self.request(*who))
        return [call["id"] for call in json.loads(answer.body)["calls"]]

    async def test_a_user_sees_its_own_calls_and_an_administrator_all(self) -> None:
        archive = self.telephone.archive
        assert archive is not None
        for user in ("adam", "zoe"):
            archive.keep({"log_id": f"of-{user}", "user": user})
        await self.on_a_call("live")
        self.assertEqual(await self.listed("adam"), ["of-adam"])
        self.assertEqual(await self.listed("user of live"), ["live"])
        self.assertEqual(sorted(await self.listed("root", "admin")), ["live", "of-adam", "of-zoe"])
        self.assertEqual(await self.listed(None), [])
        for who in (("adam",), (None,)):
            with self.assertRaises(Exception) as caught:
                await self.router.calls_transcript(self.request(*who), "of-zoe")
            self.assertEqual(caught.exception.status_code, 404)
            with self.assertRaises(Exception) as caught:
                await self.router.calls_audio(self.request(*who), "of-zoe")
            self.assertEqual(caught.exception.status_code, 404)

    async def test_a_call_that_is_up_is_shown_with_what_was_said_so_far(self) -> None:
        _, fake = await self.on_a_call("live")
        self.daemon.final(fake, "good day")
        answer = await self.router.calls_transcript(self.request("user of live"), "live")
        record = json.loads(answer.body)
        self.assertEqual((record["state"], record["transcript"][0]["text"]), ("answered", "good day"))

    async def test_parts_of_a_recording(self) -> None:
        archive = self.telephone.archive
        assert archive is not None
        archive.keep({"log_id": "abc", "user": "adam"})
        content = bytes(range(200))
        (archive.folder / "abc.wav").write_bytes(content)
        for asked, status, wanted in (
            (None, 200, content),
            ("bytes=0-9", 206, content[:10]),
            ("bytes=190-", 206, content[190:]),
            ("bytes=190-900", 206, content[190:]),
            ("bytes=-5", 206, content[-5:]),
            ("bytes=200-", 416, b""),
            ("bytes=-0", 416, b""),
            ("bytes=9-3", 200, content),
            ("bytes=0-1,5-6", 200, content),
            ("seconds=1-2", 200, content),
            ("bytes=-", 200, content),
        ):
            headers = {} if asked is None else {"range": asked}
            answer = await self.router.calls_audio(self.request("adam", **headers), "abc")
            self.assertEqual((answer.status_code, answer.body), (status, wanted), asked)


class Calls(DaemonCase):
    async def test_every_call_leaves_a_record_also_one_that_nobody_answered(self) -> None:
        phone = self.phone()
        archive = phone.archive
        assert archive is not None
        fake, agent = await self.established(phone, "talk")
        agent.replies = ["good day"]
        fake.lines.append({"who": "agent", "start_ms": 0, "end_ms": 500})
        self.daemon.end(fake, "remote_hangup")
        await phone.dial("vain", "sip:busy@example.invalid", agent)
        await until(lambda: len(archive.records()) == 2)
        talk, vain = archive.record("talk"), archive.record("vain")
        assert talk is not None and vain is not None
        self.assertEqual(
            (talk["cause"], talk["agent"], talk["party"]), ("remote_hangup", "agent", "alice@example.invalid")
        )
        self.assertEqual(talk["transcript"][0]["text"], "good day")
        self.assertEqual((vain["cause"], vain["status"], vain["duration_ms"]), ("busy", 486, 0))
        json.dumps(talk)
