"""What can be asked about a call besides dialling and speaking, as it arrives at the daemon."""

from __future__ import annotations

from typing import Any

from mr_sip.calls import Call
from mr_sip.errors import RequestRefused

from .fake_daemon import FakeCall
from .support import DaemonCase, until


class Asking(DaemonCase):
    async def asyncSetUp(self) -> None:
        await super().asyncSetUp()
        self.connected = await self.client()
        self.call, self.fake = await self.answered("alice")

    async def answered(self, to: str) -> tuple[Call, FakeCall]:
        call = await self.connected.dial(to)
        await call.wait_established(20)
        return call, self.daemon.calls[str(call.id)]

    def asked(self, method: str) -> dict[str, Any]:
        """The parameters of the last such request, without the call."""
        params = dict(self.daemon.params(method)[-1])
        self.assertEqual(params.pop("call"), self.call.id)
        return params

    async def test_two_calls_are_bridged_and_unbridged(self) -> None:
        other, _ = await self.answered("bob")
        await self.call.bridge(other, "whisper")
        self.assertEqual(self.asked("call.bridge"), {"other_call": other.id, "mode": "whisper"})
        await self.call.unbridge(other)
        self.assertEqual(self.asked("call.unbridge"), {"other_call": other.id})
        await self.call.unbridge()
        self.assertEqual(self.asked("call.unbridge"), {})

    async def test_the_callers_audio_is_cleaned_and_what_is_not_named_stays(self) -> None:
        self.assertEqual((await self.call.clean(echo=True))["echo"], True)
        self.assertEqual(self.asked("audio.clean"), {"echo": True})
        self.assertEqual(await self.call.clean(noise=True), {"dc": False, "echo": True, "noise": True, "agc": False})

    async def test_the_turn_policy_is_changed_and_what_is_not_named_stays(self) -> None:
        self.assertEqual((await self.call.turn_policy(style="digits", digits=4))["digits"], 4)
        self.assertEqual(self.asked("turn.policy"), {"style": "digits", "digits": 4})
        self.assertEqual((await self.call.turn_policy(barge_in_words=1))["style"], "digits")

    async def test_words_of_a_recogniser_of_ones_own_are_pushed(self) -> None:
        await self.call.push_transcript("four two seven", settled=True)
        self.assertEqual(
            self.asked("transcript.push"), {"text": "four two seven", "settled": True, "end_of_turn": False}
        )

    async def test_effects_are_set_and_ended(self) -> None:
        await self.call.effects("agent", [{"name": "gain", "gain_db": -2}])
        self.assertEqual(
            self.asked("audio.effects"), {"direction": "agent", "chain": [{"name": "gain", "gain_db": -2}]}
        )
        await self.call.effects("agent")
        self.assertEqual(self.asked("audio.effects"), {"direction": "agent", "chain": []})

    async def test_a_recording_begins_pauses_goes_on_and_ends(self) -> None:
        self.assertEqual(await self.call.start_recording("/srv/a.wav"), "/srv/a.wav")
        await self.call.pause_recording()
        await self.call.resume_recording()
        await self.call.stop_recording()
        self.assertEqual(
            [method for method in self.daemon.methods() if method.startswith("record.")],
            ["record.start", "record.pause", "record.resume", "record.stop"],
        )

    async def test_digits_hold_and_trace(self) -> None:
        await self.call.send_digits("12#", via="info")
        self.assertEqual(self.asked("call.dtmf"), {"digits": "12#", "duration_ms": 120, "gap_ms": 60, "via": "info"})
        await self.call.hold()
        await self.call.unhold()
        await self.call.trace("json")
        self.assertEqual(self.daemon.methods()[-3:], ["call.hold", "call.resume", "call.trace"])

    async def test_a_call_is_transferred_to_a_number_or_to_another_call(self) -> None:
        other, _ = await self.answered("bob")
        await self.call.transfer("+15550100199")
        self.assertEqual(self.asked("call.transfer"), {"to": "+15550100199"})
        self.assertTrue(await self.call.wait_ended(20))
        self.assertEqual(self.call.cause, "transferred")
        self.call, _ = await self.answered("carol")
        await self.call.transfer(other)
        self.assertEqual(self.asked("call.transfer"), {"other_call": other.id})

    async def test_all_calls_are_listed_however_many_pages_there_are(self) -> None:
        self.daemon.longest_list = 2
        for name in ("bob", "carol", "dave", "eve"):
            await self.answered(name)
        listed = await self.connected.list_calls()
        self.assertEqual([call["call"] for call in listed], list(self.daemon.calls))
        self.assertEqual(
            [params.get("after") for params in self.daemon.params("call.list")[:2]], [None, listed[1]["call"]]
        )
        self.assertEqual(len(await self.connected.list_calls(after=listed[3]["call"])), 1)

    async def test_the_daemon_tells_of_itself_and_of_banned_addresses(self) -> None:
        self.assertEqual((await self.connected.status())["version"], "fake")
        (ban,) = await self.connected.bans()
        await self.connected.unban(ban["address"])
        self.assertEqual(self.daemon.params("sip.unban"), [{"address": "198.51.100.7"}])

    async def test_what_an_older_daemon_does_not_know_is_refused_and_harms_nothing(self) -> None:
        with self.assertRaises(RequestRefused) as caught:
            await self.connected.request("future.method", {"call": self.call.id})
        self.assertEqual(caught.exception.code, -32601)
        self.assertTrue(self.call.answered)

    async def test_dial_hands_on_what_the_called_are_shown(self) -> None:
        await self.connected.dial(
            "bob",
            record=False,
            display_name="The Agent",
            headers={"X-Ticket": "1"},
            privacy=True,
            detect={"digits": True},
        )
        self.assertEqual(
            self.daemon.params("call.dial")[-1],
            {
                "to": "bob",
                "record": False,
                "display_name": "The Agent",
                "headers": {"X-Ticket": "1"},
                "privacy": True,
                "detect": {"digits": True},
            },
        )


class Incoming(DaemonCase):
    async def test_a_call_that_comes_in_is_answered_or_refused(self) -> None:
        client = await self.client()
        made: list[Call] = []
        client.listen(lambda event: made.append(event.call) if event.name == "call.incoming" and event.call else None)
        first, second = self.daemon.ring("sip:bob@example.invalid", "Bob"), self.daemon.ring()
        await until(lambda: len(made) == 2)
        self.assertEqual((made[0].state, made[0].direction, made[0].remote_from), ("incoming", "in", first.sender))
        await made[0].answer()
        await made[1].reject(603)
        await until(lambda: made[0].answered and made[1].ended)
        self.assertEqual((second.cause, second.status), ("rejected", 603))

    async def test_a_call_that_rings_while_the_connection_is_lost_rings_on(self) -> None:
        client = await self.client()
        fake = self.daemon.ring()
        await until(lambda: client.calls)
        self.daemon.drop_connections()
        await until(lambda: client.connection_number == 2 and client.connected)
        call = client.calls[fake.name]
        self.assertEqual(call.state, "incoming")
        await call.answer()
        self.assertTrue(await call.wait_established(20))
