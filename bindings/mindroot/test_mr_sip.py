"""Lets `python3 -m unittest discover` in this folder find the tests of the package inside `mr_sip`."""

from __future__ import annotations

import pathlib
import unittest

PACKAGE = pathlib.Path(__file__).resolve().parent / "mr_sip"


def load_tests(loader: unittest.TestLoader, standard_tests: unittest.TestSuite, pattern: str) -> unittest.TestSuite:
    """unittest's hook: a loader of its own, because one loader knows one top folder only."""
    del loader, standard_tests, pattern
    return unittest.TestLoader().discover(str(PACKAGE / "tests"), top_level_dir=str(PACKAGE))
