"""A daemon without telephone, ears or sound: the control protocol, version 1, with every event in the test's hand.

Time passes in it only when `play` says so (or in real time, with `real_time=True`), so that back-pressure and positions
are exact. Destinations choose what becomes of a call: see `OUTCOMES`; anything else rings and is answered.

Run as a program it is a stand-in for `mr-sip serve` with a caller who talks: `python3 fake_daemon.py --help`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import itertools
import json
import os
import pathlib
import struct
import time
from typing import Any

HEADER = struct.Struct("<IBBH")
AUDIO_HEADER = struct.Struct("<QQ")
BYTES_A_MS = {"ulaw": 8, "alaw": 8, "s16": 16, "f32": 32}

# User part of the destination -> cause, SIP status, SIP reason.
OUTCOMES = {
    "busy": ("busy", 486, "Busy Here"),
    "declined": ("declined", 603, "Decline"),
    "nobody": ("not_found", 404, "Not Found"),
    "noanswer": ("no_answer", 480, "Temporarily Unavailable"),
    "badpassword": ("auth", 401, "Unauthorized"),
    "nocodec": ("media", 488, "Not Acceptable Here"),
    "unreachable": ("network", None, "no route to host"),
}

# Requests about an answered call that need no more than an answer here.
SIMPLE = frozenset(
    "call.dtmf call.hold call.resume call.transfer call.transfer_accept call.transfer_reject call.bridge call.unbridge "
    "call.trace audio.clean audio.effects turn.policy transcript.push "
    "record.start record.pause record.resume record.stop media.subscribe".split()
)


class FakeResponse:
    def __init__(self, number: int, generation: int, channel: int, bytes_a_ms: int) -> None:
        self.number = number
        self.generation = generation
        self.channel = channel
        self.bytes_a_ms = bytes_a_ms
        self.heard = bytearray()
        self.queue = bytearray()
        self.ended = False
        self.finished = False

    @property
    def played_ms(self) -> float:
        return len(self.heard) / self.bytes_a_ms


class FakeCall:
    def __init__(self, name: str, to: str, connection: FakeConnection) -> None:
        self.name = name
        self.to = to
        self.connection = connection
        self.state = "dialing"
        self.cause: str | None = None
        self.status: int | None = None
        self.reason: str | None = None
        self.halted = False
        self.ducked = False
        self.direction = "out"
        self.sender = "sip:agent@example.invalid"
        self.clean = {"dc": False, "echo": False, "noise": False, "agc": False}
        self.policy: dict[str, Any] = {"style": "open", "digits": 0, "barge_in": True, "barge_in_words": 0}
        self.subscribed = 0
        self.plays: dict[int, dict[str, Any]] = {}
        self.turn_ms = 0.0
        self.responses: list[FakeResponse] = []
        self.lines: list[dict[str, Any]] = []
        self.missed: list[dict[str, Any]] = []
        self.utterances = itertools.count()
        self.started = time.time()
        self.answered: float | None = None
        self.ended: float | None = None

    @property
    def heard(self) -> bytes:
        """Everything that reached the far end."""
        return b"".join(bytes(response.heard) for response in self.responses)

    @property
    def queued(self) -> bytes:
        return b"".join(bytes(response.queue) for response in self.responses)

    def record(self) -> dict[str, Any]:
        begun = self.answered or 0
        until = self.ended or time.time()
        return {
            "call": self.name,
            "direction": self.direction,
            "state": self.state,
            "from": self.sender,
            "to": self.to,
            "started_unix_ms": int(self.started * 1000),
            "duration_ms": int((until - begun) * 1000) if begun else 0,
            "jack": False,
            **({"cause": self.cause} if self.cause else {}),
            **({"status": self.status} if self.status else {}),
            **({"reason": self.reason} if self.reason else {}),
            "transcript": list(self.lines),
        }


class FakeConnection:
    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.token = ""
        self.greeted = False

    def send(self, message: dict[str, Any]) -> None:
        payload = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.send_raw(HEADER.pack(len(payload), 1, 0, 0) + payload)

    def send_raw(self, data: bytes) -> None:
        if not self.writer.is_closing():
            self.writer.write(data)


class Refused(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class FakeDaemon:
    """`async with FakeDaemon(path) as daemon`. Attributes for tests to look at and to turn:

    requests: (method, params) in the order they came; unanswered: methods that get no answer; hold_dials: dials are
    answered only by `release`; window_ms: what response.start offers.
    """

    def __init__(self, path: str | pathlib.Path, window_ms: int = 2000, real_time: bool = False) -> None:
        self.path = str(path)
        self.window_ms = window_ms
        self.real_time = real_time
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.unanswered: set[str] = set()
        self.held: list[tuple[FakeConnection, Any, dict[str, Any]]] = []
        self.hold_dials = False
        self.calls: dict[str, FakeCall] = {}
        self.connections: set[FakeConnection] = set()
        self.tokens: dict[str, list[FakeCall]] = {}
        self.refusals = 0
        self.stale_frames = 0
        self.accept_tokens = True
        self.longest_list = 500
        self._numbers = itertools.count(1)
        self._server: asyncio.AbstractServer | None = None
        self._clock: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> FakeDaemon:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        if self.real_time:
            self._clock = asyncio.get_running_loop().create_task(self._tick())

    async def stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
        if self._server is not None:
            self._server.close()
        self.drop_connections()
        with contextlib.suppress(OSError):
            os.unlink(self.path)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def drop_connections(self) -> None:
        for connection in list(self.connections):
            self._gone(connection)
            connection.writer.transport.abort()

    # -- what a test makes happen ----------------------------------------------------------------------------------

    def methods(self, *wanted: str) -> list[str]:
        return [method for method, _ in self.requests if not wanted or method in wanted]

    def params(self, method: str) -> list[dict[str, Any]]:
        return [params for name, params in self.requests if name == method]

    def event(self, call: FakeCall, name: str, **params: Any) -> None:
        message = {"method": name, "params": {"call": call.name, "time_ms": 0, **params}}
        if call.connection in self.connections:
            call.connection.send(message)
        else:
            call.missed.append(message)

    def speech_start(self, call: FakeCall) -> None:
        self.event(call, "speech.start", at_ms=0)

    def speech_stop(self, call: FakeCall) -> None:
        self.event(call, "speech.stop", at_ms=0)

    def barge_in(self, call: FakeCall) -> None:
        """The daemon takes what the caller says for an interruption."""
        self.event(call, "turn.barge_in")

    def final(self, call: FakeCall, text: str, told: bool = True, backchannel: bool = False) -> None:
        utterance = next(call.utterances)
        line = {"who": "caller", "text": text, "start_ms": 0, "end_ms": 900, "utterance": utterance}
        call.lines.append(line)
        if told:
            self.event(
                call,
                "transcript.final",
                utterance=utterance,
                text=text,
                as_eager=False,
                backchannel=backchannel,
                start_ms=0,
                end_ms=900,
                latency_ms=120,
            )

    def say(self, call: FakeCall, text: str) -> None:
        """The caller speaks a whole sentence."""
        self.speech_start(call)
        self.speech_stop(call)
        self.final(call, text)

    def state(
        self, call: FakeCall, state: str, cause: str | None = None, status: int | None = None, reason: str | None = None
    ) -> None:
        call.state, call.cause, call.status, call.reason = state, cause, status, reason
        if state == "answered":
            call.answered = time.time()
        extra = {
            name: value
            for name, value in (("cause", cause), ("status", status), ("reason", reason))
            if value is not None
        }
        self.event(
            call,
            "call.state",
            state=state,
            direction=call.direction,
            **{"from": call.sender},
            to=call.to,
            **extra,
        )

    def end(
        self, call: FakeCall, cause: str, status: int | None = None, reason: str | None = None, summary: bool = True
    ) -> None:
        if call.state == "ended":
            return
        call.ended = time.time()
        self.state(call, "ended", cause, status, reason)
        if summary:
            self.summary(call)

    def summary(self, call: FakeCall) -> None:
        record = call.record()
        record.pop("call")
        self.event(call, "call.summary", **record)

    def play(self, call: FakeCall, ms: float) -> None:
        """Lets `ms` of queued audio go out, and tells of it."""
        for response in call.responses:
            if response.finished or ms <= 0:
                continue
            length = min(len(response.queue), int(ms * response.bytes_a_ms))
            if not response.heard and length:
                self.event(call, "response.started", response=response.number, generation=response.generation)
            response.heard += response.queue[:length]
            del response.queue[:length]
            call.turn_ms += length / response.bytes_a_ms
            ms -= length / response.bytes_a_ms
            if response.queue or not response.ended:
                self._progress(call, response, "response.progress", queued_ms=len(response.queue) / response.bytes_a_ms)
                break
            self._finish(call, response, interrupted=False)

    def release(self) -> None:
        """Answers the dials that were held back."""
        held, self.held = self.held, []
        for connection, number, params in held:
            connection.send({"id": number, "result": self._dial(connection, params)})

    # -- inside ----------------------------------------------------------------------------------------------------

    def _progress(self, call: FakeCall, response: FakeResponse, name: str, **params: Any) -> None:
        self.event(
            call,
            name,
            response=response.number,
            generation=response.generation,
            played_ms=int(response.played_ms),
            **params,
        )

    def _finish(self, call: FakeCall, response: FakeResponse, interrupted: bool) -> None:
        if not response.finished:
            response.finished = True
            response.queue.clear()
            self._progress(call, response, "response.finished", interrupted=interrupted)

    def _halt(self, call: FakeCall) -> None:
        call.halted = True
        for response in call.responses:
            if not response.finished:
                self._finish(call, response, interrupted=True)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            for call in self.calls.values():
                if call.state == "answered" and not call.halted:
                    self.play(call, 100)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        connection = FakeConnection(writer)
        self.connections.add(connection)
        try:
            while True:
                length, kind, flags, channel = HEADER.unpack(await reader.readexactly(HEADER.size))
                payload = await reader.readexactly(length)
                if kind == 1:
                    self._request(connection, json.loads(payload))
                else:
                    self._audio(connection, flags, channel, payload)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._gone(connection)
            writer.close()

    def _gone(self, connection: FakeConnection) -> None:
        """As in the daemon: the voice of a client that is gone falls silent, its calls stay for the grace time."""
        if connection in self.connections:
            self.connections.discard(connection)
            for call in self.calls.values():
                if call.connection is connection:
                    self._halt(call)

    def _audio(self, connection: FakeConnection, flags: int, channel: int, payload: bytes) -> None:
        generation, _ = AUDIO_HEADER.unpack_from(payload)
        samples = payload[AUDIO_HEADER.size :]
        for call in self.calls.values():
            for response in call.responses:
                if call.connection is connection and response.channel == channel and response.generation == generation:
                    if response.finished or call.halted:
                        self.stale_frames += 1
                        return
                    outstanding = sum(len(other.queue) / other.bytes_a_ms for other in call.responses)
                    if outstanding + len(samples) / response.bytes_a_ms > self.window_ms + 1:
                        self.refusals += 1
                        self.event(call, "audio.refused", response=response.number, accepted=0, refused=len(samples))
                        return
                    response.queue += samples
                    return
        self.stale_frames += 1

    def _request(self, connection: FakeConnection, message: dict[str, Any]) -> None:
        method, params, number = message["method"], message.get("params", {}), message["id"]
        self.requests.append((method, params))
        if method in self.unanswered:
            return
        if method == "call.dial" and self.hold_dials:
            self.held.append((connection, number, params))
            return
        try:
            if not connection.greeted and method != "hello":
                raise Refused(1008, "hello first")
            after: list[Any] = []
            result = self._answer(connection, method, params, after)
            connection.send({"id": number, "result": result})
            for act in after:
                act()
        except Refused as refused:
            connection.send({"id": number, "error": {"code": refused.code, "message": str(refused)}})

    def _answer(
        self, connection: FakeConnection, method: str, params: dict[str, Any], after: list[Any]
    ) -> dict[str, Any]:
        if method == "hello":
            return self._hello(connection, params, after)
        if method == "call.dial":
            return self._dial(connection, params)
        if method == "call.list":
            return self._list(params)
        if method == "daemon.status":
            return {"version": "fake", "pid": os.getpid()}
        if method == "sip.bans":
            return {"bans": [{"address": "198.51.100.7", "left_s": 540, "count": 1, "reason": "a scanner's name"}]}
        if method == "sip.unban":
            return {}
        call = self.calls.get(params.get("call", ""))
        if call is None:
            raise Refused(1001, "no such call")
        if method == "call.get":
            return call.record()
        if method == "call.hangup":
            after.append(lambda: self.end(call, "hangup" if call.answered else "cancelled"))
            return {}
        if method in ("call.answer", "call.reject"):
            if call.state != "incoming":
                raise Refused(1003, "the call does not wait to be answered")
            if method == "call.answer":
                call.connection = connection
                self.tokens.setdefault(connection.token, []).append(call)
                after.append(lambda: self.state(call, "answered", status=200))
            else:
                after.append(lambda: self.end(call, "rejected", params["status"]))
            return {}
        if call.state != "answered":
            raise Refused(1003, "the call is not answered")
        if method in SIMPLE:
            return self._simple(call, method, params, after)
        if method == "response.start":
            channel = next(self._numbers)
            response = FakeResponse(
                next(self._numbers), next(self._numbers), channel, BYTES_A_MS[params.get("encoding", "s16")]
            )
            call.responses.append(response)
            return {
                "response": response.number,
                "generation": response.generation,
                "channel": channel,
                "window_ms": self.window_ms,
            }
        if method == "response.end":
            found = [response for response in call.responses if response.number == params.get("response")]
            if not found or found[0].finished:
                raise Refused(1007, "no such response")
            found[0].ended = True
            if not found[0].queue:
                after.append(lambda: self._finish(call, found[0], interrupted=False))
            return {"queued_ms": len(found[0].queue) / found[0].bytes_a_ms}
        if method in ("audio.halt", "audio.clear"):
            halted = call.halted
            self._halt(call)
            call.halted = halted or method == "audio.halt"
            return {}
        if method == "audio.duck":
            call.ducked = bool(params["ducked"])
            return {}
        if method in ("play.file", "play.tone"):
            number = next(self._numbers)
            call.plays[number] = dict(params)
            return {"play": number}
        if method == "play.stop":
            if call.plays.pop(params.get("play"), None) is None:
                raise Refused(1007, "no such player")
            return {}
        if method == "audio.resume":
            call.halted = False
            call.turn_ms = 0.0
            return {}
        if method == "audio.position":
            live = [response for response in call.responses if not response.finished]
            return {
                "halted": call.halted,
                "generation": live[-1].generation if live else 0,
                **({"response": live[-1].number} if live else {}),
                "played_ms": live[-1].played_ms if live else 0,
                "turn_ms": call.turn_ms,
                "queued_ms": sum(len(response.queue) / response.bytes_a_ms for response in live),
            }
        raise Refused(-32601, f"no method {method}")

    def _list(self, params: dict[str, Any]) -> dict[str, Any]:
        after = int(str(params.get("after", "c0")).lstrip("c"))
        up = [call for call in self.calls.values() if call.state != "ended" and int(call.name[1:]) > after]
        limit = min(params.get("limit", 500), self.longest_list)
        more = {"more": True} if len(up) > limit else {}
        return {"calls": [call.record() for call in up[:limit]], **more}

    def _simple(self, call: FakeCall, method: str, params: dict[str, Any], after: list[Any]) -> dict[str, Any]:
        """What only has to be written down, with the event that follows it in the daemon."""
        if method == "call.transfer" and params.get("to") == "nobody":
            after.append(lambda: self.event(call, "call.transfer", state="failed", status=404, reason="Not Found"))
        elif method == "call.transfer":
            after.append(lambda: self.event(call, "call.transfer", state="accepted"))
            after.append(lambda: self.end(call, "transferred"))
        elif method in ("call.hold", "call.resume"):
            held = {"hold": "us"} if method == "call.hold" else {}
            after.append(lambda: self.event(call, "call.held", **held))
        elif method == "audio.clean":
            call.clean.update({name: value for name, value in params.items() if name != "call"})
            return dict(call.clean)
        elif method == "turn.policy":
            call.policy.update({name: value for name, value in params.items() if name != "call"})
            return dict(call.policy)
        elif method == "record.start":
            return {"path": params.get("path", f"/calls/{call.name}.wav")}
        elif method == "media.subscribe":
            call.subscribed = next(self._numbers)
            return {"channel": call.subscribed}
        return {}

    def hear(self, call: FakeCall, samples: bytes, encoding: int = 2) -> None:
        """The caller's audio, to who has subscribed to it."""
        head = HEADER.pack(AUDIO_HEADER.size + len(samples), 2, encoding, call.subscribed)
        call.connection.send_raw(head + AUDIO_HEADER.pack(0, time.monotonic_ns()) + samples)

    def ring(self, sender: str = "sip:bob@example.invalid", display_name: str | None = None) -> FakeCall:
        """Somebody calls; every connection is told."""
        call = FakeCall(f"c{next(self._numbers)}", "sip:agent@example.invalid", next(iter(self.connections)))
        call.state, call.direction, call.sender = "incoming", "in", sender
        self.calls[call.name] = call
        name = {"display_name": display_name} if display_name else {}
        for connection in self.connections:
            params = {"call": call.name, "time_ms": None, "from": sender, "to": call.to, **name}
            connection.send({"method": "call.incoming", "params": params})
        return call

    def _hello(self, connection: FakeConnection, params: dict[str, Any], after: list[Any]) -> dict[str, Any]:
        connection.greeted = True
        connection.token = f"token-{next(self._numbers)}"
        resumed = self.tokens.pop(params.get("token", ""), []) if self.accept_tokens else []
        for call in resumed:
            call.connection = connection
            for message in call.missed:
                after.append(functools.partial(connection.send, message))
            call.missed = []
        resumed = [call for call in resumed if call.state != "ended"]
        self.tokens[connection.token] = list(resumed)
        return {
            "server": "mr-sip",
            "version": "fake",
            "protocol": 1,
            "features": [],
            "session": "s1",
            "token": connection.token,
            "resumed": [call.name for call in resumed],
        }

    def _dial(self, connection: FakeConnection, params: dict[str, Any]) -> dict[str, Any]:
        to = params["to"]
        user = to.split(":", 1)[-1].split("@", 1)[0]
        if user == "forbidden":
            raise Refused(1004, "destination refused by the configuration's deny list")
        call = FakeCall(f"c{next(self._numbers)}", to, connection)
        self.calls[call.name] = call
        self.tokens.setdefault(connection.token, []).append(call)
        asyncio.get_running_loop().call_soon(self._go_on, call, user)
        return {"call": call.name}

    def _go_on(self, call: FakeCall, user: str) -> None:
        self.state(call, "ringing", status=180)
        if user == "ringing":
            return
        if user in OUTCOMES:
            self.end(call, *OUTCOMES[user])
            return
        self.state(call, "answered", status=200)


