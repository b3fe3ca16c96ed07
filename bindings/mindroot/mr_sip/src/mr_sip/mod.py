"""The MindRoot plugin: what MindRoot imports, and how it starts and ends.

Services are in `services`, commands in `commands`; importing this registers them. The page of calls is in `router`.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import Any

from lib.providers.hooks import hook
from lib.providers.services import service_manager

from . import commands, services
from .agent import listener, phone, use_phone
from .commands import *  # noqa: F403
from .errors import MrSipError
from .services import *  # noqa: F403

__all__ = [*commands.__all__, *services.__all__, "startup", "on_load"]

log = logging.getLogger("mr_sip")

# Hanging up takes milliseconds; a daemon that hangs is not to keep MindRoot from ending.
SHUTDOWN_S = 8.0


async def on_load(app: Any) -> None:
    """MindRoot has loaded the plugin; the daemon is looked for by the `startup` hook."""
    # MindRoot keeps its root logger at CRITICAL; what an administrator must read is to be seen nevertheless.
    if log.level == logging.NOTSET:
        log.setLevel(os.getenv("MR_SIP_LOG_LEVEL", "WARNING").upper())
    # MindRoot's `quit` hook never runs, and its web server ends by a signal that skips `atexit`. What does run is
    # FastAPI's list; first in it, because MindRoot's own handler may fail.
    handlers = getattr(getattr(app, "router", None), "on_shutdown", None)
    if isinstance(handlers, list):
        handlers.insert(0, shut_down)
    else:
        log.warning("this FastAPI has no shutdown handlers: a daemon started here is stopped at exit only")


@hook()
async def startup(app: Any, context: Any = None) -> None:
    """Says whether the daemon is there, so that an administrator hears of it before a caller does, and listens for
    calls where SIP_INCOMING_AGENT says who answers them.
    """
    task = asyncio.get_running_loop().create_task(_begin(context))
    _background.add(task)
    task.add_done_callback(_background.discard)


async def shut_down() -> None:
    """MindRoot ends: calls are hung up, and the daemon is stopped where it was started here."""
    await listener().stop()
    ending = use_phone(None)
    if ending is None:
        return
    try:
        await asyncio.wait_for(ending.close(), SHUTDOWN_S)
    except Exception:
        log.exception("the telephone could not be put down properly")
        ending.daemon.stop()


_background: set[asyncio.Task[None]] = set()


async def _begin(context: Any) -> None:
    agent = os.getenv("SIP_INCOMING_AGENT")
    if agent:
        status = await service_manager.start_incoming_listener_service(agent, context=context)
        log.info("incoming calls: %s", status)
    try:
        client = await phone().client()
        log.info("telephone daemon %s on %s", client.server.version, client.path)
    except MrSipError as error:
        log.warning("no calls until this is mended: %s", error)
