"""The plugin inside MindRoot; outside, `speech` alone."""

from importlib.util import find_spec

if find_spec("lib") is not None:
    from .mod import *  # noqa: F403
