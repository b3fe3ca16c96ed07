"""Calls that come in: each a conversation of its own; and where there is no agent, no daemon, no caller."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from mr_sip.calls import Event

from .fake_daemon import FakeDaemon
from .stub_mindroot import Context
from .support import PluginCase, until


class Listening(PluginCase):
    async def listen(self, agent: str = "caller") -> dict[str, Any]:
        started: dict[str, Any] = await self.service("start_incoming_listener_service", agent, context=Context("log"))
        return started

    def conversations(self) -> list[Context]:
        return list(self.mindroot.contexts.values())

    async def test_a_caller_gets_a_conversation_and_is_greeted(self) -> None:
        await self.listen()
        fake = self.daemon.ring("<sip:+4930123456@example.invalid;user=phone>", "Bob")
        await until(lambda: self.telephone.sessions())
        (context,) = self.conversations()
        self.assertEqual((context.agent_name, context.username), ("caller", "user of log"))
        await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        _, log_id, text = next(entry for entry in context.heard if entry[0] == "send_message_to_agent")
        self.assertEqual(log_id, context.log_id)
        self.assertIn("telephone call from +4930123456", text)
        self.assertIn(("init_chat_session", context.username, "caller", context.log_id), context.heard)
        self.daemon.say(fake, "good day")
        await until(lambda: ("send_message_to_agent", log_id, "good day") in context.heard)
        self.assertTrue(await self.service("sip_audio_out_chunk", b"x" * 160, context=context))
        status = await self.service("get_incoming_listener_status", context=None)
        self.assertEqual((status["calls_answered"], status["active_calls"]), (1, 1))

    async def test_two_callers_at_once_get_a_conversation_each(self) -> None:
        await self.listen()
        one, two = self.daemon.ring("sip:one@example.invalid"), self.daemon.ring("sip:two@example.invalid")
        await until(lambda: len(self.telephone.sessions()) == 2)
        sessions = {session.call.party: session for session in self.telephone.sessions()}
        self.daemon.say(one, "for one")
        self.daemon.say(two, "for two")
        for party, text in (("one@example.invalid", "for one"), ("two@example.invalid", "for two")):
            context = self.mindroot.contexts[sessions[party].log_id]
            await until(lambda: any(entry[-1] == text for entry in context.heard))  # noqa: B023
            others = {"for one", "for two"} - {text}
            self.assertFalse([entry for entry in context.heard if entry[-1] in others])

    async def test_an_empty_message_leaves_the_first_word_to_the_caller(self) -> None:
        with mock.patch.dict(os.environ, {"MR_SIP_INCOMING_MESSAGE": ""}):
            await self.listen()
            fake = self.daemon.ring()
            await until(lambda: self.telephone.sessions())
            self.daemon.say(fake, "good day")
            (context,) = self.conversations()
            await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        self.assertEqual([entry[2] for entry in context.heard if entry[0] == "send_message_to_agent"], ["good day"])

    async def test_an_agent_that_is_not_there_refuses_the_call_and_is_told(self) -> None:
        await self.listen("nobody")
        fake = self.daemon.ring()
        await until(lambda: fake.state == "ended")
        self.assertEqual(fake.status, 480)
        status = await self.service("get_incoming_listener_status", context=None)
        self.assertEqual((status["calls_refused"], status["calls_answered"]), (1, 0))

    async def test_a_caller_who_gives_up_at_once_leaves_nothing_behind(self) -> None:
        await self.listen()
        self.daemon.unanswered.add("call.answer")
        fake = self.daemon.ring()
        await until(lambda: "call.answer" in self.daemon.methods())
        self.daemon.end(fake, "cancelled")
        await until(lambda: self.telephone.archive.records())  # type: ignore[union-attr]
        self.assertEqual(self.telephone.sessions(), [])

    async def test_who_calls_before_anybody_listens_is_answered_when_somebody_does(self) -> None:
        await self.telephone.client()
        fake = self.daemon.ring()
        await self.listen()
        await until(lambda: fake.state == "answered")

    async def test_a_call_that_is_listed_and_told_of_is_answered_once(self) -> None:
        client = await self.telephone.client()
        fake = self.daemon.ring()
        await until(lambda: client.calls)
        listener = self.mod.listener()
        await self.listen()
        listener._on_event(Event("call.incoming", {"call": fake.name}, client.calls[fake.name]))
        await until(lambda: fake.state == "answered")
        await client.status()
        self.assertEqual(self.daemon.methods().count("call.answer"), 1)
        self.assertEqual(len(self.conversations()), 1)

    async def test_stopped_it_answers_no_more_and_calls_go_on(self) -> None:
        await self.listen()
        first = self.daemon.ring()
        await until(lambda: self.telephone.sessions())
        await self.service("stop_incoming_listener_service", context=None)
        second = self.daemon.ring()
        client = await self.telephone.client()
        await client.status()
        self.assertEqual((first.state, second.state), ("answered", "incoming"))

    async def test_a_daemon_that_is_started_anew_is_listened_to_again(self) -> None:
        with mock.patch("mr_sip.client.RESUME_FOR_S", 0.1), mock.patch("mr_sip.incoming.FIRST_PAUSE_S", 0.01):
            await self.listen()
            await self.daemon.stop()
            listener = self.mod.listener()
            await until(lambda: listener.status()["status"] == "not_connected")
            self.assertTrue(listener.listening)
            self.daemon = FakeDaemon(self.socket)
            await self.daemon.start()
            await until(lambda: listener.status()["status"] == "listening")
            fake = self.daemon.ring()
            await until(lambda: fake.state == "answered")

    async def test_whose_the_conversations_are(self) -> None:
        from_setting = {"MR_SIP_INCOMING_USER": "reception"}
        module = __import__("mr_sip.agent", fromlist=["agent"])
        self.assertEqual(await module.incoming_user(Context("log")), "user of log")
        self.assertEqual(await module.incoming_user(None), "zoe", "the first administrator")
        with mock.patch.dict(os.environ, from_setting):
            self.assertEqual(await module.incoming_user(Context("log")), "reception")

    async def test_without_an_agent_it_says_what_to_do(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop("SIP_INCOMING_AGENT", None)
            answer = await self.service("start_incoming_listener_service", context=None)
        self.assertEqual(answer["status"], "error")
        self.assertIn("SIP_INCOMING_AGENT", answer["error"])

    async def test_the_setting_alone_makes_it_listen_at_start(self) -> None:
        with mock.patch.dict(os.environ, {"SIP_INCOMING_AGENT": "caller"}):
            await self.mindroot.hooks.functions["startup"](None, context=None)
            await until(lambda: self.mod.listener().status()["status"] == "listening")
