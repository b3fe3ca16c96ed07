"""One call as its client sees it: state mirrored from the daemon's events, and what can be asked of it.

Everything readable here (`state`, `halted`, `turn_ms`, ...) is answered from the mirror, without a round trip; the
connection's reader keeps it true before any waiter or subscriber hears of the event. Everything that is `async` asks
the daemon. All of it belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    NamedTuple,
    Union,
)

from .errors import NO_SUCH_CALL, WRONG_STATE, RequestRefused, ResponseCut
from .frames import Encoding
from .response import Response

if TYPE_CHECKING:
    from .client import ControlClient
    from .subscription import Subscription

CallId = Union[str, int]

log = logging.getLogger("mr_sip")


class Event(NamedTuple):
    """One notification. `name` is the protocol's (`transcript.final`), `params` are its fields as they came."""

    name: str
    params: Mapping[str, Any]
    call: Call | None


class Position(NamedTuple):
    """Where the agent's voice is, from `audio.position`.

    Attributes:
        halted: the latch is set; nothing plays until `resume`.
        played_ms: sent on the wire of the current response.
        turn_ms: sent on the wire since the last resume, or since the turn began.
        queued_ms: waiting in the daemon.
    """

    halted: bool
    played_ms: float
    turn_ms: float
    queued_ms: float


