"""The whole benchmark: every part in its turn, with and without a server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ibs.client.benchmark import compute
from ibs.client.benchmark import run as module
from ibs.client.benchmark.run import BenchmarkPlan, run_benchmark
from ibs.core import limits
from ibs.errors import UsageError
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool
from ibs_tests.unit.client.benchmark.test_server import Datastore

LOCAL = ["tls", "tls", "hash", "chunking", "aes encrypt", "aes decrypt", "disk write", "disk read"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute, "LEVELS", (1, 3))
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.0, 0.0))


def plan(folder: Path, **more: str) -> BenchmarkPlan:
    return BenchmarkPlan(str(folder), 16 * limits.MIB, step_seconds=0.01, long_seconds=60.0, **more)


async def test_without_a_server(tmp_path: Path) -> None:
    parts: list[str] = []
    report = await run_benchmark(plan(tmp_path), None, pool=ThreadPool(), clock=SystemClock(), begin=parts.append)
    assert parts == ["TLS", "processor", "disk"]
    assert [one.part for one in report.figures if "zstd" not in one.part] == LOCAL
    assert [(one.part, one.variant) for one in report.figures if "zstd" in one.part] == [
        (f"zstd {way}compress", f"level {level}") for level in (1, 3) for way in ("", "de")
    ]
    assert [one.direction for one in report.bottlenecks] == ["backup", "restore"]
    assert report.compression_ratio > 1
    assert report.notes == ("no repository was named: the way to a server was not measured",)
    assert list(tmp_path.iterdir()) == []


async def test_with_a_server(tmp_path: Path) -> None:
    server = Datastore()
    wish = plan(tmp_path, store="main", group="host/benchmark-1", client="me", repository="h:main")
    async with server.api() as api:
        report = await run_benchmark(wish, api, pool=ThreadPool(), clock=SystemClock())
    assert [one.part for one in report.figures][:2] == ["upload", "download"]
    assert {one.stage for one in report.stages} >= {"upload", "download"}
    assert (report.repository, len(server.ended)) == ("h:main", 1)
    assert report.round_trip_ms > 0


@pytest.mark.parametrize("size", [0, 1 << 20, 1 << 50])
def test_sizes_out_of_range(tmp_path: Path, size: int) -> None:
    with pytest.raises(UsageError, match="size"):
        BenchmarkPlan(str(tmp_path), size)


def test_a_busy_machine_is_told() -> None:
    assert module._busy(2.0, 2) == []
    assert "load average 3.1 on 2 processors" in module._busy(3.1, 2)[0]
