"""The scenarios, run one after the other against a real MindRoot. Used by `run`.

Each is a function `scenario_NAME(world)`, run in the order in which they stand here; its assertions say what must hold.
One that fails is told, and the next one runs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import Any

import page
from espeak_voice.speech import RATE, ulaw_speech
from far_end import FarCall, FarEnd, alike, until
from mindroot import MindRoot
from mr_sip.session import DISCONNECTED

# The rules of plugins/test_llm, which only MindRoot can import. The small model hears digits best.
GREETING = "four three two one"
QUESTION, GOODBYE = "one eight five", "six zero three"
LONG_FOR = "nine nine nine"
LONG = ("one two three four five six seven eight nine zero " * 5).strip()
MARKER = DISCONNECTED.strip()
HERE = pathlib.Path(__file__).resolve().parent


class Skipped(Exception):
    """A scenario cannot run here."""


class World:
    """What the scenarios share."""

    def __init__(self, mindroot: MindRoot, far: FarEnd, pictures: pathlib.Path | None) -> None:
        self.mindroot = mindroot
        self.far = far
        self.pictures = pictures

    async def outbound(self, user: str = "bob", agent: str = "caller") -> tuple[str, FarCall]:
        """The agent is told to call, and somebody answers: (the conversation, the call at the far end)."""
        log_id = await self.mindroot.conversation(agent)
        await self.mindroot.chat(log_id, f"Please call {self.far.uri(user)}")
        return log_id, await self.far.answer()

    async def inbound(self, display_name: str | None = None) -> tuple[str, FarCall]:
        """Somebody calls, and the agent answers and greets."""
        before = set(self.mindroot.logs("receptionist"))
        far = await self.far.dial(f"sip:agent@127.0.0.1:{self.mindroot.sip_port}", display_name)
        new = await until("a conversation", lambda: set(self.mindroot.logs("receptionist")) - before)
        await far.hears(GREETING)
        return new.pop(), far

    async def understood(self, log_id: str, words: str) -> None:
        await until(
            lambda: f"the agent hearing {words!r} (heard: {self.mindroot.messages(log_id, 'user')})",
            lambda: any(alike(words, text) for text in self.mindroot.messages(log_id, "user")),
        )

    async def told_of_the_end(self, log_id: str) -> None:
        await until("the marker", lambda: any(MARKER in text for text in self.mindroot.messages(log_id, "user")))


async def scenario_names(world: World) -> None:
    """Every name that plugin_info.json promises is registered in the real MindRoot."""
    info = json.loads((HERE.parent / "mr_sip" / "plugin_info.json").read_text())
    log_id = await world.mindroot.conversation()
    found = await world.mindroot.command(log_id, "registered", what="mr_sip")
    for kind in ("commands", "services"):
        missing = set(info[kind]) - set(found[kind])
        assert not missing, f"{kind} not registered: {missing}"
    assert "startup" in found["hooks"], found["hooks"]
    for path in ("/calls", "/calls/list"):
        status, _ = await world.mindroot.raw(path)
        assert status == 200, (path, status)


async def scenario_refusals(world: World) -> None:
    """Emergency numbers, nonsense, nobody there: the agent is told why, and nothing is dialled."""
    log_id = await world.mindroot.conversation()

    async def call(destination: str) -> str:
        return str(await world.mindroot.command(log_id, "call", destination=destination))

    assert "emergency" in await call("911")
    assert "emergency" in await call("sip:112@example.invalid;transport=udp")
    assert "neither a telephone number nor a SIP URI" in await call("call <my> mother!")
    for status, words in ((486, "busy"), (404, "no such number"), (603, "declined")):
        calling = asyncio.create_task(call(f"{world.far.uri('bob')};transport=udp"))
        await world.far.reject(status)
        assert words in await calling, status
    assert "no call" in str(await world.mindroot.command(log_id, "hangup"))
    assert "no call" in str(await world.mindroot.command(log_id, "send_dtmf", digits="1"))


async def scenario_inbound(world: World) -> None:
    """A caller asks, the agent answers and is heard; it hangs up."""
    log_id, far = await world.inbound("Bob <b>&amp;</b>")
    await far.say("one two three")
    await world.understood(log_id, "one two three")
    await far.hears("one two three")
    greeting, answer = world.mindroot.spoken(log_id)
    assert greeting == GREETING and alike("one two three", answer), (greeting, answer)
    text = str(await world.mindroot.command(log_id, "hangup"))
    assert "call ended after" in text and f"caller: {answer}\nagent: {answer}" in text, text
    assert await far.call.wait_ended(20) and far.call.cause == "remote_hangup", far.call.cause
    assert not any(MARKER in message for message in world.mindroot.messages(log_id, "user"))


async def scenario_outbound(world: World) -> None:
    """The agent dials out through `call`, hears, answers and is heard; the far end hangs up and the agent is told."""
    log_id, far = await world.outbound()
    await far.say("four five six")
    await world.understood(log_id, "four five six")
    await far.hears("four five six")
    await far.call.hangup()
    await world.told_of_the_end(log_id)
    assert "no call" in str(await world.mindroot.command(log_id, "hangup"))


async def scenario_barge_in(world: World) -> None:
    """Interrupted in a long answer, the agent is silent at once, remembers what was heard and no more, and answers."""
    log_id, far = await world.outbound()
    begun = time.monotonic()
    await far.say(LONG_FOR)
    await world.understood(log_id, LONG_FOR)
    await until("the long answer", far.speaking)
    await asyncio.sleep(6)
    speaking = time.monotonic()
    asking = asyncio.create_task(far.say("seven eight"))
    await until("silence", lambda: not far.speaking(), 10)
    silent_after = far.last_heard() - speaking
    heard_s = far.spoken_s(begun)
    await asking
    await world.understood(log_id, "seven eight")
    await until("the answer", lambda: alike("seven eight", " ".join(world.mindroot.spoken(log_id)[1:])))
    kept = world.mindroot.spoken(log_id)[0]
    assert kept.endswith("...[interrupted]"), kept
    words = kept[: -len("...[interrupted]")].strip()
    assert LONG.startswith(words), f"not a beginning of what it wanted to say: {words!r}"
    # MindRoot goes by characters a second; a word is some five.
    expected = heard_s * characters_a_second(LONG)
    assert abs(len(words) - expected) <= 8, (
        f"kept {len(words)} characters, heard {heard_s:.1f} s, {expected:.0f} characters"
    )
    assert silent_after < 1.5, f"silent only {silent_after:.2f} s after the caller began"
    await far.hears("seven eight")
    print(
        f"    silent {silent_after * 1000:.0f} ms after the caller began; heard {heard_s:.2f} s, kept {words[-30:]!r}"
    )
    await far.call.hangup()
    await world.told_of_the_end(log_id)


async def scenario_sign_of_listening(world: World) -> None:
    """Where the policy asks for words, an "okay" neither stops the agent nor is answered; a sentence does both."""
    log_id, far = await world.outbound()
    policy = await world.mindroot.command(log_id, "turn_policy", barge_in_words=1)
    assert "barge_in_words" in str(policy), policy
    await far.say(LONG_FOR)
    await world.understood(log_id, LONG_FOR)
    await until("the long answer", far.speaking)
    told = len(world.mindroot.messages(log_id, "user"))
    said = time.monotonic()
    await far.say("okay")
    await until("five more seconds of it", lambda: far.spoken_s(said) > 5, 12)
    assert len(world.mindroot.messages(log_id, "user")) == told, world.mindroot.messages(log_id, "user")
    _, page = await world.mindroot.raw(f"/calls/transcript/{log_id}")
    heard = [line["text"] for line in json.loads(page)["transcript"] if line["who"] == "caller"]
    assert alike("okay", heard[-1]), f"it was not heard: {heard}"
    await far.say("seven eight")
    await world.understood(log_id, "seven eight")
    await far.hears("seven eight")
    kept = world.mindroot.spoken(log_id)[0]
    assert kept.endswith("...[interrupted]"), kept
    await far.call.hangup()
    await world.told_of_the_end(log_id)


async def scenario_not_interrupted(world: World) -> None:
    """Where the policy says that the agent is not interrupted, it says all it has to say, and answers then."""
    log_id, far = await world.outbound()
    policy = await world.mindroot.command(log_id, "turn_policy", barge_in=False)
    assert "barge_in" in str(policy), policy
    await far.say("one two three four five six")
    await until("the answer", far.speaking)
    await far.say("seven eight")
    await far.hears("one two three four five six")
    await world.understood(log_id, "seven eight")
    await far.hears("seven eight")
    spoken = world.mindroot.spoken(log_id)
    assert not any("[interrupted]" in text for text in spoken), spoken
    assert alike("one two three four five six", spoken[0]) and alike("seven eight", spoken[1]), spoken
    await far.call.hangup()
    await world.told_of_the_end(log_id)


async def scenario_keys(world: World) -> None:
    """`send_dtmf` arrives as telephone events, RFC 4733, in order."""
    log_id, far = await world.outbound()
    assert await world.mindroot.command(log_id, "send_dtmf", digits="1, 20*#") is None
    await until("six keys", lambda: len(far.digits) >= 5)
    assert far.digits == [(digit, "rfc4733") for digit in "120*#"], far.digits
    assert "not keys" in str(await world.mindroot.command(log_id, "send_dtmf", digits="12x"))
    await world.mindroot.command(log_id, "hangup")


async def scenario_delegate(world: World) -> None:
    """`delegate_call_task` has another agent call, and returns what that agent reports."""
    log_id = await world.mindroot.conversation()
    asking = asyncio.create_task(
        world.mindroot.command(
            log_id,
            "delegate_call_task",
            agent="caller",
            phone_number=world.far.uri("carol"),
            instructions="Ask for the day.",
        )
    )
    far = await world.far.answer()
    await far.hears(QUESTION)
    await until("the end of the question", lambda: not far.speaking())
    await far.say("friday")
    result = str(await asyncio.wait_for(asking, 60))
    assert "they said: friday" in result, result
    assert await far.call.wait_ended(20)
    await far.hears(GOODBYE)
    none = await world.mindroot.command(log_id, "await_call_result", log_id="nobody", agent="caller")
    assert "no conversation" in none, none


async def scenario_two_calls(world: World) -> None:
    """Two calls at once, of two agents in one MindRoot, never cross over."""
    one, two = await world.outbound("bob"), await world.outbound("carol")
    words = ("one two three four", "nine eight seven six")
    await asyncio.gather(*(call.say(text) for (_, call), text in zip((one, two), words)))
    await asyncio.gather(*(world.understood(log_id, text) for (log_id, _), text in zip((one, two), words)))
    await asyncio.gather(*(call.hears(text) for (_, call), text in zip((one, two), words)))
    for (log_id, call), own, others in zip((one, two), words, reversed(words)):
        everything = " ".join(
            [*world.mindroot.messages(log_id, "user"), *world.mindroot.spoken(log_id), *call.sentences]
        )
        assert alike(own, everything) and not alike(others, everything), everything
    await one[1].call.hangup()
    await world.told_of_the_end(one[0])
    assert two[1].call.answered
    await two[1].say("three four five")
    await world.understood(two[0], "three four five")
    await world.mindroot.command(two[0], "hangup")


async def scenario_record(world: World) -> None:
    """A call's record, recording and picture are there, and only under names that are names."""
    log_id, far = await world.inbound("Bob <i>x</i>")
    await far.say("eight nine zero")
    await far.hears("eight nine zero")
    live = (await world.mindroot.get("/calls/list"))["calls"]
    assert any(call["log_id"] == log_id and call["state"] == "answered" for call in live), live
    await far.call.hangup()

    async def kept() -> bool:
        calls = (await world.mindroot.get("/calls/list"))["calls"]
        (own,) = [call for call in calls if call["id"] == log_id]
        return own["state"] == "ended" and own.get("has_audio") is True

    await until("the record", kept)
    record = await world.mindroot.get(f"/calls/transcript/{log_id}")
    assert record["direction"] == "in" and record["agent"] == "receptionist" and record["user"] == "tester", record
    assert record["display_name"] == "Bob <i>x</i>", record["display_name"]
    said = [(line["who"], line.get("text", "")) for line in record["transcript"]]
    assert said[0] == ("agent", GREETING), said
    assert any(who == "caller" and alike("eight nine zero", text) for who, text in said), said
    picture = record["picture"]
    loudest = [max(picture[lane], default=0.0) for lane in ("caller", "agent")]
    assert picture["length_ms"] > 2000 and min(loudest) > 0.05, (picture["length_ms"], loudest)
    for _ in range(20):
        # A file response was seen to be cut short, once.
        status, audio = await world.mindroot.raw(f"/calls/audio/{log_id}")
    assert status == 200 and audio[:4] == b"RIFF", (status, audio[:20])
    for name in ("..%2f..%2fetc%2fpasswd", "nobody", "a%00b", "%2e%2e"):
        status, _ = await world.mindroot.raw(f"/calls/audio/{name}")
        assert status == 404, (name, status)


