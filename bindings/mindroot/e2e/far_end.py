"""The other side: a second `mr-sip` that is called and calls, speaks by espeak-ng, and hears by its own ears."""

from __future__ import annotations

import asyncio
import difflib
import itertools
import pathlib
import subprocess
import time
from collections.abc import Awaitable, Callable
from typing import Any

from espeak_voice.speech import spoken
from mr_sip import Call, ControlClient, DaemonNotRunning, Encoding, Event

# A loaded machine with a real recogniser takes its time; what has not come by then does not come.
PATIENCE_S = 60.0
# Louder than this, in 20 ms of u-law brought to 16 bits, somebody speaks.
SPEECH_LEVEL = 300
# Pauses within speech that still count as speech.
PAUSE_S = 0.4

CONFIG = """[sip]
bind = "127.0.0.1:0"
incoming = "ask"
[media]
bind_ip = "127.0.0.1"
rtp_ports = "{ports}"
realtime = false
[jack]
mode = "off"
[turns]
barge_in = {barge_in}
[recording]
enabled = {recording}
folder = "{folder}/recordings"
[asr]
model = "{model}"
"""


def alike(wanted: str, found: str) -> bool:
    """Whether these words were heard, a misheard one apart: recognisers mishear, and what is tested here is the way."""
    words, among = wanted.lower().split(), found.lower().replace(",", " ").replace(".", " ").split()
    pieces = (among[start : start + len(words)] for start in range(max(1, len(among) - len(words) + 1)))
    return any(difflib.SequenceMatcher(None, words, piece).ratio() >= 0.6 for piece in pieces)


async def until(what: str | Callable[[], str], condition: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
    """Waits for a condition; AssertionError, naming it, where it does not come."""
    deadline = time.monotonic() + patience_s
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > deadline:
            told = what if isinstance(what, str) else what()
            raise AssertionError(f"did not come within {patience_s:.0f} s: {told}")
        await asyncio.sleep(0.05)


class FarCall:
    """One call as the person at the far end has it."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.sentences: list[str] = []
        self.digits: list[tuple[str, str]] = []
        # (when it came, level) of every 20 ms of what the agent says
        self.levels: list[tuple[float, float]] = []
        self._listening: asyncio.Task[None] | None = None
        call.listen(self._on_event)

    def _on_event(self, event: Event) -> None:
        if event.name == "transcript.final" and event.params.get("text"):
            self.sentences.append(str(event.params["text"]).strip())
        elif event.name == "call.dtmf":
            self.digits.append((event.params["digit"], event.params.get("via", "")))

    async def listen(self) -> None:
        """Hears the agent's audio itself from now on."""
        audio = await self.call.subscribe()

        async def take() -> None:
            async for frame in audio:
                level = sum(linear(byte) for byte in frame.samples) / max(1, len(frame.samples))
                self.levels.append((time.monotonic(), level))

        self._listening = asyncio.create_task(take())

    def speaking(self) -> bool:
        """The agent is heard now."""
        return any(level > SPEECH_LEVEL for _, level in self.levels[-10:])

    def spoken_s(self, since: float) -> float:
        """How long the agent was heard since then, short pauses included."""
        loud = [at for at, level in self.levels if at >= since and level > SPEECH_LEVEL]
        return sum(min(after - before, PAUSE_S) for before, after in itertools.pairwise(loud))

    def last_heard(self) -> float:
        return max((at for at, level in self.levels if level > SPEECH_LEVEL), default=0.0)

    async def say(self, text: str) -> None:
        """Says a sentence; returns when all of it was sent."""
        rate, samples = spoken(text)
        response = await self.call.start_response(Encoding.S16, rate)
        await response.write(samples.tobytes())
        await response.end()
        await self.call.wait_until(lambda call: call.ended or response.closed, PATIENCE_S)

    async def hears(self, words: str) -> None:
        """Waits until the agent was heard to say this."""
        await until(
            lambda: f"the agent saying {words!r} (heard: {self.sentences})",
            lambda: any(alike(words, sentence) for sentence in [*self.sentences, " ".join(self.sentences)]),
        )


class FarEnd:
    """`async with FarEnd(...)`: a daemon of its own and the person at it."""

    def __init__(self, daemon: str, model: str, folder: pathlib.Path) -> None:
        self.folder = folder
        self._daemon = daemon
        self._model = model
        self._process: subprocess.Popen[bytes] | None = None
        self._ringing: asyncio.Queue[Call] = asyncio.Queue()
        self.client: ControlClient
        self.address = ""

    async def __aenter__(self) -> FarEnd:
        self.folder.mkdir(mode=0o700, parents=True)
        config = self.folder / "mr-sip.toml"
        config.write_text(
            CONFIG.format(
                folder=self.folder, model=self._model, ports="34000-34999", barge_in="false", recording="false"
            )
        )
        socket = self.folder / "control.sock"
        with open(self.folder / "daemon.log", "wb") as output:
            self._process = subprocess.Popen(
                [self._daemon, "--config", str(config), "serve"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": "/usr/bin:/bin", "MR_SIP_SOCKET": str(socket), "RUST_LOG": "info"},
                start_new_session=True,
            )

        async def connected() -> bool:
            try:
                self.client = await ControlClient.connect(socket, name="far end", events="all")
            except DaemonNotRunning:
                return False
            return True

        await until("the far end's daemon", connected)
        self.address = str((await self.client.status())["sip"]["address"])
        self.client.listen(self._on_event)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def uri(self, user: str = "bob") -> str:
        return f"sip:{user}@{self.address}"

    def _on_event(self, event: Event) -> None:
        if event.name == "call.incoming" and event.call is not None:
            self._ringing.put_nowait(event.call)

    async def hang_up_all(self) -> None:
        """Whatever is still up, for the next scenario to begin from nothing."""
        while not self._ringing.empty():
            self._ringing.get_nowait()
        for call in list(self.client.calls.values()):
            await call.hangup()
            await call.wait_summary(10)

    async def answer(self) -> FarCall:
        """Takes the next call that comes in."""
        call = await asyncio.wait_for(self._ringing.get(), PATIENCE_S)
        far = FarCall(call)
        await call.answer()
        assert await call.wait_established(PATIENCE_S), "answered and yet not established"
        await far.listen()
        return far

    async def reject(self, status: int) -> None:
        """Refuses the next call that comes in."""
        await (await asyncio.wait_for(self._ringing.get(), PATIENCE_S)).reject(status)

    async def dial(self, uri: str, display_name: str | None = None) -> FarCall:
        """Calls, and waits until somebody answers."""
        made: list[FarCall] = []
        call = await self.client.dial(
            uri, display_name=display_name, on_call=lambda dialed: made.append(FarCall(dialed))
        )
        assert await call.wait_established(PATIENCE_S), f"not answered: {call.cause} {call.status} {call.reason}"
        await made[0].listen()
        return made[0]


def linear(byte: int) -> int:
    """The magnitude of a u-law sample, in 16 bits."""
    byte = ~byte & 0xFF
    return (((byte & 0x0F) << 3) + 132 << (byte >> 4 & 7)) - 132
