"""Finding the daemon: the one that runs, or else one that is started here and stopped at the end.

Only a daemon that this process started is ever stopped by it. One that ran before, or that another process started, is
used and left alone.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

from .client import ControlClient
from .errors import DaemonNotRunning
from .places import default_socket_path

# Loading a large Whisper model from a slow disk takes this long; a daemon that fails says so sooner by ending.
START_TIMEOUT_S = 60.0
START_POLL_S = 0.1
# SIGTERM lets calls be ended properly (BYE); after this it is killed.
STOP_TIMEOUT_S = 5.0
# So much of the daemon's own words goes into the error where it could not be started.
LOG_TAIL_BYTES = 1_500
# Values of these never leave this process, not even inside what the daemon printed.
SECRET_NAMES = ("SIP_PASSWORD",)

log = logging.getLogger("mr_sip")


class Daemon:
    """Connects to the daemon on one socket, starting it where it does not run and can be found."""

    def __init__(self, socket: str | Path | None = None) -> None:
        self.socket = Path(socket) if socket else default_socket_path()
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = asyncio.Lock()

    @property
    def started_here(self) -> bool:
        """True while a daemon runs that this object started."""
        return self._process is not None and self._process.poll() is None

    @property
    def log_path(self) -> Path:
        """Where a daemon started here writes what it has to say."""
        named = os.getenv("MR_SIP_LOG_FILE")
        return Path(named) if named else self.socket.with_name("mr-sip.log")

    async def connect(self, name: str, events: str = "own") -> ControlClient:
        """A connected client. Raises DaemonNotRunning, saying what is missing and what to do about it."""
        async with self._starting:
            try:
                return await ControlClient.connect(self.socket, name=name, events=events)
            except DaemonNotRunning as error:
                if not error.startable:
                    raise
                self._start(error)
            return await self._connect_to_started(name, events)

    def stop(self) -> None:
        """Stops the daemon where it was started here; any other is left alone."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self, not_running: DaemonNotRunning) -> None:
        program = find_program()
        if program is None:
            named = os.getenv("MR_SIP_BIN")
            why = (
                f"MR_SIP_BIN={named} is not a program" if named else "`mr-sip` is not on PATH and MR_SIP_BIN is not set"
            )
            raise DaemonNotRunning(f"{not_running}. It could not be started from here either: {why}") from None
        # One that was started here and listens no more is over, or hangs.
        self.stop()
        # The process's own environment: `os.environ` inside MindRoot would mix in settings of the agent that happens to
        # dial first, and this daemon is for all of them.
        environment = {**os.environb, b"MR_SIP_SOCKET": os.fsencode(self.socket)}
        try:
            self.socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.log_path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._open_log() as output:
                self._process = self._spawn(program, environment, output)
        except OSError as error:
            raise DaemonNotRunning(f"{program} cannot be started: {error}") from None
        atexit.unregister(self.stop)
        atexit.register(self.stop)
        log.info("started %s serve on %s, writing to %s", program, self.socket, self.log_path)

    def _open_log(self) -> IO[bytes]:
        # Ours alone, and never somebody else's file behind a link that was waiting in a shared folder.
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.fdopen(os.open(self.log_path, flags, 0o600), "wb")

    def _spawn(self, program: str, environment: dict[bytes, bytes], output: IO[bytes]) -> subprocess.Popen[bytes]:
        # A session of its own: Ctrl-C in the terminal ends this process, which then ends the daemon in order.
        return subprocess.Popen(
            [program, "serve"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    async def _connect_to_started(self, name: str, events: str) -> ControlClient:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            # Looked at before connecting: another process may have started the daemon that ours gave way to.
            status = self._process.poll() if self._process is not None else 0
            try:
                return await ControlClient.connect(self.socket, name=name, events=events)
            except DaemonNotRunning:
                if status is not None:
                    raise DaemonNotRunning(
                        f"`mr-sip serve` ended at once with status {status}. {self._last_words()}"
                    ) from None
                if time.monotonic() > deadline:
                    self.stop()
                    raise DaemonNotRunning(
                        f"`mr-sip serve` did not open {self.socket} within {START_TIMEOUT_S:.0f} s. "
                        f"{self._last_words()}"
                    ) from None
            await asyncio.sleep(START_POLL_S)

    def _last_words(self) -> str:
        try:
            said = self.log_path.read_bytes()[-LOG_TAIL_BYTES:].decode("utf-8", "replace").strip()
        except OSError:
            said = ""
        return f"It said: {redact(said)}" if said else f"It said nothing in {self.log_path}"


def find_program() -> str | None:
    """The `mr-sip` program: what MR_SIP_BIN names, else what PATH has, else None."""
    named = os.getenv("MR_SIP_BIN")
    return shutil.which(named) if named else shutil.which("mr-sip")


def redact(text: str) -> str:
    """The text without the values of secret settings."""
    for name in SECRET_NAMES:
        value = os.getenv(name)
        if value:
            text = text.replace(value, "***")
    return text
