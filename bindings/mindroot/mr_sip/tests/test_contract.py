"""What MindRoot's core and its voice plugins call by name: names, signatures, answers, orders.

The lists here are written out, and not taken from the plugin: a name that goes missing there must fail here.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import pathlib
from typing import Any
from unittest import mock

from mr_sip.session import DISCONNECTED

from .stub_mindroot import Context
from .support import PluginCase, until

INFO = pathlib.Path(__file__).resolve().parent.parent / "plugin_info.json"
REQUIRED = inspect.Parameter.empty

# name -> its parameters before `context`, with their defaults
SERVICES: dict[str, dict[str, Any]] = {
    "dial_service": {"destination": REQUIRED},
    "dial_service_v2": {"destination": REQUIRED},
    "end_call_service": {},
    "end_call_service_v2": {},
    "sip_audio_out_chunk": {"audio_chunk": REQUIRED, "timestamp": None},
    "sip_start_audio_response": {},
    "sip_end_audio_response": {},
    "sip_is_audio_halted": {},
    "sip_halt_audio": {},
    "sip_resume_audio": {},
    "sip_clear_audio_queue": {},
    "sip_response_spoken_seconds": {},
    "start_incoming_listener_service": {"agent_name": None},
    "stop_incoming_listener_service": {},
    "get_incoming_listener_status": {},
}
COMMANDS: dict[str, dict[str, Any]] = {
    "call": {"destination": REQUIRED},
    "hangup": {},
    "send_dtmf": {"digits": ""},
    "wait": {"seconds": 1.0},
    "await_call_result": {
        "log_id": "",
        "agent": "",
        "idle_timeout_seconds": 120,
        "finish_timeout_seconds": 20,
    },
    "delegate_call_task": {
        "agent": "",
        "phone_number": "",
        "instructions": "",
        "idle_timeout_seconds": 120,
        "finish_timeout_seconds": 20,
        "max_call_length_seconds": 300,
    },
    "start_incoming_calls": {"agent": None},
    "stop_incoming_calls": {},
    "incoming_call_status": {},
    "play_audio": {"file_path": "", "channel": "mix", "wait": True, "bargeable": True},
    "transfer": {"destination": ""},
    "hold": {},
    "resume": {},
}


class Names(PluginCase):
    def test_every_name_is_there_with_its_signature(self) -> None:
        for manager, wanted in ((self.mindroot.services, SERVICES), (self.mindroot.commands, COMMANDS)):
            for name, parameters in wanted.items():
                function = manager.functions[name]
                self.assertTrue(inspect.iscoroutinefunction(function), name)
                found = dict(inspect.signature(function).parameters)
                self.assertEqual(found.pop("kw").kind, inspect.Parameter.VAR_KEYWORD, name)
                self.assertIsNone(found.pop("context").default, name)
                self.assertEqual({key: one.default for key, one in found.items()}, parameters, name)
                self.assertTrue(inspect.getdoc(function), f"{name}: models read the docstring")

    def test_what_plugin_info_promises_is_exactly_that(self) -> None:
        info = json.loads(INFO.read_text())
        self.assertEqual(sorted(info["services"]), sorted(SERVICES))
        self.assertEqual(sorted(info["commands"]), sorted(COMMANDS))
        self.assertEqual(sorted(self.mindroot.commands.functions), sorted(COMMANDS))

    def test_what_mindroot_looks_for_in_the_package_is_there(self) -> None:
        self.assertTrue(inspect.iscoroutinefunction(self.mod.on_load))
        self.assertIn("startup", self.mindroot.hooks.functions)
        self.assertLessEqual({*SERVICES, *COMMANDS, "startup", "on_load"}, set(self.mod.__all__))

    def test_every_command_has_an_example_that_is_json(self) -> None:
        for name, function in self.mindroot.commands.functions.items():
            if name in COMMANDS:
                _, _, example = (inspect.getdoc(function) or "").partition("Example:\n")
                written = example.split("\n\n")[0]
                self.assertEqual(list(json.loads(written)), [name])

    def test_the_page_has_its_paths(self) -> None:
        try:
            import fastapi  # noqa: F401
        except ImportError:
            self.skipTest("no FastAPI here; the end-to-end test has it")
        router = importlib.import_module("mr_sip.router").router
        paths = {route.path for route in router.routes}
        self.assertLessEqual({"/calls", "/calls/list", "/calls/audio/{name}", "/calls/transcript/{name}"}, paths)


class Answers(PluginCase):
    async def test_dialling_answers_with_the_fields_that_are_waited_for(self) -> None:
        for name in ("dial_service", "dial_service_v2"):
            established = await self.service(name, "alice", context=Context(name))
            self.assertLessEqual(
                {"status": "call_established", "log_id": name, "destination": "alice", "error": None}.items(),
                established.items(),
            )
        failed = await self.service("dial_service", "sip:busy@example.invalid", context=Context("log-2"))
        self.assertEqual((failed["status"], failed["cause"]), ("call_failed", "busy"))
        self.assertTrue(failed["error"])
        for number in ("911", "112", "999", "000", "119", "110", "118"):
            self.assertEqual((await self.service("dial_service", number, context=Context("x")))["status"], "blocked")
        self.assertEqual((await self.service("dial_service", "", context=Context("x")))["status"], "error")

    async def test_hanging_up_answers_with_duration_and_transcript(self) -> None:
        for name in ("end_call_service", "end_call_service_v2"):
            context, fake = await self.on_a_call(name)
            self.daemon.final(fake, "goodbye")
            report = await self.service(name, context=context)
            self.assertEqual((report["status"], report["transcript"]), ("call_ended", "caller: goodbye"))
            self.assertIsInstance(report["call_duration_seconds"], float)
            self.assertEqual((await self.service(name, context=context))["status"], "no_active_call")

    async def test_a_cancelled_dial_cancels_the_invite(self) -> None:
        dialing = asyncio.ensure_future(self.service("dial_service", "ringing", context=Context("log")))
        await until(lambda: self.daemon.calls)
        dialing.cancel()
        await asyncio.wait({dialing})
        await until(lambda: "call.hangup" in self.daemon.methods())

    async def test_the_voices_services_answer_with_their_types(self) -> None:
        context, fake = await self.on_a_call("log")
        self.assertIs(await self.service("sip_is_audio_halted", context=context), False)
        self.assertIs(await self.service("sip_start_audio_response", context=context), True)
        self.assertIs(
            await self.service("sip_audio_out_chunk", audio_chunk=b"x" * 160, timestamp=0.0, context=context), True
        )
        self.assertIs(await self.service("sip_end_audio_response", context=context), True)
        await until(lambda: fake.responses and fake.responses[0].ended)
        self.daemon.play(fake, 20)
        self.assertEqual(await self.service("sip_response_spoken_seconds", context=context), 0.02)
        self.assertEqual(await self.service("sip_halt_audio", context=context), {"status": "halted"})
        self.assertIs(await self.service("sip_is_audio_halted", context=context), True)
        self.assertIs(await self.service("sip_audio_out_chunk", b"x", context=context), False)
        self.assertIs(await self.service("sip_end_audio_response", context=context), True, "after an interrupt too")
        self.assertIs(await self.service("sip_resume_audio", context=context), True)
        cleared = await self.service("sip_clear_audio_queue", context=context)
        self.assertEqual(
            (cleared["status"], await self.service("sip_is_audio_halted", context=context)), ("cleared", False)
        )

    async def test_the_listener_answers_how_it_stands(self) -> None:
        self.assertEqual((await self.service("get_incoming_listener_status", context=None))["status"], "stopped")
        started = await self.service("start_incoming_listener_service", "caller", context=Context("log"))
        self.assertEqual((started["status"], started["agent"]), ("listening", "caller"))
        self.assertEqual((await self.service("stop_incoming_listener_service", context=None))["status"], "stopped")

    async def test_commands_end_the_turn_or_tell_the_agent(self) -> None:
        context = Context("log")
        for name, args in (
            ("hangup", {}),
            ("send_dtmf", {"digits": "1"}),
            ("hold", {}),
            ("resume", {}),
            ("transfer", {}),
        ):
            self.assertIn("no call", await self.command(name, context, **args), name)
        self.assertIsNone(await self.command("call", context, destination="alice", invented="argument"))
        (fake,) = self.daemon.calls.values()
        self.assertIsNone(await self.command("send_dtmf", context, digits="1-2 #"))
        self.assertEqual([params["digits"] for params in self.daemon.params("call.dtmf")], ["12#"])
        self.assertIsNone(await self.command("hold", context))
        self.assertIsNone(await self.command("resume", context))
        self.assertIn("waited", await self.command("wait", context, seconds=0))
        playing = asyncio.ensure_future(self.command("play_audio", context, file_path="/srv/a.wav", channel="instead"))
        await until(lambda: fake.plays)
        self.daemon.event(fake, "play.finished", play=next(iter(fake.plays)), played_ms=10, reason="end")
        self.assertIsNone(await playing)
        self.assertEqual(next(iter(fake.plays.values()))["mode"], "instead")
        self.assertIn("You are still in the call", await self.command("transfer", context, destination="nobody"))
        self.assertIn(
            "transferred to +15550100199", await self.command("transfer", context, destination="+1 555 010 0199")
        )
        await until(lambda: self.telephone.session("log") is None)
        self.assertIn("no call", await self.command("hangup", context))

    async def test_settings_are_those_of_the_calling_agent_and_read_when_needed(self) -> None:
        with mock.patch.dict(os.environ, {"SIP_CALL_ESTABLISH_TIMEOUT": "7"}):
            await self.service("dial_service", "alice", context=Context("log"))
        self.assertEqual(self.daemon.params("call.dial")[0]["timeout_ms"], 7000)

    async def test_without_a_setting_a_call_may_ring_for_two_minutes(self) -> None:
        with mock.patch.dict(os.environ):
            os.environ.pop("SIP_CALL_ESTABLISH_TIMEOUT", None)
            await self.service("dial_service", "alice", context=Context("log"))
        self.assertEqual(self.daemon.params("call.dial")[0]["timeout_ms"], 120_000)


class Orders(PluginCase):
    async def test_the_hooks_and_services_of_an_utterance_come_in_their_order(self) -> None:
        context, fake = await self.on_a_call("log")
        self.daemon.say(fake, "yes please")
        await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        names = [entry[0] for entry in context.heard]
        self.assertEqual(names.count("user_utterance_complete"), 1)
        names.remove("user_utterance_complete")
        self.assertEqual(
            names,
            [
                "on_interrupt",
                "cancel_and_wait",
                "truncate_last_assistant_speech",
                "backend_user_message",
                "send_message_to_agent",
            ],
        )
        self.assertIn(("user_utterance_complete", "yes please"), context.heard)

    async def test_the_far_end_hanging_up_is_told_by_the_marker_to_the_letter(self) -> None:
        context, fake = await self.on_a_call("log")
        self.daemon.end(fake, "remote_hangup")
        await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        self.assertEqual(DISCONNECTED, "\n\nSYSTEM: -- CALL DISCONNECTED --\n\n")
        self.assertEqual(context.heard[-1], ("send_message_to_agent", "log", DISCONNECTED))

    async def test_the_callers_audio_goes_through_the_pipe_where_that_is_asked_for(self) -> None:
        with mock.patch.dict(os.environ, {"MR_SIP_AUDIO_IN_PIPELINE": "1"}):
            context, fake = await self.on_a_call("log")
            await until(lambda: fake.subscribed)
            self.daemon.hear(fake, b"abc")
            await until(lambda: ("sip_audio_in", b"abc") in context.heard)

    async def test_a_speech_to_speech_agent_gets_audio_and_no_words(self) -> None:
        with mock.patch.dict(os.environ, {"MR_SIP_AUDIO_IN_PIPELINE": "1"}):
            context = Context("log")
            context.agent = self.mindroot.agents["live"]
            await self.service("dial_service", "alice", context=context)
            (fake,) = self.daemon.calls.values()
            await until(lambda: fake.subscribed)
            self.daemon.hear(fake, b"abc")
            self.daemon.say(fake, "hello")
            await until(lambda: ("send_s2s_audio_chunk", b"ABC") in context.heard)
            self.assertIs(await self.service("sip_audio_out_chunk", b"x" * 160, context=context), True)
            await until(lambda: fake.queued)
            self.assertFalse(fake.halted, "such a model minds interruptions itself")
            await self.service("end_call_service", context=context)
            await until(lambda: ("close_s2s_session",) in context.heard)
        self.assertFalse([entry for entry in context.heard if entry[0] in ("on_interrupt", "send_message_to_agent")])
