"""Tests of the MindRoot plugin and its client: `python3 -m unittest`, nothing to install."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "src"))
