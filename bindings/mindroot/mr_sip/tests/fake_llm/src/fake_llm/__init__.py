"""A MindRoot plugin for tests: see `mod`."""

from .mod import *  # noqa: F403