async def scenario_page(world: World) -> None:
    """The page of calls in headless Chromium: live calls, text that stays text, the viewer's zone, jumps by click."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        raise Skipped("no Chromium: apt-get install chromium")
    await page.check(world, chromium)


async def scenario_daemon_restarted(world: World) -> None:
    """The daemon dies under MindRoot: the agent is told, the plugin starts it anew, and calls go out and come in."""
    log_id, far = await world.outbound()
    pid = world.mindroot.daemon_pid()
    assert pid, "the daemon that the plugin started is not there"

    async def established() -> bool:
        calls = (await world.mindroot.get("/calls/list"))["calls"]
        return any(call["log_id"] == log_id and call["state"] == "answered" for call in calls)

    # The far end has answered; here it may not be known yet, and then there would be no call to be told the end of.
    await until("the call in MindRoot", established)
    await asyncio.to_thread(kill, pid)
    await world.told_of_the_end(log_id)
    await until("another daemon", lambda: world.mindroot.daemon_pid() not in (None, pid))
    log_id, far = await world.inbound()
    await far.say("two four six")
    await world.understood(log_id, "two four six")
    await world.mindroot.command(log_id, "hangup")
    log_id, far = await world.outbound()
    await world.mindroot.command(log_id, "hangup")


async def scenario_mindroot_killed(world: World) -> None:
    """MindRoot dies under a call: the caller is not left in silence, the daemon stays and serves the next MindRoot."""
    _, far = await world.inbound()
    pid = world.mindroot.daemon_pid()
    died = time.monotonic()
    await world.mindroot.kill()
    assert await far.call.wait_ended(20), "the call outlived MindRoot"
    took = time.monotonic() - died
    assert took < 12, f"hung up only after {took:.0f} s"
    assert world.mindroot.daemon_pid() == pid, "the daemon went with it"
    await world.mindroot.start()
    log_id, far = await world.inbound()
    await far.say("five three one")
    await world.understood(log_id, "five three one")
    await world.mindroot.command(log_id, "hangup")
    assert world.mindroot.daemon_pid() == pid, "another daemon was started"
    print(f"    hung up {took:.1f} s after MindRoot was killed")


async def scenario_stop(world: World) -> None:
    """MindRoot ends: a daemon that it did not start stays; one that it started goes with it. No secret is in a log."""
    pid = world.mindroot.daemon_pid()
    assert pid
    await world.mindroot.stop()
    assert world.mindroot.daemon_pid() == pid, "a daemon that this MindRoot had not started was stopped"
    await asyncio.to_thread(kill, pid)
    await world.mindroot.start()
    started = await until(
        "a daemon", lambda: world.mindroot.daemon_pid() not in (None, pid) and world.mindroot.daemon_pid()
    )
    await world.inbound()
    await world.mindroot.stop()
    await until("the end of the daemon", lambda: world.mindroot.daemon_pid() != started, 15)
    for name in ("mindroot.log", "daemon.log"):
        assert "not-to-be-seen" not in (world.mindroot.folder / name).read_text(errors="replace"), name


SCENARIOS: list[Callable[[World], Any]] = [
    thing for name, thing in list(globals().items()) if name.startswith("scenario_")
]


def characters_a_second(text: str) -> float:
    return len(text) * RATE / len(ulaw_speech(text))


def kill(pid: int) -> None:
    """A crash of the daemon; returns when it is gone."""
    import os
    import signal

    os.kill(pid, signal.SIGKILL)
    stat = pathlib.Path(f"/proc/{pid}/stat")
    while stat.exists() and stat.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        time.sleep(0.02)


async def run(options: argparse.Namespace, folder: pathlib.Path, chosen: list[Callable[[World], Any]]) -> list[str]:
    mindroot = MindRoot(options.mindroot, options.daemon, options.model, pathlib.Path(options.plugins), folder / "here")
    # The test's own voice, measured: MindRoot's guess is made for another one.
    mindroot.environment["MR_SPEECH_CHARS_PER_SEC"] = f"{characters_a_second(LONG):.3f}"
    failed = []
    async with FarEnd(options.daemon, options.model, folder / "far") as far:
        say("preparing MindRoot")
        await asyncio.to_thread(mindroot.prepare)
        say("starting MindRoot")
        await mindroot.start()
        await until("the daemon that the plugin starts", mindroot.daemon_pid)
        try:
            for scenario in chosen:
                name, began = scenario.__name__[len("scenario_") :], time.monotonic()
                try:
                    await asyncio.wait_for(scenario(World(mindroot, far, options.pictures)), 180)
                    say(f"ok   {name} ({time.monotonic() - began:.0f} s): {(scenario.__doc__ or '').splitlines()[0]}")
                except Skipped as reason:
                    say(f"skip {name}: {reason}")
                except Exception as error:
                    failed.append(name)
                    say(f"FAIL {name}: {type(error).__name__}: {error}")
                    if not isinstance(error, AssertionError):
                        traceback.print_exc()
                    await far.hang_up_all()
        finally:
            await mindroot.stop()
            pid = mindroot.daemon_pid()
            if pid:
                kill(pid)
    if failed:
        for log in (folder / "here" / "mindroot.log", folder / "here" / "daemon.log", folder / "far" / "daemon.log"):
            lines = log.read_text(errors="replace").splitlines() if log.exists() else []
            told = [
                line for line in lines if "mr_sip" in line or "Traceback" in line or "rror" in line or "WARN" in line
            ]
            print(f"--- {log}:", *told[-30:], sep="\n")
    return failed


def say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, flush=True)


def main() -> int:
    names = {scenario.__name__[len("scenario_") :]: scenario for scenario in SCENARIOS}
    parser = argparse.ArgumentParser()
    for name in ("mindroot", "daemon", "plugins", "model"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for pictures of the page of calls")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("scenario", nargs="*")
    options = parser.parse_args()
    if options.list:
        for name, scenario in names.items():
            print(f"{name:20} {(scenario.__doc__ or '').splitlines()[0]}")
        return 0
    unknown = set(options.scenario) - set(names)
    if unknown:
        print(f"no such scenario: {', '.join(sorted(unknown))}", file=sys.stderr)
        return 2
    chosen = [scenario for name, scenario in names.items() if not options.scenario or name in options.scenario]
    folder = pathlib.Path(tempfile.mkdtemp(prefix="mr-sip-e2e."))
    try:
        failed = asyncio.run(run(options, folder, chosen))
    finally:
        if options.keep:
            print(f"left for you to look at: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    say(f"FAILED: {', '.join(failed)}" if failed else f"all {len(chosen)} scenarios hold")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
