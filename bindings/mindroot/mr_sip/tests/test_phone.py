"""Conversations on calls: dialling, speaking, barge-in, hanging up; several at once."""

from __future__ import annotations

import asyncio
from unittest import mock

from mr_sip.session import DISCONNECTED

from .support import DaemonCase, RecordingAgent, until


class Dialling(DaemonCase):
    async def test_a_call_is_established_and_the_destination_arrives_as_it_was_given(self) -> None:
        phone = self.phone()
        fake, _ = await self.established(phone, to="sip:user@domain.com")
        self.assertEqual(fake.to, "sip:user@domain.com")
        self.assertIsNotNone(phone.session("log"))

    async def test_every_failure_says_why(self) -> None:
        phone = self.phone()
        for user, cause, words in (
            ("busy", "busy", "busy"),
            ("declined", "declined", "declined"),
            ("nobody", "not_found", "no such number"),
            ("noanswer", "no_answer", "nobody answered"),
            ("badpassword", "auth", "user name or password"),
            ("nocodec", "media", "audio"),
            ("unreachable", "network", "could not be reached"),
        ):
            report = await phone.dial("log", f"sip:{user}@example.invalid", RecordingAgent())
            self.assertEqual((report["status"], report["cause"]), ("call_failed", cause))
            self.assertIn(words, report["error"])
            self.assertIsNone(phone.session("log"))

    async def test_case_15_a_destination_the_daemon_refuses_is_a_failed_call(self) -> None:
        report = await self.phone().dial("log", "forbidden", RecordingAgent())
        self.assertEqual((report["status"], report["error_code"]), ("call_failed", 1004))
        self.assertIn("deny list", report["error"])

    async def test_emergency_numbers_are_blocked_before_anything_is_dialled(self) -> None:
        phone = self.phone()
        for number in ("911", "112", "999", "000", "119", "110", "118", "sip:911@example.com"):
            report = await phone.dial("log", number, RecordingAgent())
            self.assertEqual(report["status"], "blocked", number)
        self.assertEqual(self.daemon.methods(), [])

    async def test_nobody_answering_in_time_is_given_up(self) -> None:
        with mock.patch("mr_sip.phone.ESTABLISH_GRACE_S", 0.05):
            report = await self.phone().dial("log", "ringing", RecordingAgent(), timeout_s=0.05)
        self.assertEqual((report["status"], report["cause"]), ("call_failed", "no_answer"))
        await until(lambda: "call.hangup" in self.daemon.methods())
        self.assertEqual(self.daemon.params("call.dial")[0]["timeout_ms"], 1000, "the least that the daemon takes")

    async def test_a_cancelled_task_cancels_the_call(self) -> None:
        phone = self.phone()
        dialing = asyncio.ensure_future(phone.dial("log", "ringing", RecordingAgent()))
        await until(lambda: self.daemon.calls)
        dialing.cancel()
        with self.assertRaises(asyncio.CancelledError):
            await dialing
        await until(lambda: "call.hangup" in self.daemon.methods())
        fake, _ = await self.established(phone)
        self.assertEqual(fake.state, "answered")

    async def test_answered_and_hung_up_in_one_burst_is_a_call_and_its_end(self) -> None:
        phone, agent = self.phone(), RecordingAgent()
        dialing = asyncio.create_task(phone.dial("log", "sip:ringing@example.invalid", agent))
        await until(lambda: any(call.state == "ringing" for call in self.daemon.calls.values()))
        (fake,) = self.daemon.calls.values()
        self.daemon.state(fake, "answered", status=200)
        self.daemon.end(fake, "remote_hangup")
        self.assertEqual((await dialing)["status"], "call_established")
        await until(lambda: agent.turns() == [DISCONNECTED])

    async def test_one_conversation_has_one_call(self) -> None:
        phone = self.phone()
        await self.established(phone)
        report = await phone.dial("log", "alice", RecordingAgent())
        self.assertEqual(report["status"], "error")
        self.assertIn("hang up first", report["error"])

    async def test_without_a_daemon_the_report_says_what_is_missing(self) -> None:
        phone = self.phone()
        await self.daemon.stop()
        with mock.patch.dict("os.environ", {"PATH": "", "MR_SIP_BIN": ""}):
            report = await phone.dial("log", "alice", RecordingAgent())
        self.assertEqual(report["status"], "error")
        self.assertIn("mr-sip serve", report["error"])
        self.assertIn("not on PATH", report["error"])


