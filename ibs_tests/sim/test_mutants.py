"""The simulator finds what it is there for: each promise broken on purpose, within a bounded number of seeds."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ibs_tests.sim.mutants import MUTANTS

SEEDS = 1200


@pytest.mark.parametrize("name", sorted(MUTANTS))
def test_a_mutant_is_caught(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.sim", "--seeds", f"0..{SEEDS - 1}", "--mutant", name],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, f"{name} lived through {SEEDS} seeds\n{done.stderr[-2000:]}"
    assert "Traceback" not in done.stderr, done.stderr[-3000:]
