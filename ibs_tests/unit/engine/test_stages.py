"""The line of a task's log that names what took its time."""

from __future__ import annotations

from ibs.engine.stages import told
from ibs.wire.session import StageFigures


def test_the_slowest_stage_is_named_with_the_rates_of_all() -> None:
    stages = {
        "read": StageFigures(busy_seconds=2.0, wait_seconds=7.5, bytes=200 << 20),
        "hash": StageFigures(busy_seconds=0.5),
        "encrypt": StageFigures(),
        "send": StageFigures(busy_seconds=10.0, bytes=100 << 20),
        "wait": StageFigures(wait_seconds=1.0),
    }
    assert told(stages) == (
        "time by stage: read 2.0 s (100.0 MiB/s, waited 7.5 s), hash 0.5 s, send 10 s (10.0 MiB/s); most went into send"
    )


def test_nothing_is_said_where_nothing_took_time() -> None:
    assert told({}) == ""
    assert told({"read": StageFigures(busy_seconds=0.01, bytes=1)}) == ""
