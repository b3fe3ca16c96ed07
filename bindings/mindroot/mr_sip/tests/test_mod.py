"""The plugin against a stub of MindRoot: names, signatures, and that conversations do not cross.

For a real MindRoot see try_in_mindroot.sh.
"""

from __future__ import annotations

import asyncio
import pathlib

from .stub_mindroot import Context
from .support import PluginCase, until

INFO = pathlib.Path(__file__).resolve().parent.parent / "plugin_info.json"


class Plugin(PluginCase):
    async def test_a_whole_call_through_commands_and_services(self) -> None:
        context = Context("log")
        self.assertIsNone(await self.mindroot.handle_cmds("call", {"destination": "sip:user@domain.com"}, context))
        self.assertIs(self.mindroot.contexts["log"], context)
        (fake,) = self.daemon.calls.values()
        self.assertEqual(fake.to, "sip:user@domain.com")
        self.assertFalse(await self.service("sip_is_audio_halted", context=context))
        self.assertTrue(await self.service("sip_start_audio_response", context=context))
        self.assertTrue(await self.service("sip_audio_out_chunk", b"s" * 8000, timestamp=1.0, context=context))
        self.assertTrue(await self.service("sip_end_audio_response", context=context))
        await until(lambda: fake.responses and fake.responses[0].ended)
        self.daemon.play(fake, 600)
        self.assertAlmostEqual(await self.service("sip_response_spoken_seconds", context=context), 0.6)
        self.daemon.say(fake, "stop")
        await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        self.assertEqual(
            context.heard,
            [
                ("on_interrupt",),
                ("user_utterance_complete", "stop"),
                ("cancel_and_wait", "log", "user of log"),
                ("truncate_last_assistant_speech", 0.6),
                ("backend_user_message", "stop"),
                ("send_message_to_agent", "log", "stop"),
            ],
        )
        self.assertEqual(await self.service("sip_halt_audio", context=context), {"status": "halted"})
        self.assertTrue(await self.service("sip_is_audio_halted", context=context))
        self.assertFalse(await self.service("sip_audio_out_chunk", b"s", context=context))
        self.assertTrue(await self.service("sip_resume_audio", context=context))
        self.assertEqual((await self.service("sip_clear_audio_queue", context=context))["status"], "cleared")
        text = await self.mindroot.handle_cmds("hangup", {}, context)
        self.assertIn("call ended after", text)
        self.assertIn("caller: stop", text)
        self.assertIn("no call", await self.mindroot.handle_cmds("hangup", {}, context))

    async def test_the_hangup_command_lets_the_goodbye_be_heard(self) -> None:
        context = Context("log")
        await self.mindroot.handle_cmds("call", {"destination": "alice"}, context)
        (fake,) = self.daemon.calls.values()
        await self.service("sip_audio_out_chunk", b"s" * 8 * 500, context=context)
        await self.service("sip_end_audio_response", context=context)
        await until(lambda: fake.responses and fake.responses[0].ended)
        hanging_up = asyncio.ensure_future(self.mindroot.handle_cmds("hangup", {}, context))
        self.daemon.play(fake, 300)
        await until(lambda: self.mod.phone().session("log").call.turn_ms == 300)
        self.assertNotIn("call.hangup", self.daemon.methods())
        self.daemon.play(fake, 300)
        self.assertIn("call ended after", await hanging_up)
        self.assertEqual(len(fake.heard), 8 * 500)

    async def test_a_failed_call_tells_the_agent_why(self) -> None:
        context = Context("log")
        self.assertIn(
            "busy", await self.mindroot.handle_cmds("call", {"destination": "sip:busy@example.invalid"}, context)
        )
        self.assertIn("emergency", await self.mindroot.handle_cmds("call", {"destination": "911"}, context))

    async def test_without_a_call_every_service_answers_and_nothing_is_connected(self) -> None:
        context = Context("log")
        self.assertFalse(await self.service("sip_audio_out_chunk", b"x", context=context))
        self.assertFalse(await self.service("sip_start_audio_response", context=context))
        self.assertFalse(await self.service("sip_end_audio_response", context=context))
        self.assertFalse(await self.service("sip_is_audio_halted", context=context))
        self.assertFalse(await self.service("sip_resume_audio", context=context))
        self.assertEqual((await self.service("sip_halt_audio", context=context))["status"], "no_active_call")
        self.assertEqual((await self.service("sip_clear_audio_queue", context=context))["status"], "no_active_call")
        self.assertEqual(await self.service("sip_response_spoken_seconds", context=context), 0.0)
        self.assertEqual((await self.service("end_call_service", context=context))["status"], "no_active_call")
        self.assertEqual((await self.service("dial_service", "alice", context=None))["status"], "error")
        self.assertEqual(self.daemon.methods(), [])

    async def test_two_agents_calling_at_the_same_moment_do_not_get_each_others_call(self) -> None:
        one, two = Context("log-1"), Context("log-2")
        await asyncio.gather(
            self.mindroot.handle_cmds("call", {"destination": "alice"}, one),
            self.mindroot.handle_cmds("call", {"destination": "bob"}, two),
        )
        dialled = {params["metadata"]["log_id"]: params["to"] for params in self.daemon.params("call.dial")}
        self.assertEqual(dialled, {"log-1": "alice", "log-2": "bob"})
