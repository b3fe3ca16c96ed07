"""What can go wrong between a Python program and the `mr-sip` daemon.

Every message is one sentence an administrator can act on. None of them ever holds a password: they are
made from socket paths, destinations and what the daemon itself answered.
"""

from __future__ import annotations

from typing import Any

NO_SUCH_CALL = 1001
NOT_THE_OWNER = 1002
WRONG_STATE = 1003
DESTINATION_REFUSED = 1004
NO_CAPACITY = 1005
NO_SUCH_ACCOUNT = 1006
NO_SUCH_RESPONSE = 1007
HELLO_OR_VERSION = 1008
MEDIA = 1009


class MrSipError(Exception):
    """Base of everything this package raises on purpose."""


class DaemonNotRunning(MrSipError):
    """Nothing listens on the control socket, and no daemon could be started.

    Attributes:
        startable: starting one would help; False where one is there but may not be used.
    """

    def __init__(self, message: str, startable: bool = True) -> None:
        super().__init__(message)
        self.startable = startable


class ProtocolError(MrSipError):
    """The other end does not speak the control protocol, version 1: wrong program, or another version."""


class ConnectionLost(MrSipError):
    """The control connection ended before the answer came."""


class RequestTimeout(MrSipError):
    """The daemon is connected but did not answer within the time given."""


class RequestRefused(MrSipError):
    """The daemon answered a request with an error.

    Attributes:
        code: JSON-RPC's or the protocol's number, such as `NO_SUCH_CALL`.
        data: whatever the daemon added, or None.
    """

    def __init__(self, method: str, code: int, message: str, data: Any | None = None) -> None:
        super().__init__(f"{method}: {message} (error {code})")
        self.code = code
        self.data = data
        self.reason = message


class ResponseCut(MrSipError):
    """The response was halted, cleared or ended, or its call is over: what was being written is not wanted."""


class DestinationRefused(MrSipError):
    """The destination is not something that may be dialled from here.

    Attributes:
        emergency: True where it is an emergency number, which an agent never dials.
    """

    def __init__(self, message: str, emergency: bool = False) -> None:
        super().__init__(message)
        self.emergency = emergency
