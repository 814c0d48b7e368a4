"""All seven roles sit, start, and survive the death of each; the timetable's messages reach their owners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.control.listener import Address
from ibs.runtime.settings import Settings
from ibs.security.access import AccessChecker
from ibs.services.context import ROLES
from ibs.services.roster import CatalogMemory, Parts, Roster, seat_roles, timetable
from ibs.services.scheduler import Timetable, next_run
from ibs.services.worker import WorkerStatus
from ibs_tests.unit.services.conftest import House


async def serve_api(stopping: trio.Event, task_status: trio.TaskStatus[Any]) -> None:
    task_status.started(Address("127.0.0.1", 8007))
    await stopping.wait()


def seated(house: House) -> Roster:
    access = AccessChecker(house.catalog.access, bytes(32), clock=house.clock, bus=house.bus)
    return seat_roles(
        house.supervisor,
        Parts(
            Settings(Path("/nowhere"), None, worker_slots=3, node="node1"),
            house.clock,
            house.pool,
            house.bus,
            house.catalog,
            house.tasks,
            house.datastores,
            access,
            serve_api,
            lambda _bound: None,
        ),
    )


async def test_every_role_sits_with_its_duty(house: House, autojump_clock: MockClock) -> None:
    roles = seated(house)
    async with house.running():
        states = house.supervisor.states()
        assert sorted(state.role for state in states) == sorted(ROLES)
        assert states[-1].role == "api"  # it answers once the others are there
        assert all(state.duty and str(state.state) == "active (running)" for state in states)
        assert (await roles.worker.ask(WorkerStatus())).slots == 3


@pytest.mark.parametrize("role", ROLES)
async def test_any_role_may_die_without_the_others_noticing(house: House, autojump_clock: MockClock, role: str) -> None:
    roles = seated(house)
    async with house.running():
        before = {state.role: state for state in house.supervisor.states()}
        await house.kill(role)
        for state in house.supervisor.states():
            if state.role != role:
                assert (state.since, state.restarts) == (before[state.role].since, 0)
        assert house.state(role).restarts == 1
        assert [run.owner for run in await roles.scheduler.ask(Timetable())] == [
            "sync",
            "sync",
            "gc",
            "worker",
            "gc",
            "gc",
        ]


async def test_the_timetable_works_for_a_day(house: House, autojump_clock: MockClock) -> None:
    await house.make_store()
    roles = seated(house)
    async with house.running():
        await trio.sleep(24 * 3600 + 60)
        runs = {run.name: run for run in await roles.scheduler.ask(Timetable())}
        assert all(run.last is not None for run in runs.values())
        assert all(state.restarts == 0 for state in house.supervisor.states())
        assert [task.id for task in await house.tasks.list(type="gc")] == ["s1"], "collected once, by its schedule"
    [row] = [row for row in await CatalogMemory(house.catalog.timetable).load() if row.job == "housekeeping"]

    assert row.last_run_ns is not None


async def test_every_expression_of_the_timetable_is_valid(house: House, autojump_clock: MockClock) -> None:
    roles = seated(house)
    for job in timetable(roles.gc, roles.sync, roles.worker):
        assert next_run(job.when, house.clock.now()) > house.clock.now()
