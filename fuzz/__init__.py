"""Fuzzing: whatever bytes come, a decoder gives rows and an account, or says what is wrong; it never fails.

    bin/fuzz [--seconds N] [TARGET...]

Each target is a decoder and inputs to begin with, which tests' own builders make. tests/test_fuzz.py runs
them all over these and a few hundred mutations, without atheris.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
"""The repository; the builders of inputs are in its tests."""
sys.path[:0] = [p for p in (str(ROOT), str(ROOT / "tests")) if p not in sys.path]
