"""The whole of it: an answer from memory, looks in the background at their own pace, both formats."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trio
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from trio.testing import MockClock

from ibs.core import limits
from ibs.core.tasks import TaskState, TaskType
from ibs.errors import FailedError
from ibs.log import get_logger
from ibs.runtime.stall import StallDetector
from ibs.services import metrics
from ibs.services.metrics import Metrics, Sources, exposition, influx_lines
from ibs.wire.session import StageFigures
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House
from ibs_tests.unit.services.test_metrics_counters import values
from ibs_tests.unit.services.test_roster import seated


@asynccontextmanager
async def collecting(house: House, **changes: Any) -> AsyncIterator[Metrics]:
    roles = seated(house)
    sources = {
        "node": "node1",
        "started": house.clock.now(),
        "certificate_expires": lambda: datetime(2036, 1, 1, tzinfo=UTC),
        "clock": house.clock,
        "pool": house.pool,
        "bus": house.bus,
        "datastores": house.datastores,
        "tasks": house.tasks,
        "supervisor": house.supervisor,
        "stalls": StallDetector(lambda *_: None),
        "worker": roles.worker,
    }
    made = Metrics(Sources(**(sources | changes)))
    async with house.running(), trio.open_nursery() as nursery:
        nursery.start_soon(made.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def test_everything_is_there_and_the_library_reads_it(house: House, autojump_clock: MockClock) -> None:
    datastore = await house.make_store()
    await backup(datastore, {"a.img": [b"one"]})
    async with collecting(house, more=[lambda: [GaugeMetricFamily("ironcore_backup_more", "x", value=1)]]) as made:
        task = await house.tasks.start(TaskType.BACKUP, "s1:host/x", "root@ibs", state=TaskState.RUNNING)
        task.progress(stages={"read": StageFigures(busy_seconds=2.0)})
        await task.finish(TaskState.OK)
        get_logger("gc").error("something for the counter")
        await trio.testing.wait_all_tasks_blocked()
        text = (await made.text()).decode()
    families = list(text_string_to_metric_families(text))
    assert values(families, "datastore_snapshots") == {("s1",): 1}
    assert values(families, "tasks_ended_total") == {("s1", "OK", "backup"): 1}
    assert values(families, "stage_busy_seconds_total") == {("read", "backup"): 2.0}
    assert values(families, "log_lines_total")["error", "gc"] == 1
    assert values(families, "service_up")["verifier",] == 1
    assert values(families, "worker_slots") == {(): 3}
    assert values(families, "more") == {(): 1}
    assert {"process_resident_memory_bytes", "process_open_fds"} <= {family.name for family in families}
    assert len({family.name for family in families}) == len(families)
    assert all(family.documentation for family in families)


async def test_a_scrape_looks_at_no_datastore_and_looks_are_paced(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    survey = metrics.survey

    async def counted(*arguments: Any, **named: Any) -> Any:
        looks.append(trio.current_time())
        return await survey(*arguments, **named)

    monkeypatch.setattr(metrics, "survey", counted)
    await house.make_store()
    async with collecting(house) as made:
        await trio.sleep(1000)
        assert looks == []  # nobody asked
        for _ in range(100):
            await made.families()
            await trio.sleep(0.01)
        assert len(looks) == 1
        await trio.sleep(limits.METRICS_SURVEY_SECONDS)
        assert len(looks) == 2  # one more, because somebody asked meanwhile
        await trio.sleep(1000)
        assert len(looks) == 2


async def test_a_disk_that_hangs_holds_up_no_scrape(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_arguments: Any, **_named: Any) -> Any:
        await trio.sleep_forever()

    monkeypatch.setattr(metrics, "survey", hangs)
    await house.make_store()
    async with collecting(house) as made:
        began = trio.current_time()
        families = await made.families()
        assert trio.current_time() - began == pytest.approx(limits.METRICS_FIRST_WAIT_SECONDS)
    assert values(families, "datastore_online") == {("s1",): 1}
    assert values(families, "datastore_chunks") == {}


async def test_a_look_that_fails_is_told_and_made_again(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    survey, failures = metrics.survey, [ValueError("odd"), FailedError("the catalog cannot be read")]

    async def fails(*arguments: Any, **named: Any) -> Any:
        if failures:
            raise failures.pop()
        return await survey(*arguments, **named)

    monkeypatch.setattr(metrics, "survey", fails)
    await house.make_store()
    async with collecting(house) as made:
        for _ in range(3):
            await made.families()
            await trio.sleep(limits.METRICS_SURVEY_SECONDS)
        assert values(await made.families(), "datastore_chunks") == {("s1",): 0}
    assert "could not be looked up" in caplog.text
    assert "looking up the figures of datastores failed" in caplog.text


async def test_a_dead_worker_leaves_its_figures_out(house: House, autojump_clock: MockClock) -> None:
    async with collecting(house) as made:
        house.supervisor.inject_fault("worker")
        await trio.testing.wait_all_tasks_blocked()
        families = await made.families()
        assert values(families, "service_up")["worker",] in (0, 1)
        lines = (await made.lines()).decode().splitlines()
    assert any(line.startswith("ironcore_backup_service_up,host=node1,role=gc value=1.0 ") for line in lines)


def test_lines_of_influxdb_are_escaped_and_hold_finite_numbers_only() -> None:
    family = GaugeMetricFamily("m", "x", labels=["where", "empty"])
    family.add_metric(["a b,c=d\\\n", ""], 1.5)
    family.add_metric(["nan", ""], float("nan"))
    histogram = HistogramMetricFamily("h", "x", buckets=[("1.0", 1), ("+Inf", 2)], sum_value=7)
    assert influx_lines([family, histogram], "n 1", 42).decode().splitlines() == [
        "m,host=n\\ 1,where=a\\ b\\,c\\=d/\\  value=1.5 42",
        "h_count,host=n\\ 1 value=2.0 42",
        "h_sum,host=n\\ 1 value=7.0 42",
    ]
    assert exposition([]) == b""
