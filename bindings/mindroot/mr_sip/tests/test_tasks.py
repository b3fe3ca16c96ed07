"""Calls that one agent makes for another: the result, and every way not to get one."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

from mr_sip.session import DISCONNECTED

from .stub_mindroot import Context
from .support import PluginCase, until


class Delegating(PluginCase):
    def delegate(self, number: str = "alice", agent: str = "caller", **limits: Any) -> asyncio.Future[Any]:
        args = {"agent": agent, "phone_number": number, "instructions": "Ask for the time.", **limits}
        return asyncio.ensure_future(self.command("delegate_call_task", Context("parent"), **args))

    async def child(self) -> Context:
        """The conversation that calls, once it is on its call and was told its task."""
        await until(lambda: self.telephone.sessions())
        context: Context = self.mindroot.contexts[self.telephone.sessions()[0].log_id]
        await until(lambda: any(entry[0] == "send_message_to_agent" for entry in context.heard))
        return context

    async def test_the_agent_is_told_its_task_and_its_result_comes_back(self) -> None:
        asking = self.delegate()
        child = await self.child()
        told = next(entry[2] for entry in child.heard if entry[0] == "send_message_to_agent")
        self.assertIn("on the telephone with alice", told)
        self.assertIn("Ask for the time.", told)
        child.data["task_result"] = "half past three"
        result = await asking
        self.assertIn("half past three", result)
        self.assertIn(child.log_id, result)
        self.assertEqual([call.state for call in self.daemon.calls.values()], ["ended"], "the task is done")
        self.assertEqual(child.username, "user of parent")

    async def test_a_call_that_is_not_established_is_said_at_once(self) -> None:
        self.assertIn("busy", await self.delegate("sip:busy@example.invalid"))
        self.assertIn("emergency", await self.delegate("911"))
        self.assertIn("no agent 'nobody'", await self.delegate(agent="nobody"))
        self.assertIn("no instructions", await self.delegate(instructions=" "))

    async def test_without_a_result_there_is_what_was_said(self) -> None:
        asking = self.delegate(finish_timeout_seconds=0.05)
        child = await self.child()
        (fake,) = self.daemon.calls.values()
        self.daemon.final(fake, "wrong number")
        self.daemon.end(fake, "remote_hangup")
        result = await asking
        self.assertIn("caller: wrong number", result)
        self.assertIn("remote_hangup", result)
        self.assertIn(("send_message_to_agent", child.log_id, DISCONNECTED), child.heard)

    async def test_a_result_after_the_call_is_waited_for(self) -> None:
        asking = self.delegate(finish_timeout_seconds=30)
        child = await self.child()
        (fake,) = self.daemon.calls.values()
        self.daemon.end(fake, "remote_hangup")
        await until(lambda: not self.telephone.sessions())
        child.data["task_result"] = "they hung up"
        self.assertIn("they hung up", await asking)

    async def test_silence_and_length_end_the_call(self) -> None:
        for limits, words in (
            ({"idle_timeout_seconds": 0.05, "finish_timeout_seconds": 0.05}, "nobody said anything"),
            ({"max_call_length_seconds": 0.05, "finish_timeout_seconds": 0.05}, "the longest it may last"),
        ):
            result = await self.delegate(**limits)
            self.assertIn(words, result)
            self.assertFalse(self.telephone.sessions())

    async def test_cancelled_it_hangs_up(self) -> None:
        asking = self.delegate()
        await self.child()
        asking.cancel()
        await asyncio.wait({asking})
        await until(lambda: not self.telephone.sessions())

    async def test_the_result_of_another_conversation_can_be_awaited(self) -> None:
        other, _ = await self.on_a_call("other")
        asking = asyncio.ensure_future(
            self.command("await_call_result", Context("parent"), log_id="other", agent="caller")
        )
        await asyncio.sleep(0)
        other.data["task_result"] = {"answer": 42}
        self.assertIn("42", await asking)

    async def test_case_an_unknown_log_id_is_said_and_not_waited_for(self) -> None:
        with mock.patch("mr_sip.tasks.POLL_S", 100):
            for log_id in ("nobody", "", "../../etc/passwd"):
                text = await self.command("await_call_result", Context("parent"), log_id=log_id, agent="x")
                self.assertIn("no conversation", text)

    async def test_limits_that_are_no_numbers_are_the_usual_ones(self) -> None:
        limits = __import__("mr_sip.tasks", fromlist=["tasks"]).Limits
        self.assertEqual(limits.read("soon", None, -1), (120.0, 20.0, 6 * 3600.0))
        self.assertEqual(limits.read("5", 1e99, float("nan"))[0], 5.0)
