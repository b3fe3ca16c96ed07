from .mod import *  # noqa: F403