class Speaking(DaemonCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.telephone = self.phone()
        self.fake, self.agent = await self.established(self.telephone)
        session = self.telephone.session("log")
        assert session is not None
        self.session, self.voice = session, session.voice

    async def test_chunks_of_every_size_are_heard_in_order_as_one_response(self) -> None:
        speech = bytes(index % 253 for index in range(5000))
        self.assertTrue(self.voice.start())
        for piece in (speech[:1], b"", speech[1:8], speech[8:1000], speech[1000:]):
            self.assertTrue(await self.voice.write(piece))
        self.assertTrue(self.voice.end())
        await until(lambda: "response.end" in self.daemon.methods())
        self.daemon.play(self.fake, 10_000)
        self.assertEqual(self.fake.heard, speech)
        self.assertEqual(len(self.fake.responses), 1)

    async def test_a_chunk_without_a_start_begins_a_response_by_itself(self) -> None:
        self.assertTrue(await self.voice.write(b"x" * 160))
        await until(lambda: self.fake.queued == b"x" * 160)
        self.assertTrue(self.voice.end())
        await until(lambda: self.fake.responses[0].ended)

    async def test_a_burst_is_accepted_at_once_and_above_30_s_the_speaker_waits(self) -> None:
        megabytes = bytes(index % 249 for index in range(2 * 1024 * 1024))
        self.assertTrue(await asyncio.wait_for(self.voice.write(megabytes[: 8 * 29_000]), 5))
        writing = asyncio.ensure_future(self.voice.write(megabytes[8 * 29_000 :]))
        ending = asyncio.ensure_future(self._end_after(writing))
        while not self.fake.responses or not self.fake.responses[0].finished:
            if not writing.done() and self.voice.queued_ms < 29_000:
                await until(lambda: writing.done(), "the writer goes on once there is room")
            self.assertLessEqual(len(self.fake.queued), 8 * self.window_ms)
            self.daemon.play(self.fake, 1900)
            await asyncio.sleep(0)
        self.assertTrue(await writing)
        await ending
        self.assertEqual(self.fake.heard, megabytes)
        self.assertEqual(self.daemon.refusals, 0)

    async def _end_after(self, writing: asyncio.Future[bool]) -> None:
        await writing
        self.voice.end()

    async def test_two_sentences_are_heard_one_after_the_other(self) -> None:
        for word in (b"1", b"2"):
            self.voice.start()
            await self.voice.write(word * 800)
            self.voice.end()
        await until(lambda: len(self.fake.responses) == 2 and self.fake.responses[1].ended)
        self.daemon.play(self.fake, 10_000)
        self.assertEqual(self.fake.heard, b"1" * 800 + b"2" * 800)
        await until(lambda: self.voice.heard_whole)
        self.assertEqual(await self.voice.spoken_seconds(), 0.2)

    async def test_halted_is_known_without_a_round_trip(self) -> None:
        self.daemon.unanswered.add("audio.halt")
        halting = asyncio.ensure_future(self.voice.halt())
        await asyncio.sleep(0)
        before = len(self.daemon.requests)
        self.assertTrue(self.voice.halted)
        self.assertFalse(self.voice.start())
        self.assertFalse(await self.voice.write(b"x" * 160))
        self.assertTrue(self.voice.end())
        self.assertEqual(len(self.daemon.requests), before)
        halting.cancel()

    async def test_a_halt_frees_a_speaker_who_waits_and_nothing_of_his_is_heard_after_resume(self) -> None:
        writing = asyncio.ensure_future(self.voice.write(b"x" * 8 * 40_000))
        await until(lambda: len(self.fake.queued) > 8 * 1000)
        await self.voice.halt()
        self.assertFalse(await writing)
        await self.voice.resume()
        self.assertTrue(await self.voice.write(b"y" * 160))
        await until(lambda: self.fake.queued == b"y" * 160)

    async def test_clearing_silences_without_a_latch(self) -> None:
        await self.voice.write(b"x" * 8 * 3000)
        await until(lambda: len(self.fake.queued) > 8 * 1500)
        self.assertAlmostEqual(await self.voice.clear(), 3000, delta=1)
        self.assertFalse(self.voice.halted)
        self.assertTrue(await self.voice.write(b"y" * 160))
        await until(lambda: self.fake.queued == b"y" * 160)

    async def test_after_the_call_nothing_is_accepted(self) -> None:
        self.daemon.end(self.fake, "remote_hangup")
        await until(lambda: self.telephone.session("log") is None)
        self.assertFalse(await self.voice.write(b"x"))
        self.assertFalse(self.voice.start())
        await until(lambda: self.agent.turns())
        self.assertFalse(self.voice.end())

    async def test_a_speaker_who_waits_is_freed_by_the_end_of_the_call(self) -> None:
        writing = asyncio.ensure_future(self.voice.write(b"x" * 8 * 40_000))
        await until(lambda: len(self.fake.queued) > 8 * 1000)
        self.daemon.end(self.fake, "remote_hangup")
        self.assertFalse(await asyncio.wait_for(writing, 20))

    async def test_speech_survives_a_lost_connection(self) -> None:
        await self.voice.write(b"x" * 8 * 5000)
        self.voice.end()
        await until(lambda: len(self.fake.queued) > 8 * 1500)
        with_daemon = len(self.fake.queued)
        self.daemon.drop_connections()
        await until(lambda: len(self.fake.responses) == 2, "a second response")

        def played() -> bool:
            self.daemon.play(self.fake, 500)
            return self.fake.responses[1].finished

        await until(played)
        self.assertEqual(len(self.fake.heard), 8 * 5000 - with_daemon)
        self.assertFalse(self.voice.heard_whole, "what was with the daemon was never heard")

    async def test_what_was_heard_before_the_connection_was_lost_counts(self) -> None:
        await self.voice.write(b"x" * 8 * 1000)
        self.voice.end()
        await until(lambda: self.fake.responses and self.fake.responses[0].ended)
        self.daemon.play(self.fake, 600)
        await until(lambda: self.session.call.turn_ms == 600)
        self.daemon.drop_connections()
        client = await self.telephone.client()
        await until(lambda: client.connection_number == 2 and client.connected)
        self.assertEqual(await self.voice.spoken_seconds(), 0.6)
        self.assertFalse(self.voice.heard_whole)


class BargeIn(DaemonCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.telephone = self.phone()
        self.fake, self.agent = await self.established(self.telephone)
        session = self.telephone.session("log")
        assert session is not None
        self.session, self.voice = session, session.voice

    async def _agent_speaks(self, spoken_ms: int, of_ms: int) -> None:
        self.voice.start()
        await self.voice.write(b"s" * 8 * of_ms)
        self.voice.end()
        await until(lambda: len(self.fake.queued) >= 8 * min(of_ms, 1500))
        self.daemon.play(self.fake, spoken_ms)

    async def test_the_order_that_keeps_the_history_right(self) -> None:
        await self._agent_speaks(700, 4000)
        self.daemon.requests.clear()
        order: list[str] = []
        self.agent.heard = _Merged(order, self.agent.heard)
        self.daemon.requests = _Merged(order, [])
        self.daemon.speech_start(self.fake)
        self.daemon.barge_in(self.fake)
        await until(lambda: "interrupted" in order)
        self.assertEqual(order, ["audio.halt", "interrupted"])
        self.daemon.speech_stop(self.fake)
        self.daemon.final(self.fake, " what about Tuesday? ")
        await until(lambda: "take_turn" in order)
        self.assertEqual(order[2:], ["audio.position", "cancel_turn", "truncate", "audio.resume", "show", "take_turn"])
        self.assertEqual(
            self.agent.heard[-3:],
            [("truncate", 0.7), ("show", "what about Tuesday?"), ("take_turn", "what about Tuesday?")],
        )
        self.assertFalse(self.voice.halted)

    async def test_the_voice_is_silent_from_the_moment_that_the_caller_interrupts(self) -> None:
        await self._agent_speaks(100, 4000)
        self.daemon.speech_start(self.fake)
        self.daemon.barge_in(self.fake)
        await until(lambda: self.voice.halted)
        self.assertFalse(await self.voice.write(b"x" * 160))

    async def test_a_silent_agent_stays_so_while_the_caller_speaks(self) -> None:
        self.daemon.speech_start(self.fake)
        await until(lambda: self.voice.halted)
        self.assertFalse(await self.voice.write(b"x" * 160))

    async def test_a_sign_of_listening_neither_stops_the_agent_nor_is_answered(self) -> None:
        await self._agent_speaks(100, 4000)
        self.daemon.speech_start(self.fake)
        self.daemon.speech_stop(self.fake)
        self.daemon.final(self.fake, "uh-huh", backchannel=True)
        await self.session.call.position()  # answered after those events
        self.assertFalse(self.voice.halted)
        self.assertTrue(await self.voice.write(b"x" * 160))
        self.daemon.say(self.fake, "yes please")
        await until(self.agent.turns)
        self.assertEqual(self.agent.turns(), ["yes please"])
        self.assertEqual(len(self.daemon.params("audio.halt")), 1)

    async def test_a_turn_that_was_not_taken_for_an_interruption_ends_what_is_said_all_the_same(self) -> None:
        await self._agent_speaks(700, 4000)
        self.daemon.say(self.fake, "what about Tuesday?")
        await until(lambda: self.agent.turns() == ["what about Tuesday?"])
        self.assertEqual(self.agent.names(), ["interrupted", "cancel_turn", "truncate", "show", "take_turn"])
        self.assertIn(("truncate", 0.7), self.agent.heard)
        self.assertFalse(self.voice.halted)

    async def test_where_the_policy_forbids_interrupting_the_agent_says_all_and_then_answers(self) -> None:
        self.fake.policy["barge_in"] = False
        await self._agent_speaks(700, 1400)
        self.daemon.say(self.fake, "what about Tuesday?")
        await until(lambda: self.daemon.params("turn.policy"))
        self.daemon.say(self.fake, "in the morning")
        await self.session.call.position()  # answered after those events
        self.assertEqual(self.agent.turns(), [])
        self.assertFalse(self.voice.halted)
        self.daemon.play(self.fake, 700)
        await until(self.agent.turns)
        self.assertEqual(self.agent.turns(), ["what about Tuesday? in the morning"])
        self.assertEqual(self.daemon.params("audio.halt"), [])
        self.assertNotIn("truncate", self.agent.names())

    async def test_who_hangs_up_over_an_agent_that_must_not_be_interrupted_is_remembered(self) -> None:
        self.fake.policy["barge_in"] = False
        await self._agent_speaks(700, 1400)
        self.daemon.say(self.fake, "never mind")
        await until(lambda: self.daemon.params("turn.policy"))
        self.daemon.end(self.fake, "remote_hangup")
        await until(lambda: ("remember", "never mind") in self.agent.heard)

    async def test_a_reply_that_was_heard_to_its_end_is_not_cut(self) -> None:
        await self._agent_speaks(400, 400)
        await until(lambda: self.voice.heard_whole)
        self.daemon.say(self.fake, "thank you")
        await until(self.agent.turns)
        self.assertNotIn("truncate", self.agent.names())

    async def test_finals_are_answered_one_after_the_other_and_never_empty(self) -> None:
        for text in ("one", "  ", "two"):
            self.daemon.say(self.fake, text)
        await until(lambda: len(self.agent.turns()) == 2)
        self.assertEqual(self.agent.turns(), ["one", "two"])
        await until(lambda: not self.voice.halted)

    async def test_what_was_heard_of_an_earlier_reply_is_not_counted_twice(self) -> None:
        await self._agent_speaks(700, 4000)
        self.daemon.speech_start(self.fake)
        self.daemon.barge_in(self.fake)
        self.daemon.speech_stop(self.fake)
        self.daemon.speech_start(self.fake)
        self.daemon.final(self.fake, "wait")
        await until(lambda: len(self.agent.turns()) == 1)
        self.assertTrue(self.voice.halted, "the caller goes on speaking")
        self.daemon.speech_stop(self.fake)
        self.daemon.final(self.fake, "and one more thing")
        await until(lambda: len(self.agent.turns()) == 2)
        self.assertEqual([entry[1] for entry in self.agent.heard if entry[0] == "truncate"], [0.7, 0.0])
        self.assertFalse(self.voice.halted)

    async def test_a_cough_lets_the_agent_speak_again(self) -> None:
        with mock.patch("mr_sip.session.NO_WORDS_S", 0.01):
            self.daemon.speech_start(self.fake)
            self.daemon.speech_stop(self.fake)
            await until(lambda: self.voice.halted)
            await until(lambda: not self.voice.halted)
        self.assertEqual(self.agent.turns(), [])

    async def test_case_39_an_agent_that_fails_harms_neither_the_call_nor_the_next_turn(self) -> None:
        async def broken(text: str) -> None:
            raise RuntimeError(text)

        self.agent.on_turn = broken
        self.daemon.say(self.fake, "one")
        await until(lambda: self.agent.turns() == ["one"])
        self.agent.on_turn = None
        self.daemon.say(self.fake, "two")
        await until(lambda: self.agent.turns() == ["one", "two"])
        self.assertEqual(self.fake.state, "answered")


class Ending(DaemonCase):
    async def test_hanging_up_reports_duration_and_transcript_and_starts_no_turn(self) -> None:
        phone = self.phone()
        fake, agent = await self.established(phone)
        fake.lines.append({"who": "agent", "text": "good day", "start_ms": 0, "end_ms": 500})
        self.daemon.final(fake, "goodbye")
        await until(lambda: agent.turns() == ["goodbye"])
        report = await phone.hang_up("log")
        self.assertEqual((report["status"], report["cause"]), ("call_ended", "hangup"))
        self.assertEqual(report["transcript"], "agent: good day\ncaller: goodbye")
        self.assertGreaterEqual(report["call_duration_seconds"], 0)
        self.assertIsNone(phone.session("log"))
        self.assertEqual(agent.turns(), ["goodbye"])

    async def test_without_a_call_there_is_nothing_to_hang_up(self) -> None:
        report = await self.phone().hang_up("log")
        self.assertEqual((report["status"], report["transcript"]), ("no_active_call", ""))

    async def test_the_far_end_hanging_up_is_told_with_the_marker_after_the_last_words(self) -> None:
        phone = self.phone()
        fake, agent = await self.established(phone)
        self.daemon.end(fake, "remote_hangup", summary=False)
        await until(lambda: phone.session("log") is None)
        self.daemon.final(fake, "bye")
        self.daemon.summary(fake)
        await until(agent.turns)
        self.assertEqual(agent.turns(), [DISCONNECTED])
        self.assertLess(agent.heard.index(("remember", "bye")), agent.heard.index(("take_turn", DISCONNECTED)))

    async def test_an_answer_that_the_end_of_the_call_cut_is_cut_in_the_history(self) -> None:
        phone = self.phone()
        fake, agent = await self.established(phone)
        session = phone.session("log")
        assert session is not None
        await session.voice.write(b"s" * 8 * 1500)
        session.voice.end()
        await until(lambda: fake.responses and fake.responses[0].ended)
        self.daemon.play(fake, 900)
        self.daemon.end(fake, "remote_hangup")
        await until(agent.turns)
        self.assertIn(("truncate", 0.9), agent.heard)

    async def test_the_turn_that_hears_of_the_end_may_call_again(self) -> None:
        phone = self.phone()
        fake, agent = await self.established(phone)
        reports: list[str] = []

        async def call_back(text: str) -> None:
            reports.append((await phone.dial("log", "bob", RecordingAgent()))["status"])

        agent.on_turn = call_back
        self.daemon.end(fake, "remote_hangup")
        await until(lambda: reports == ["call_established"])


class TwoCalls(DaemonCase):
    async def test_two_calls_at_once_never_cross(self) -> None:
        phone = self.phone()
        ((one, agent_one), (two, agent_two)) = await asyncio.gather(
            self.established(phone, "log-1", "alice"), self.established(phone, "log-2", "bob")
        )
        self.assertEqual((one.to, two.to), ("alice", "bob"))
        sessions = [phone.session("log-1"), phone.session("log-2")]
        for session in sessions:
            assert session is not None
            session.voice.start()
        for _ in range(20):
            for session, word in zip(sessions, (b"1", b"2")):
                assert session is not None
                self.assertTrue(await session.voice.write(word * 100))
        await until(lambda: (one.queued, two.queued) == (b"1" * 2000, b"2" * 2000))
        self.daemon.speech_start(one)
        self.daemon.barge_in(one)
        assert sessions[0] is not None and sessions[1] is not None
        await until(lambda: sessions[0].voice.halted)
        self.assertFalse(sessions[1].voice.halted)
        self.assertTrue(await sessions[1].voice.write(b"2"))
        self.daemon.speech_stop(one)
        self.daemon.final(one, "for one")
        self.daemon.say(two, "for two")
        await until(lambda: agent_one.turns() and agent_two.turns())
        self.assertEqual((agent_one.turns(), agent_two.turns()), (["for one"], ["for two"]))
        await phone.hang_up("log-1")
        self.assertEqual((one.state, two.state), ("ended", "answered"))

    async def test_fifty_calls_come_and_go_and_nothing_stays_behind(self) -> None:
        phone = self.phone()
        names = [f"log-{index}" for index in range(50)]
        await asyncio.gather(*(self.established(phone, name) for name in names))
        await asyncio.gather(*(phone.hang_up(name) for name in names))
        client = await phone.client()
        self.assertEqual((phone._sessions, phone._dialing, client.calls), ({}, set(), {}))
        await until(lambda: len(asyncio.all_tasks()) < 10)


class _Merged(list):  # type: ignore[type-arg]
    """A list that also notes the first part of everything appended in a list that several share."""

    def __init__(self, order: list[str], begun: list[tuple[object, ...]]) -> None:
        super().__init__(begun)
        self._order = order

    def append(self, entry: tuple[str, ...]) -> None:
        super().append(entry)
        self._order.append(entry[0])