class Call:
    """A call of this client. Made by `ControlClient`, never directly.

    Attributes:
        id: the daemon's name of it (`c17`).
        state: dialing, ringing, early, incoming, answered or ended.
        cause, status, reason: why it ended: the protocol's word, the SIP status if there was one, the SIP reason.
        halted: the voice is latched silent.
        unheard_ms: what was given to the daemon since the last resume and will never be played, because it was cut.
        display_name: what the far end calls itself; not to be trusted.
        summary: the params of `call.summary`, once it came.
        refused_samples: samples that the daemon refused because the window was overrun; stays 0.
    """

    def __init__(self, client: ControlClient, call_id: CallId) -> None:
        self._client = client
        self.id = call_id
        self.state = "dialing"
        self.direction = "out"
        self.remote_from = ""
        self.remote_to = ""
        self.display_name = ""
        self.cause: str | None = None
        self.status: int | None = None
        self.reason: str | None = None
        self.summary: Mapping[str, Any] | None = None
        self.made_at = time.time()
        self.answered_at: float | None = None
        self.ended_at: float | None = None
        self.halted = False
        self.refused_samples = 0
        self.responses: dict[Any, Response] = {}
        self.unheard_ms = 0.0
        self._turn_done_ms = 0.0
        # Of that, what the daemon's own count no longer has because the connection was lost meanwhile.
        self._carried_ms = 0.0
        # Counted up by every halt, resume and clear, so that an answer that was under way meanwhile is known as stale.
        self._latch_moves = 0
        self._cuts = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._listeners: list[Callable[[Event], object]] = []

    def __repr__(self) -> str:
        return f"<Call {self.id} {self.direction} {self.state}>"

    # -- the mirror ------------------------------------------------------------------------------------------------

    @property
    def answered(self) -> bool:
        """Established and not over."""
        return self.state == "answered"

    @property
    def ended(self) -> bool:
        """Over, for whatever cause."""
        return self.state == "ended"

    @property
    def party(self) -> str:
        """Who is at the far end: a number or an address, without what surrounds it in SIP."""
        return bare_address(self.remote_from if self.direction == "in" else self.remote_to)

    @property
    def duration_s(self) -> float:
        """Seconds since it was answered, or that it lasted; 0.0 where it never was answered."""
        if self.summary is not None and "duration_ms" in self.summary:
            return float(self.summary["duration_ms"]) / 1000.0
        if self.answered_at is None:
            return 0.0
        return max(0.0, (self.ended_at or time.monotonic()) - self.answered_at)

    @property
    def turn_ms(self) -> float:
        """Milliseconds sent on the wire since the last resume, as the newest events told it."""
        return self._turn_done_ms + sum(response.played_ms for response in self.responses.values())

    @property
    def outstanding_ms(self) -> float:
        """Milliseconds given to the daemon and not played yet, over all responses that still sound."""
        return sum(max(0.0, response.sent_ms - response.played_ms) for response in self.responses.values())

    def listen(self, listener: Callable[[Event], object]) -> Callable[[], None]:
        """Calls `listener` with every event of this call, from the reader: it must not block. Returns the undo."""
        self._listeners.append(listener)

        def undo() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return undo

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event of this call from here on, ending with `call.summary` (or `call.state` ended, if none comes).

        Nothing is dropped: the iterator's queue grows as long as its reader does not read.
        """
        queue: asyncio.Queue[Event] = asyncio.Queue()
        undo = self.listen(queue.put_nowait)
        try:
            while not (self.summary is not None and queue.empty()):
                event = await queue.get()
                yield event
                if event.name == "call.summary" or event.params.get("cause") == "client_gone":
                    return
        finally:
            undo()

    async def wait_until(self, predicate: Callable[[Call], bool], timeout: float | None = None) -> bool:
        """Waits until `predicate` is true of this call's mirror. False where `timeout` seconds pass first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not predicate(self):
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    return False
                await asyncio.wait({waiter}, timeout=left)
            finally:
                self._waiters.discard(waiter)
        return True

    async def wait_established(self, timeout: float | None = None) -> bool:
        """Waits until it is answered (True) or over or `timeout` seconds have passed (False)."""
        await self.wait_until(lambda call: call.answered or call.ended, timeout)
        return self.answered

    async def wait_ended(self, timeout: float | None = None) -> bool:
        """Waits until it is over. False where `timeout` seconds pass first."""
        return await self.wait_until(lambda call: call.ended, timeout)

    async def wait_summary(self, timeout: float | None = None) -> bool:
        """Waits for `call.summary`, which comes when the last words are transcribed. False on timeout."""
        return await self.wait_until(lambda call: call.summary is not None, timeout)

    # -- what can be asked -----------------------------------------------------------------------------------------

    async def answer(self) -> None:
        """Answers an incoming call and becomes its owner."""
        await self._client.request("call.answer", {"call": self.id})

    async def reject(self, status: int = 486) -> None:
        """Refuses an incoming call with a SIP status."""
        await self._client.request("call.reject", {"call": self.id, "status": status})

    async def hangup(self) -> None:
        """Ends it, whatever its state (CANCEL while it rings). One that is over already stays as it is."""
        if self.ended:
            return
        try:
            await self._client.request("call.hangup", {"call": self.id})
        except RequestRefused as error:
            if error.code not in (NO_SUCH_CALL, WRONG_STATE):
                raise

    async def progress(self) -> None:
        """Lets the agent be heard before an incoming call is answered (183, early media); becomes its owner."""
        await self._client.request("call.progress", {"call": self.id})

    async def send_digits(
        self, digits: str, duration_ms: int = 120, gap_ms: int = 60, *, via: str | None = None
    ) -> None:
        """Presses 1 to 64 keys (`0-9*#A-D`); returns when they are queued.

        They go as telephone events (RFC 4733) where the far end has them; `via` asks for `rfc4733`, `info` or `inband`.
        """
        params: dict[str, Any] = {"call": self.id, "digits": digits, "duration_ms": duration_ms, "gap_ms": gap_ms}
        if via is not None:
            params["via"] = via
        await self._client.request("call.dtmf", params)

    async def hold(self) -> None:
        """Puts the far end on hold; the event `call.held` says when it is so. The agent's voice still goes out."""
        await self._client.request("call.hold", {"call": self.id})

    async def unhold(self) -> None:
        """Ends a hold of ours."""
        await self._client.request("call.resume", {"call": self.id})

    async def transfer(self, to: str | Call) -> None:
        """Sends the far end to a number or SIP URI, or to the far end of another call of ours.

        Returns when it was asked for; `call.transfer` events tell how it goes on, and a call that was transferred ends
        with cause `transferred`.
        """
        target = {"other_call": to.id} if isinstance(to, Call) else {"to": to}
        await self._client.request("call.transfer", {"call": self.id, **target})

    async def accept_transfer(self) -> None:
        """The far end asked us to call somebody else (`call.transfer` `requested`): we do."""
        await self._client.request("call.transfer_accept", {"call": self.id})

    async def reject_transfer(self, status: int = 603) -> None:
        """The far end asked us to call somebody else: we do not."""
        await self._client.request("call.transfer_reject", {"call": self.id, "status": status})

    async def bridge(self, other: Call, mode: str = "talk") -> None:
        """Lets this call and another one hear each other; with `mode` `listen` or `whisper`, `other` is a supervisor.

        Agents and ears of both go on as before. Ends with either call, or by `unbridge`.
        """
        await self._client.request("call.bridge", {"call": self.id, "other_call": other.id, "mode": mode})

    async def unbridge(self, other: Call | None = None) -> None:
        """Ends the bridge to `other`, or all bridges of this call."""
        params: dict[str, Any] = {"call": self.id}
        if other is not None:
            params["other_call"] = other.id
        await self._client.request("call.unbridge", params)

    async def clean(
        self, *, dc: bool | None = None, echo: bool | None = None, noise: bool | None = None, agc: bool | None = None
    ) -> Mapping[str, bool]:
        """What is done to the caller's audio before it is recognised; None leaves it. Returns what is done now.

        `dc` takes a constant offset away, `echo` the echo of the agent's own voice, `noise` noise (22 ms later), `agc`
        brings speech to about -23 dBFS.
        """
        wanted = {"dc": dc, "echo": echo, "noise": noise, "agc": agc}
        params = {name: value for name, value in wanted.items() if value is not None}
        answer = await self._client.request("audio.clean", {"call": self.id, **params})
        return {name: bool(answer.get(name, False)) for name in wanted}

    async def effects(self, direction: str, chain: Sequence[Mapping[str, Any]] = ()) -> None:
        """Sets the effects on one voice, `caller` or `agent`, in place of those before; none ends them.

        At most 8, each `{"name": ..., parameters}`: `gain`, `equaliser`, `band_pass`, `phone` (see PROTOCOL.md).
        """
        params = {"call": self.id, "direction": direction, "chain": [dict(effect) for effect in chain]}
        await self._client.request("audio.effects", params)

    async def turn_policy(self, **changes: Any) -> Mapping[str, Any]:
        """Changes when it is whose turn; what is not named stays. Returns all of it as it is now.

        `style` ("open", "quick", "digits"), `complete_ms`, `end_of_turn_ms`, `incomplete_ms`, `digits`, `barge_in`,
        `barge_in_ms`, `barge_in_words`, `barge_in_sure_ms`, `language`, `vocabulary`, `recognizer` ("built_in",
        "client"): see PROTOCOL.md.
        """
        return await self._client.request("turn.policy", {"call": self.id, **changes})

    async def push_transcript(self, text: str, *, settled: bool = False, end_of_turn: bool = False) -> None:
        """What a recogniser of one's own heard, on a call whose `recognizer` is "client" (see `turn_policy`).

        `text`: the words since those that were settled last, at most 16 KiB. `settled`: they will not change any more.
        """
        params = {"call": self.id, "text": text, "settled": settled, "end_of_turn": end_of_turn}
        await self._client.request("transcript.push", params)

    async def trace(self, format: str = "ladder") -> Mapping[str, Any]:
        """Its SIP messages, without passwords: `ladder`, `pcap` (base64) or `json`."""
        return await self._client.request("call.trace", {"call": self.id, "format": format})

    async def start_recording(self, path: str | None = None) -> str:
        """Records it from now on, to a WAV file (left the caller, right the agent); says which."""
        params: dict[str, Any] = {"call": self.id}
        if path is not None:
            params["path"] = path
        return str((await self._client.request("record.start", params)).get("path") or "")

    async def pause_recording(self) -> None:
        """Leaves out of the recording what comes now, a card number for instance, until `resume_recording`."""
        await self._client.request("record.pause", {"call": self.id})

    async def resume_recording(self) -> None:
        """Ends a pause of the recording."""
        await self._client.request("record.resume", {"call": self.id})

    async def stop_recording(self) -> None:
        """Ends the recording; the call goes on, and may be recorded again."""
        await self._client.request("record.stop", {"call": self.id})

    async def subscribe(self, rate: int = 8000, encoding: Encoding = Encoding.ULAW) -> Subscription:
        """The caller's own audio, frame by frame, until the call or the connection ends."""
        return await self._client.subscribe(self, rate, encoding.wire_name)

    async def get(self) -> Mapping[str, Any]:
        """The daemon's own record of it, with the transcript so far."""
        return await self._client.request("call.get", {"call": self.id})

    async def halt(self) -> None:
        """Silences the voice at once and latches: what is queued is thrown away, nothing plays until `resume`.

        The mirror says `halted` before the daemon is asked, so that no other task writes in between.
        """
        self.latch()
        await self._client.request("audio.halt", {"call": self.id})

    def latch(self) -> None:
        """The mirror's half of `halt`, for who cannot wait; `halt` is to follow."""
        self.halted = True
        self._latch_moves += 1
        self._cut_responses()

    async def resume(self) -> None:
        """Takes the latch off; the turn's count of milliseconds begins again."""
        self._latch_moves += 1
        moves = self._latch_moves
        await self._client.request("audio.resume", {"call": self.id})
        if moves == self._latch_moves:
            self.halted = False
            self.unheard_ms = self._turn_done_ms = self._carried_ms = 0.0
            self.notify()

    async def clear(self) -> None:
        """Throws away what is queued, without latching."""
        self._cut_responses()
        await self._client.request("audio.clear", {"call": self.id})

    async def duck(self, ducked: bool) -> None:
        """Lowers the voice while the caller may be speaking, or brings it back. Nothing of it is lost."""
        await self._client.request("audio.duck", {"call": self.id, "ducked": ducked})

    async def play_file(self, path: str, *, instead: bool = False, bargeable: bool = True, gain_db: float = 0.0) -> int:
        """Plays a WAV file beside the voice, or instead of it. Returns its number; `play.finished` tells its end."""
        how = {"mode": "instead" if instead else "mix", "bargeable": bargeable, "gain_db": gain_db}
        return int((await self._client.request("play.file", {"call": self.id, "path": path, **how}))["play"])

    async def play_tone(
        self, tone: str, *, region: str = "eu", for_ms: int | None = None, instead: bool = False, bargeable: bool = True
    ) -> int:
        """Plays a tone (`dial`, `ringback`, `busy`, `congestion`, `sit`, `beep`). Returns the player's number."""
        how: dict[str, Any] = {"mode": "instead" if instead else "mix", "bargeable": bargeable, "region": region}
        if for_ms is not None:
            how["for_ms"] = for_ms
        return int((await self._client.request("play.tone", {"call": self.id, "tone": tone, **how}))["play"])

    async def stop_play(self, play: int) -> None:
        """Fades a player out."""
        await self._client.request("play.stop", {"call": self.id, "play": play})

    async def position(self) -> Position:
        """Where the voice is, from the daemon itself; the mirror is brought up to it."""
        moves = self._latch_moves
        raw = await self._client.request("audio.position", {"call": self.id})
        position = Position(
            bool(raw.get("halted", False)),
            float(raw.get("played_ms") or 0.0),
            float(raw.get("turn_ms") or 0.0) + self._carried_ms,
            float(raw.get("queued_ms") or 0.0),
        )
        if moves == self._latch_moves:
            self.halted = position.halted
        current = self.responses.get(raw.get("response"))
        if current is not None:
            current.played_ms = max(current.played_ms, position.played_ms)
        self.notify()
        return position

    async def start_response(self, encoding: Encoding = Encoding.ULAW, rate: int = 8000, text: str = "") -> Response:
        """Opens a response: audio written to it is heard after what was written to the one before."""
        params: dict[str, Any] = {"call": self.id, "rate": rate, "encoding": encoding.wire_name}
        if text:
            params["text"] = text

        cuts = self._cuts
        box: list[Response] = []

        def opened(result: Mapping[str, Any]) -> None:
            # In the reader: events about the response may be in the very next frame.
            response = Response(self, self._client, result, encoding, rate)
            if cuts == self._cuts:
                self.responses[response.id] = response
            else:
                response.closed = True
            box.append(response)

        await self._client.request("response.start", params, on_result=opened)
        if box[0].closed:
            raise ResponseCut("halted or cleared while the response was being opened")
        return box[0]

    # -- fed by the reader -----------------------------------------------------------------------------------------

    def apply(self, event: Event) -> None:
        """Brings the mirror up to an event, then wakes waiters and listeners. Called by the connection's reader."""
        name, params = event.name, event.params
        if name in ("call.state", "call.incoming"):
            self._apply_state("incoming" if name == "call.incoming" else str(params.get("state", self.state)), params)
        elif name == "call.summary":
            self._apply_state("ended", params)
            self.summary = params
        elif name in ("response.progress", "response.finished"):
            response = self.responses.get(params.get("response"))
            if response is not None:
                response.played_ms = max(response.played_ms, float(params.get("played_ms") or 0.0))
                if name == "response.finished":
                    self._close_response(response)
        elif name == "audio.refused":
            refused = int(params.get("refused") or 0)
            self.refused_samples += refused
            log.error("call %s: the daemon refused %d samples beyond its window: speech was lost", self.id, refused)
            response = self.responses.get(params.get("response"))
            if response is not None:
                response.sent_ms -= refused * 1000.0 / response.rate
        self.notify()
        for listener in list(self._listeners):
            listener(event)

    def _apply_state(self, state: str, params: Mapping[str, Any]) -> None:
        if self.ended:
            return
        self.state = state
        self.direction = str(params.get("direction") or ("in" if state == "incoming" else self.direction))
        self.remote_from = str(params.get("from") or self.remote_from)
        self.remote_to = str(params.get("to") or self.remote_to)
        self.display_name = str(params.get("display_name") or self.display_name)
        if state == "answered" and self.answered_at is None:
            self.answered_at = time.monotonic()
        if state == "ended":
            self.ended_at = time.monotonic()
            self.cause = str(params.get("cause") or "error")
            status = params.get("status")
            self.status = status if isinstance(status, int) else None
            reason = params.get("reason")
            self.reason = str(reason) if reason else None
            self._cut_responses()

    async def catch_up(self) -> None:
        """After the connection was lost and resumed: the voice is as it was, though its responses are over.

        The daemon halts the voice of a client that is gone; one that was not halted before may speak again. The events
        that were missed need nothing here: the daemon tells them again.
        """
        if not self.answered:
            return
        halted = self.halted
        # No cut: a response that waits to be opened on the new connection is wanted.
        self._close_responses()
        if halted:
            await self.halt()
            return
        played_ms, unheard_ms = self.turn_ms, self.unheard_ms
        await self.resume()
        # To the daemon that began a turn; to the agent it is still the same one.
        self._turn_done_ms = self._carried_ms = played_ms
        self.unheard_ms = unheard_ms

    def _close_response(self, response: Response) -> None:
        response.closed = True
        if self.responses.pop(response.id, None) is not None:
            self._turn_done_ms += response.played_ms
            self.unheard_ms += max(0.0, response.sent_ms - response.played_ms)

    def _cut_responses(self) -> None:
        self._cuts += 1
        self._close_responses()

    def _close_responses(self) -> None:
        for response in list(self.responses.values()):
            self._close_response(response)
        self.notify()

    def notify(self) -> None:
        """Has everybody in `wait_until` look again."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


def bare_address(address: str) -> str:
    """`+4930123456` of `"Bob" <sip:+4930123456@example.com;user=phone>`; `bob@example.com` where it is no number."""
    text = address.rsplit("<", 1)[-1].split(">", 1)[0].strip()
    for scheme in ("sip:", "sips:", "tel:"):
        if text.lower().startswith(scheme):
            text = text[len(scheme) :]
    text = text.split(";", 1)[0].split("?", 1)[0]
    user = text.split("@", 1)[0]
    digits = user[1:] if user.startswith("+") else user
    return user if digits.isdigit() else text
