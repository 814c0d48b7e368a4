"""Seeds, in processes of their own: nothing promised is ever lost. IBS_SIM_SEEDS says how many (300 by default)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from ibs_tests.sim.world import KILL_POINTS

SEEDS = int(os.environ.get("IBS_SIM_SEEDS", "300"))
MUST_HAPPEN = (
    *(f"action {name}" for name in ("backup", "restore", "verify", "cleanup", "expire", "forget", "flip", "takeover")),
    *(f"era.{end}" for end in ("killed", "power cut", "stopped")),
    *(f"fault {name}" for name in ("ENOSPC", "read error", "write-back error")),
    *(f"backup.{end}" for end in ("committed", "resumed", "aborted", "left alone")),
    *("restored", "restore met a bad chunk", "forgotten", "cleanup chunks", "stranger refused", "thread switches"),
    *("verified OK", "verified CORRUPT"),
    *("pruned", "moved", "namespace removed", "binned by upkeep", "quarantined", "reindexed"),
)


def simulate(*arguments: str) -> subprocess.Popen[str]:
    """The command, with sets ordered the same way in every process."""
    return subprocess.Popen(
        [sys.executable, "-m", "ibs_tests.sim", *arguments],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_no_seed_breaks_a_promise() -> None:
    share = -(-SEEDS // max(1, os.cpu_count() or 1))
    running = [
        simulate("--seeds", f"{first}..{min(SEEDS, first + share) - 1}", "--output", "json")
        for first in range(0, SEEDS, share)
    ]
    counts: Counter[str] = Counter()
    broken: dict[str, str] = {}
    for process in running:
        status, out, err = finish(process)
        assert status in (0, 1), err[-3000:]
        result: dict[str, Any] = json.loads(out)
        counts.update(result["counts"])
        broken |= result["broken"]
    assert not broken, f"replay with: python -m ibs_tests.sim --seed N --trace\n{json.dumps(broken, indent=1)}"
    idle = [name for name in MUST_HAPPEN if not counts[name]]
    assert not idle, f"the worlds were idle: {idle}"
    alive = [point for point in KILL_POINTS if not counts[f"point {point}"]]
    assert not alive, f"never passed: {alive}"


@pytest.mark.parametrize("seed", [3, 9, 24])
def test_a_seed_repeats_its_run(seed: int) -> None:
    first, second = [simulate("--seed", str(seed), "--trace") for _ in range(2)]
    traces = [finish(process) for process in (first, second)]
    assert traces[0] == traces[1]
    assert "digest " in traces[0][1]
    assert traces[0][0] == 0


def test_a_broken_promise_is_told_and_replayed() -> None:
    found = finish(simulate("--seeds", "0..50", "--mutant", "answer before the barrier"))
    assert found[0] == 1
    assert "VIOLATED" not in found[1]
    seed = found[2].split()[1].rstrip(":")
    again = finish(simulate("--seed", seed, "--trace", "--mutant", "answer before the barrier"))
    assert again[0] == 1
    assert "VIOLATED" in again[1]
    assert found[2].splitlines()[0] == again[2].splitlines()[0]
