"""What is STALE and why, and whether a pass fits its window."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ibs.core.names import SnapshotName
from ibs.engine.verify import verify_snapshot
from ibs.errors import UsageError
from ibs.runtime.supervisor import ServiceState, State
from ibs.services import outlook
from ibs.services.outlook import Situation
from ibs.wire.schedule import ScheduleView
from ibs.wire.system import TaskView
from ibs_tests.support.engine import backup
from ibs_tests.unit.services.conftest import House

NOW = datetime(2026, 11, 22, 19, tzinfo=UTC)


def task(state: str = "OK", *, store: str = "s1", ended: str = "2026-11-01T00:00:10Z", size: int = 0) -> TaskView:
    return TaskView(
        upid="UPID:x",
        type="verify",
        id=store,
        auth_id="root@ibs",
        state=state,
        started="2026-11-01T00:00:00Z",
        ended=ended,
        message="a message",
        done_bytes=size,
    )


def at(*tasks: TaskView, verifier: ServiceState | None = None) -> Situation:
    return Situation(NOW, 30, verifier, tasks)


def scheduled(namespace: str = "") -> Situation:
    one = ScheduleView(store="s1", kind="verify", when="Sun 04:30", namespace=namespace, next="2026-11-29T04:30:00Z")
    return Situation(NOW, 30, None, [task()], {"s1": [one]})


def down(state: State) -> ServiceState:
    return ServiceState("verifier", "verifies", state, NOW, 3, "it broke", 0)


@pytest.mark.parametrize(
    ("situation", "why"),
    [
        (at(), "no schedule"),
        (at(task()), "no schedule"),
        (at(task("FAILED")), "failed on 2026-11-01T00:00:10Z: a message"),
        (at(task("CANCELLED")), "was cancelled"),
        (at(task("queued", ended="")), "backlog: 1 verifications are queued or running"),
        (at(task("queued", ended="", store="s2")), "no schedule"),
        (at(task("running", ended="", store="s1:host/a")), "backlog"),
        (at(task(), verifier=down(State.RUNNING)), "no schedule"),
        (at(task(), verifier=down(State.FAILED)), "the verifier is failed: it broke"),
    ],
)
def test_why_nothing_was_verified(situation: Situation, why: str) -> None:
    assert why in situation.why("s1")


def test_the_rate_is_that_of_a_run_that_read_enough() -> None:
    assert at(task(size=1000)).rate("s1") == 0
    assert at(task(size=1000), task(size=1 << 30)).rate("s1") == (1 << 30) / 10
    assert at(task(size=1 << 30)).rate("s2") == 0


async def test_a_check_that_is_too_old_is_stale_and_says_why(house: House) -> None:
    store = await house.make_store()
    checked = SnapshotName.parse((await backup(store, {"etc.tree": [b"one"]})).snapshot)
    await backup(store, {"etc.tree": [b"two"]}, group="host/never")
    await verify_snapshot(store, checked)
    now = house.clock.now()

    async def rows(days_later: int, *, never: bool = False) -> dict[str, str]:
        moment = Situation(now + timedelta(days=days_later), 30, None, ())
        found = await outlook.reports(house.datastores, moment, never=never)
        assert all(bool(row.stale) == (row.result == "STALE") for row in found)
        return {row.snapshot.split("/")[1]: row.result for row in found}

    assert await rows(1) == {"web01": "OK"}
    assert await rows(1, never=True) == {"web01": "OK", "never": ""}
    assert await rows(31) == {"web01": "STALE", "never": "STALE"}
    assert await rows(-40) == {"web01": "STALE"}, "a clock was wrong: nobody knows when that was"


async def test_the_outlook_counts_and_forecasts(house: House) -> None:
    store = await house.make_store()
    await backup(store, {"etc.tree": [b"one"]})
    await backup(store, {"etc.tree": [b"two"]}, group="host/bad")
    for name in await store.snapshots.every():
        await verify_snapshot(store, name)
    manifest = next(Path(store.store.path).glob("ns/host/bad/*/manifest.json"))
    manifest.write_bytes(b"{")
    situation = Situation(house.clock.now(), 30, None, (task(size=1 << 30),))
    (row,) = await outlook.outlooks(house.datastores, situation)
    assert (row.snapshots, row.ok, row.corrupt, row.stale, row.fits) == (2, 1, 1, 0, True)
    assert row.text.startswith("fits: ")
    (blind,) = await outlook.outlooks(house.datastores, Situation(house.clock.now(), 30, None, ()))
    assert blind.fits is None
    assert "no rate is known yet" in blind.text


def test_what_does_not_fit_says_what_to_do() -> None:
    text = outlook._forecast(1 << 50, 1 << 20, (1 << 30), 30)
    assert text.startswith("does not fit: 1.0 PiB take")
    assert "--verify-window-days" in text


async def test_a_window_out_of_range(house: House) -> None:
    with pytest.raises(UsageError):
        await outlook.situation(house.tasks, None, NOW, 0)


def test_a_schedule_that_was_not_enough_is_told() -> None:
    said = "no verification ran in time: scheduled for Sun 04:30, the next is 2026-11-29T04:30:00Z"
    assert scheduled().why("s1") == said
    assert scheduled().why("s1", "a") == said
    assert scheduled("a").why("s1", "a") == said
    assert scheduled("a").why("s1").endswith("no schedule")
    assert scheduled().why("s2").endswith("no schedule")