async def talk(daemon: FakeDaemon, sentences: list[str]) -> None:
    """A caller who says these one after the other, interrupting every answer but the last, and then hangs up."""
    told: set[str] = set()
    while True:
        await asyncio.sleep(0.2)
        for call in list(daemon.calls.values()):
            if call.state == "answered" and call.name not in told:
                told.add(call.name)
                task = asyncio.get_running_loop().create_task(_talk_on(daemon, call, sentences))
                daemon._tasks.add(task)
                task.add_done_callback(daemon._tasks.discard)


async def _talk_on(daemon: FakeDaemon, call: FakeCall, sentences: list[str]) -> None:
    for number, sentence in enumerate(sentences, 1):
        answers = len(call.responses)
        daemon.say(call, sentence.replace("USER", call.to.split(":")[-1].split("@")[0]))
        while call.state == "answered" and not _heard_enough(call.responses[answers:], number == len(sentences)):
            await asyncio.sleep(0.1)
    print(
        json.dumps({"call": call.name, "heard_ms": [round(answer.played_ms) for answer in call.responses]}), flush=True
    )
    daemon.end(call, "remote_hangup")


def _heard_enough(answers: list[FakeResponse], last: bool) -> bool:
    return any(answer.finished or (not last and answer.played_ms >= 600) for answer in answers)


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for `mr-sip serve`, for tests")
    parser.add_argument("serve", nargs="?", help="for being called as `mr-sip serve`")
    parser.add_argument(
        "--say",
        action="append",
        default=[],
        help="what the other side says, USER being its name; may be given several times",
    )
    options = parser.parse_args()

    async def run() -> None:
        async with FakeDaemon(os.environ["MR_SIP_SOCKET"], real_time=True) as daemon:
            await talk(daemon, options.say)

    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run())


if __name__ == "__main__":
    main()
