"""Where the daemon's socket is."""

from __future__ import annotations

import os
from pathlib import Path


def default_socket_path() -> Path:
    """Where the daemon listens unless it was told otherwise: the same rule as the daemon's own.

    `MR_SIP_SOCKET`; else for root `/run/mr-sip/control.sock`; else `$XDG_RUNTIME_DIR/mr-sip/control.sock`; else
    `/tmp/mr-sip-UID/control.sock`.
    """
    named = os.getenv("MR_SIP_SOCKET")
    if named:
        return Path(named)
    if os.geteuid() == 0:
        return Path("/run/mr-sip/control.sock")
    runtime = os.getenv("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "mr-sip" / "control.sock"
    return Path(f"/tmp/mr-sip-{os.geteuid()}/control.sock")
