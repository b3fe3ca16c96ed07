"""mr_sip: telephone calls for MindRoot agents, through the `mr-sip` daemon.

Inside MindRoot this is the plugin: importing it registers the commands and services of `mod`. Anywhere else it is the
asyncio client alone (`mr_sip.client.ControlClient`), which needs nothing but the standard library.
"""

from __future__ import annotations

import importlib.util

from .calls import Call, Event, Position
from .client import ControlClient
from .errors import (
    ConnectionLost,
    DaemonNotRunning,
    DestinationRefused,
    MrSipError,
    ProtocolError,
    RequestRefused,
    RequestTimeout,
    ResponseCut,
)
from .frames import AudioFrame, Encoding
from .places import default_socket_path
from .response import Response
from .subscription import Subscription

__version__ = "0.1.0"

__all__ = [
    "AudioFrame",
    "Call",
    "ConnectionLost",
    "ControlClient",
    "DaemonNotRunning",
    "DestinationRefused",
    "Encoding",
    "Event",
    "MrSipError",
    "Position",
    "ProtocolError",
    "RequestRefused",
    "RequestTimeout",
    "Response",
    "ResponseCut",
    "Subscription",
    "default_socket_path",
]


def inside_mindroot() -> bool:
    """Whether this runs in MindRoot, which has its own folder on the path so that plugins find `lib.providers`."""
    try:
        return importlib.util.find_spec("lib.providers.services") is not None
    except ImportError:
        return False


if inside_mindroot():
    # MindRoot looks here for on_load; importing it registers commands, services and hooks. An error in there is not
    # swallowed.
    from . import mod
    from .mod import *  # noqa: F403

    __all__ += mod.__all__
