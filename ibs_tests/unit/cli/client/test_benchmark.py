"""`ironcore-backup-client benchmark`: options become the plan; a table with units, or JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ibs.cli.client import root
from ibs.client.benchmark.figures import BACKUP, BenchmarkReport, Bottleneck, Figure, Stage
from ibs.client.benchmark.run import BenchmarkPlan
from ibs_tests.support.fakeapi import FakeApi, install, invoke

REPORT = BenchmarkReport(
    cores=2,
    threads=2,
    level=3,
    compression_ratio=1.5,
    figures=(Figure.of("hash", "BLAKE3", 1 << 30, 0.5), Figure.of("upload", "write session", 1 << 20, 2.0, "[note]")),
    stages=(Stage(BACKUP, "upload", 1 << 19),),
    bottlenecks=(Bottleneck(BACKUP, "upload", 1 << 19, "ask the server"),),
    round_trip_ms=12.3,
    repository="h:1:main",
    notes=("no snapshot was made",),
)


class Benchmarks:
    """Stands where the measuring would be, and remembers its plans."""

    def __init__(self) -> None:
        self.plans: list[tuple[BenchmarkPlan, Any]] = []

    async def __call__(self, plan: BenchmarkPlan, api: Any, *, begin: Any, **_rest: Any) -> BenchmarkReport:
        self.plans.append((plan, api))
        begin("TLS")
        return REPORT


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Benchmarks:
    stand_in = Benchmarks()
    monkeypatch.setattr("ibs.client.benchmark.run.run_benchmark", stand_in)
    return stand_in


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeApi:
    fake = install(monkeypatch, tmp_path)
    monkeypatch.setattr("ibs.cli.client.connection.connect", lambda _credentials: fake)
    return fake


def test_with_a_repository(ran: Benchmarks, api: FakeApi) -> None:
    done = invoke(root, "benchmark", "--size", "32 MiB", "--ns", "a/b")
    assert done.exit_code == 0, done.output
    [(plan, used)] = ran.plans
    assert (plan.size, plan.store, plan.namespace, plan.folder) == (32 << 20, "main", "a/b", os.getcwd())
    assert plan.group.startswith("host/benchmark-")
    assert plan.client.endswith(" benchmark")
    assert used is api
    for said in (
        "2.0 GiB/s",
        "1.0 MiB in 2.0 s",
        "[note]",
        "h:1:main: round trip 12.3 ms",
        "note: no snapshot was made",
    ):
        assert said in done.output
    assert "likely bottleneck of a backup: upload, about 512.0 KiB/s of content\n  ask the server" in done.output


def test_two_runs_use_two_groups(ran: Benchmarks, api: FakeApi) -> None:
    invoke(root, "benchmark")
    invoke(root, "benchmark")
    assert ran.plans[0][0].group != ran.plans[1][0].group


def test_without_a_repository(ran: Benchmarks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IBS_REPOSITORY", raising=False)
    done = invoke(root, "benchmark", "--output", "json")
    assert json.loads(done.stdout)["figures"][0]["bytes_per_second"] == 2 << 30
    assert json.loads(done.stdout)["bottlenecks"][0]["stage"] == "upload"
    assert (ran.plans[0][0].store, ran.plans[0][1]) == ("", None)


def test_a_size_that_is_none(ran: Benchmarks) -> None:
    done = invoke(root, "benchmark", "--size", "large")
    assert (done.exit_code, ran.plans) == (2, [])
