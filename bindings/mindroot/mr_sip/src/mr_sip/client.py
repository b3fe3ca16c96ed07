"""The asyncio client of the `mr-sip` daemon: one connection, many calls. Standard library only.

    async with await ControlClient.connect() as client:
        call = await client.dial("sip:alice@192.0.2.7")
        if await call.wait_established(30):
            response = await call.start_response()
            await response.write(ulaw_bytes)
            await response.end()

What must hold: one reader task owns everything that is mirrored, and updates it before anybody hears of the event. A
request is answered, refused, timed out or fails with the connection; it never hangs. When the connection is lost the
client comes back with its token within the daemon's grace time and its calls go on; calls that did not survive end with
cause `client_gone`. All methods belong to the event loop that `connect` ran on.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, NamedTuple

from .calls import Call, CallId, Event
from .errors import ConnectionLost, DaemonNotRunning, MrSipError, ProtocolError, RequestRefused, RequestTimeout
from .frames import HEADER, KIND_JSON, AudioFrame, audio_frame, json_frame, read_audio, read_header, read_json
from .places import default_socket_path
from .subscription import Subscription

PROTOCOL = 1
REQUEST_TIMEOUT_S = 10.0
# The daemon keeps the calls of a lost connection for 5 s; trying a little longer costs nothing.
RESUME_FOR_S = 6.0
RESUME_FIRST_PAUSE_S = 0.05
RESUME_LONGEST_PAUSE_S = 0.5

log = logging.getLogger("mr_sip")

Listener = Callable[[Event], object]


class ServerInfo(NamedTuple):
    """What the daemon said of itself in `hello`."""

    version: str
    protocol: int
    features: tuple[str, ...]


class _Pending(NamedTuple):
    future: asyncio.Future[Mapping[str, Any]]
    on_result: Callable[[Mapping[str, Any]], None] | None


class ControlClient:
    """A connection to the daemon. Make one with `ControlClient.connect`."""

    def __init__(self, path: Path, name: str, events: str, request_timeout: float, resume: bool) -> None:
        self.path = path
        self.server = ServerInfo("", PROTOCOL, ())
        self.connection_number = 0
        self.calls: dict[CallId, Call] = {}
        self._name = name
        self._events = events
        self._request_timeout = request_timeout
        self._resume = resume
        self._token: str | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._listeners: list[Listener] = []
        self._subscriptions: dict[int, Subscription] = {}
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._drain = asyncio.Lock()
        self._up = asyncio.Event()
        self._gone = asyncio.Event()
        self._closed = False
        self._failure: Exception | None = None
        self._keeper: asyncio.Task[None] | None = None
        # The one task that may ask while everybody else waits for the calls to be caught up.
        self._resuming: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()

    # -- life ------------------------------------------------------------------------------------------------------

    @classmethod
    async def connect(
        cls,
        path: str | Path | None = None,
        *,
        name: str = "python",
        events: str = "own",
        request_timeout: float = REQUEST_TIMEOUT_S,
        resume: bool = True,
    ) -> ControlClient:
        """Connects and says hello.

        `events` is `own`, `all` or `none`. Raises DaemonNotRunning where nobody listens on the socket, ProtocolError
        where somebody else does.
        """
        client = cls(Path(path) if path else default_socket_path(), name, events, request_timeout, resume)
        await client._open()
        client._keeper = asyncio.get_running_loop().create_task(client._keep())
        try:
            await client._hello()
        except BaseException:
            await client.close()
            raise
        client._up.set()
        return client

    async def __aenter__(self) -> ControlClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def connected(self) -> bool:
        """True while requests can be sent at once."""
        return self._up.is_set() and not self._closed

    @property
    def closed(self) -> bool:
        """True once this client will never be connected again: closed, or its calls could not be resumed."""
        return self._closed

    async def close(self) -> None:
        """Ends the connection. The daemon hangs up this client's calls after its grace time."""
        self._closed = True
        self._gone.set()
        if self._keeper is not None and self._keeper is not asyncio.current_task():
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        for task in list(self._background):
            task.cancel()
        self._disconnect(ConnectionLost("the client was closed"))
        self._end_calls(self.calls.keys())

    # -- requests and events ---------------------------------------------------------------------------------------

    async def request(
        self,
        method: str,
        params: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,
        on_result: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> Mapping[str, Any]:
        """Asks the daemon and returns its `result`.

        While the connection is being resumed this waits for it. `on_result` runs in the reader, before the next frame
        is looked at. Raises RequestRefused, RequestTimeout, ConnectionLost.
        """
        deadline = time.monotonic() + (self._request_timeout if timeout is None else timeout)
        if not self._up.is_set() and asyncio.current_task() is not self._resuming:
            await self._wait_up(method, deadline)
        return await self._ask(method, params or {}, deadline, on_result)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Calls `listener` with every event of the connection, from the reader: it must not block. Returns the undo."""
        self._listeners.append(listener)

        def undo() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return undo

    async def events(self) -> AsyncGenerator[Event, None]:
        """Every event of the connection from here on, until the client is closed."""
        queue: asyncio.Queue[Event] = asyncio.Queue()
        undo = self.listen(queue.put_nowait)
        try:
            while True:
                yield await queue.get()
        finally:
            undo()

    # -- calls -----------------------------------------------------------------------------------------------------

    async def dial(
        self,
        destination: str,
        *,
        account: str | None = None,
        timeout_ms: int | None = None,
        metadata: Mapping[str, Any] | None = None,
        record: bool | None = None,
        display_name: str | None = None,
        headers: Mapping[str, str] | None = None,
        privacy: bool = False,
        detect: Mapping[str, bool] | None = None,
        on_call: Callable[[Call], object] | None = None,
    ) -> Call:
        """Starts a call and returns it at once; what becomes of it comes as events.

        `record` and `detect` (`digits`, `progress`, `answered_by`, `music`) are as the daemon's configuration says where
        they are None. `display_name` is our name as the called see it, `headers` are further ones of the INVITE, `privacy`
        keeps our number from the called. `on_call` runs in the reader before any of the call's events. Cancelling this
        hangs up, even where the daemon's answer was still on its way.
        """
        params: dict[str, Any] = {"to": destination}
        if account:
            params["account"] = account
        if timeout_ms:
            params["timeout_ms"] = timeout_ms
        if metadata:
            params["metadata"] = dict(metadata)
        if record is not None:
            params["record"] = record
        if display_name:
            params["display_name"] = display_name
        if headers:
            params["headers"] = dict(headers)
        if privacy:
            params["privacy"] = True
        if detect is not None:
            params["detect"] = dict(detect)

        box: list[Call] = []

        def made(result: Mapping[str, Any]) -> None:
            call_id = result.get("call")
            if not isinstance(call_id, (str, int)):
                raise ProtocolError("call.dial was answered without a call")
            call = self._call(call_id)
            call.remote_to = destination
            box.append(call)
            if on_call is not None:
                on_call(call)

        asking = self._spawn(self.request("call.dial", params, on_result=made))
        try:
            await asyncio.shield(asking)
        except asyncio.CancelledError:
            # The daemon may have answered already or be about to: either way nobody wants this call any more.
            asking.add_done_callback(lambda _: self.hang_up_later(box[0]) if box else None)
            raise
        return box[0]

    def hang_up_later(self, call: Call) -> None:
        """Hangs up without waiting, for a task that is being cancelled."""
        self._spawn(self._hang_up_quietly(call))

    async def list_calls(self, after: CallId | None = None, page: int = 500) -> list[Mapping[str, Any]]:
        """The calls that have not ended, whoever owns them, above the call `after`; asked for `page` at a time."""
        calls: list[Mapping[str, Any]] = []
        while True:
            params: dict[str, Any] = {"limit": page}
            if after is not None:
                params["after"] = after
            answer = await self.request("call.list", params)
            some = [call for call in answer.get("calls") or [] if isinstance(call, dict)]
            calls += some
            # An older daemon knows no `more`: it has sent all of them. None in the answer would be asked for for ever.
            if not answer.get("more") or not some:
                return calls
            after = some[-1].get("call")

    def known_call(self, record: Mapping[str, Any]) -> Call | None:
        """The mirror of a call that `list_calls` told of, made where its events had not made it."""
        call_id = record.get("call")
        if not isinstance(call_id, (str, int)):
            return None
        if call_id in self.calls:
            return self.calls[call_id]
        call = self._call(call_id)
        name = "call.incoming" if record.get("state") == "incoming" else "call.state"
        call.apply(Event(name, record, call))
        return call

    async def status(self) -> Mapping[str, Any]:
        """The daemon's own account of itself: version, registrations, JACK, model, figures, each media thread."""
        return await self.request("daemon.status")

    async def bans(self) -> list[Mapping[str, Any]]:
        """Addresses that are not heard for a while, for having offended."""
        return list((await self.request("sip.bans")).get("bans") or [])

    async def unban(self, address: str) -> None:
        """Hears an address again."""
        await self.request("sip.unban", {"address": address})

    async def wait_closed(self) -> None:
        """Returns once this client will never be connected again."""
        await self._gone.wait()

    async def subscribe(self, call: Call, rate: int = 8000, encoding: str = "s16") -> Subscription:
        """The caller's own audio, frame by frame."""
        made: list[Subscription] = []

        def opened(result: Mapping[str, Any]) -> None:
            made.append(Subscription(self, call.id, int(result["channel"])))
            self._subscriptions[made[0].channel] = made[0]
            if call.ended:
                made[0].end()

        await self.request("media.subscribe", {"call": call.id, "rate": rate, "encoding": encoding}, on_result=opened)
        return made[0]

    async def send_audio(self, frame: AudioFrame) -> None:
        """Puts an audio frame on the wire. `Response.write` is what callers want. Raises ConnectionLost."""
        await self._send(audio_frame(frame))

    def forget_subscription(self, channel: int) -> None:
        """Frames of `channel` are thrown away from here on."""
        self._subscriptions.pop(channel, None)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _call(self, call_id: CallId) -> Call:
        call = self.calls.get(call_id)
        if call is None:
            call = self.calls[call_id] = Call(self, call_id)
        return call

    def _spawn(self, coroutine: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(coroutine)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task

    async def _hang_up_quietly(self, call: Call) -> None:
        try:
            await call.hangup()
        except MrSipError as error:
            log.warning("call %s could not be hung up: %s", call.id, error)

    async def _open(self) -> None:
        try:
            self._reader, self._writer = await asyncio.open_unix_connection(str(self.path))
        except (FileNotFoundError, ConnectionRefusedError):
            raise DaemonNotRunning(
                f"daemon not running on {self.path}: start it with `mr-sip serve`, or set MR_SIP_SOCKET to its socket"
            ) from None
        except PermissionError:
            raise DaemonNotRunning(
                f"no permission to open {self.path}: run as the user who runs `mr-sip serve`", startable=False
            ) from None
        except OSError as error:
            raise DaemonNotRunning(
                f"cannot connect to {self.path}: {error.strerror or error}", startable=False
            ) from None
        self.connection_number += 1

    async def _hello(self) -> Mapping[str, Any]:
        params: dict[str, Any] = {"client": self._name, "protocol": PROTOCOL, "events": self._events}
        if self._token:
            params["token"] = self._token
        try:
            answer = await self._ask("hello", params, time.monotonic() + self._request_timeout, None)
        except RequestRefused as error:
            raise ProtocolError(f"the daemon on {self.path} refused this client: {error.reason}") from error
        self._token = str(answer.get("token") or "") or None
        features = answer.get("features") or ()
        self.server = ServerInfo(
            str(answer.get("version", "")), int(answer.get("protocol", PROTOCOL)), tuple(str(f) for f in features)
        )
        return answer

    async def _wait_up(self, method: str, deadline: float) -> None:
        if self._closed:
            raise ConnectionLost(f"{method}: {self._failure or 'the client was closed'}")
        try:
            await asyncio.wait_for(self._up.wait(), max(0.0, deadline - time.monotonic()))
        except asyncio.TimeoutError:
            raise RequestTimeout(f"{method}: not connected to {self.path} in time") from None
        if self._closed:
            raise ConnectionLost(f"{method}: {self._failure or 'the client was closed'}")

    async def _ask(
        self,
        method: str,
        params: Mapping[str, Any],
        deadline: float,
        on_result: Callable[[Mapping[str, Any]], None] | None,
    ) -> Mapping[str, Any]:
        number = next(self._ids)
        frame = json_frame({"jsonrpc": "2.0", "id": number, "method": method, "params": dict(params)})
        future: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(future, on_result)
        try:
            await self._send(frame)
            done, _ = await asyncio.wait({future}, timeout=max(0.0, deadline - time.monotonic()))
            if not done:
                raise RequestTimeout(f"{method}: no answer from the daemon on {self.path} in time")
            try:
                return future.result()
            except RequestRefused as error:
                raise RequestRefused(method, error.code, error.reason, error.data) from None
        finally:
            self._pending.pop(number, None)
            if future.done() and not future.cancelled():
                future.exception()

    async def _send(self, frame: bytes) -> None:
        writer = self._writer
        if writer is None or writer.is_closing():
            raise ConnectionLost(f"not connected to {self.path}")
        try:
            # The whole frame goes into the transport's buffer at once, so frames of several tasks never mix.
            writer.write(frame)
            async with self._drain:
                await writer.drain()
        except (ConnectionError, OSError) as error:
            raise ConnectionLost(f"the connection to {self.path} broke: {error}") from None

    async def _keep(self) -> None:
        """Reads until the connection ends; resumes it; gives up when the daemon has given up on us."""
        give_up_at = 0.0
        while not self._closed:
            try:
                await self._read()
                failure = ConnectionLost(f"the daemon on {self.path} ended the connection")
            except asyncio.CancelledError:
                raise
            except ProtocolError as error:
                log.error("%s", error)
                failure = ConnectionLost(str(error))
            except Exception as error:
                log.exception("the reader of %s failed", self.path)
                failure = ConnectionLost(f"reading from {self.path} failed: {error}")
            if self._up.is_set():
                give_up_at = time.monotonic() + RESUME_FOR_S
            else:
                # Lost again before hello was answered: one try after the other, but not as fast as they fail.
                await asyncio.sleep(RESUME_FIRST_PAUSE_S)
            resumable = self._resume and self._token is not None
            self._disconnect(failure)
            if self._closed:
                return
            if not resumable or not await self._come_back(give_up_at):
                self._give_up(failure)
                return

    async def _come_back(self, give_up_at: float) -> bool:
        pause = RESUME_FIRST_PAUSE_S
        while time.monotonic() < give_up_at and not self._closed:
            try:
                await self._open()
                self._resuming = self._spawn(self._resume_calls(self.connection_number))
                return True
            except DaemonNotRunning:
                await asyncio.sleep(pause)
                pause = min(pause * 2, RESUME_LONGEST_PAUSE_S)
        return False

    async def _resume_calls(self, connection: int) -> None:
        """Hello with the token, then every surviving call caught up, the others ended. The reader runs meanwhile."""
        try:
            answer = await self._hello()
        except MrSipError as error:
            if connection == self.connection_number and self._writer is not None:
                # The reader sees the end of the connection and tries again, or gives up.
                if isinstance(error, ProtocolError):
                    self._token = None
                self._writer.close()
            return
        survived = set(answer.get("resumed") or [])
        log.warning("connection to %s resumed with %d of %d calls", self.path, len(survived), len(self.calls))
        try:
            # What was missed follows the answer to hello; once this is answered too, the reader has told all of it.
            listed = await self.list_calls()
            # A call that came in and waits to be answered is nobody's: it is not among the resumed, and rings on.
            survived.update(call.get("call") for call in listed if call.get("state") == "incoming")
            for call_id in survived:
                await self._call(call_id).catch_up()
        except MrSipError as error:
            log.warning("after resuming: %s", error)
        self._end_calls([call_id for call_id in list(self.calls) if call_id not in survived])
        if connection == self.connection_number and self._writer is not None:
            self._up.set()

    def _give_up(self, failure: Exception) -> None:
        self._failure = failure
        self._closed = True
        self._gone.set()
        self._end_calls(list(self.calls))
        # Whoever waits for the connection is to hear that there will be none.
        self._up.set()

    def _disconnect(self, failure: ConnectionLost) -> None:
        self._up.clear()
        if self._writer is not None:
            with contextlib.suppress(Exception):
                self._writer.close()
        self._reader = self._writer = None
        for pending in list(self._pending.values()):
            if not pending.future.done():
                pending.future.set_exception(failure)
        for subscription in self._subscriptions.values():
            subscription.end()
        self._subscriptions.clear()

    def _end_calls(self, call_ids: Any) -> None:
        for call_id in list(call_ids):
            call = self.calls.get(call_id)
            if call is not None and not call.ended:
                self._hand_out(
                    Event(
                        "call.state",
                        {"call": call_id, "state": "ended", "cause": "client_gone", "reason": "connection lost"},
                        call,
                    )
                )
            self.calls.pop(call_id, None)

    async def _read(self) -> None:
        reader = self._reader
        if reader is None:
            return
        try:
            while True:
                header = read_header(await reader.readexactly(HEADER.size))
                payload = await reader.readexactly(header.length)
                if header.kind == KIND_JSON:
                    self._take_json(read_json(payload))
                else:
                    self._take_audio(read_audio(header, payload))
        except (asyncio.IncompleteReadError, ConnectionError):
            return

    def _take_json(self, message: Mapping[str, Any]) -> None:
        method = message.get("method")
        params = message.get("params")
        if isinstance(method, str):
            self._take_event(method, params if isinstance(params, dict) else {})
            return
        pending = self._pending.get(message.get("id"))  # type: ignore[arg-type]
        if pending is None or pending.future.done():
            return
        error = message.get("error")
        if isinstance(error, dict):
            pending.future.set_exception(
                RequestRefused("", int(error.get("code", 0)), str(error.get("message", "")), error.get("data"))
            )
            return
        result = message.get("result")
        result = result if isinstance(result, dict) else {}
        try:
            if pending.on_result is not None:
                pending.on_result(result)
        except Exception as failure:
            pending.future.set_exception(failure)
            return
        pending.future.set_result(result)

    def _take_event(self, name: str, params: Mapping[str, Any]) -> None:
        call_id = params.get("call")
        call: Call | None = None
        if isinstance(call_id, (str, int)):
            call = self.calls.get(call_id)
            opens = name == "call.incoming" or (name == "call.state" and params.get("state") != "ended")
            if call is None and opens:
                call = self._call(call_id)
        self._hand_out(Event(name, params, call))
        if call is not None and call.ended:
            for subscription in [one for one in self._subscriptions.values() if one.call_id == call_id]:
                subscription.end()
                self.forget_subscription(subscription.channel)
        if name == "call.summary" and isinstance(call_id, (str, int)):
            self.calls.pop(call_id, None)

    def _hand_out(self, event: Event) -> None:
        if event.call is not None:
            _shielded(event.call.apply, event)
        for listener in list(self._listeners):
            _shielded(listener, event)

    def _take_audio(self, frame: AudioFrame) -> None:
        subscription = self._subscriptions.get(frame.channel)
        if subscription is not None:
            subscription.put(frame)


def _shielded(listener: Listener, event: Event) -> None:
    """A listener that fails harms neither the reader nor the next listener."""
    try:
        listener(event)
    except Exception:
        log.exception("a listener failed on %s", event.name)
