"""Jobs come to their hosts when they are due, once; what is odd is refused in words; retention is of their groups."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core.names import Group, Namespace
from ibs.core.retention import Policy
from ibs.engine.retention import effective
from ibs.engine.task import Task
from ibs.errors import ConflictError, DatastoreOffline, NotFoundError, UsageError
from ibs.services.jobs import JobDesk
from ibs.services.workqueue import WorkQueue
from ibs.wire.jobs import JobCreate, JobSpec, JobUpdate
from ibs.wire.lifecycle import PolicyBody, PruneRequest
from ibs.wire.system import BackupRun
from ibs_tests.unit.services.conftest import House

HOSTS = [("web01", ["web"], "shop"), ("web02", ["web"], ""), ("db01", ["db"], "shop"), ("node1", [], "")]


class Office:
    def __init__(self, house: House) -> None:
        self.house, self.ran, self.pruned = house, list[BackupRun](), list[tuple[str, PruneRequest]]()
        self.gate = trio.Event()
        self.gate.set()
        listed: Any = [SimpleNamespace(name=name, tags=tags, project=project) for name, tags, project in HOSTS]
        self.queue = WorkQueue(house.catalog.queue, house.tasks, self.work, clock=house.clock, slots=4)
        self.desk = JobDesk(
            house.catalog.jobs,
            self.queue,
            house.tasks,
            house.datastores,
            hosts=SimpleNamespace(list=lambda: listed),
            node="node1",
            clock=house.clock,
            publish=house.publish,
            prune=self.prune,
        )

    async def work(self, task: Task, run: BackupRun) -> str | None:
        await self.gate.wait()
        self.ran.append(run)
        await self.desk.after(task, run)
        return None

    async def prune(self, store: str, by: str, request: PruneRequest, may: None) -> str:
        self.pruned.append((store, request))
        return "UPID:prune"

    async def tick(self) -> None:
        await self.desk.run_due()
        await trio.testing.wait_all_tasks_blocked()

    def hosts(self) -> list[str]:
        return sorted(run.host or "node1" for run in self.ran)


@pytest.fixture
async def office(house: House, nursery: trio.Nursery) -> Office:
    await house.make_store("s1")
    made = Office(house)
    nursery.start_soon(made.queue.serve, trio.Event())
    return made


def spec(**more: Any) -> JobSpec:
    return JobSpec(**{"store": "s1", "sources": ["etc.tree:/etc"], **more})


@pytest.mark.parametrize(
    ("more", "wanted"),
    [
        ({}, ["node1"]),
        ({"hosts": ["db01", "gone"]}, ["db01", "gone"]),
        ({"tags": ["web"]}, ["web01", "web02"]),
        ({"projects": ["shop"]}, ["db01", "web01"]),
        ({"tags": ["web", "db"], "leave_out": ["*02"]}, ["db01", "web01"]),
        ({"tags": ["web"], "projects": ["shop"], "include": ["web*"]}, ["web01", "web02"]),
    ],
)
async def test_a_job_comes_to_the_hosts_it_means(
    office: Office, autojump_clock: MockClock, more: dict[str, Any], wanted: list[str]
) -> None:
    view = await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(**more)))
    assert view.comes_to == wanted
    upids = await office.desk.run("j")
    await trio.testing.wait_all_tasks_blocked()
    assert (len(upids), office.hosts()) == (len(wanted), wanted)
    assert {run.backup_id for run in office.ran} == set(wanted), "each host has its own group"
    assert (await office.desk.show("j")).last_states == dict.fromkeys(wanted, "OK")


async def test_a_due_run_happens_once_and_the_next_is_planned(office: Office, autojump_clock: MockClock) -> None:
    made = await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(schedule="*:0/10", tags=["web"])))
    await office.tick()
    assert office.ran == []
    assert made.next
    await trio.sleep(600)
    await office.tick()
    await office.tick()
    assert office.hosts() == ["web01", "web02"]
    shown = await office.desk.show("j")
    assert shown.next > made.next
    assert shown.last >= made.next
    await office.desk.update("op@ibs", "j", JobUpdate(enabled=False))
    await trio.sleep(1200)
    await office.tick()
    assert len(office.ran) == 2
    assert (await office.desk.show("j")).next == ""
    assert "job.changed" in office.house.kinds()


async def test_missed_runs_are_made_up_for_once_or_not(office: Office, autojump_clock: MockClock) -> None:
    await office.desk.create("op@ibs", JobCreate(name="yes", spec=spec(schedule="*:0/10")))
    await office.desk.create("op@ibs", JobCreate(name="no", spec=spec(schedule="*:0/10", catch_up=False)))
    await trio.sleep(3600 + 500)
    await office.tick()
    assert [run.job for run in office.ran] == ["yes"]


async def test_a_run_that_comes_while_one_waits_joins_it(office: Office, autojump_clock: MockClock) -> None:
    office.gate = trio.Event()
    office.queue.set_slots(1)
    await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(schedule="*:0/10")))
    for _ in range(3):
        await trio.sleep(600)
        await office.tick()
    (waiting,) = office.queue.waiting
    office.gate.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(office.ran) == 2
    assert any("is done by this task too" in line for line in await office.house.log(waiting.row.upid))


async def test_no_host_is_told_and_stays_due(office: Office, autojump_clock: MockClock) -> None:
    await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(schedule="*:0/10", tags=["nobody"])))
    await trio.sleep(600)
    await office.tick()
    await office.tick()
    assert (await office.desk.show("j")).trouble == "no host matches job j"
    assert office.house.kinds().count("job.trouble") == 1
    await office.desk.update("op@ibs", "j", JobUpdate(spec=spec(schedule="*:0/10", tags=["db"])))
    await trio.sleep(600)
    await office.tick()
    assert office.hosts() == ["db01"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"schedule": "dayly"}, "calendar expression 'dayly' is not valid"),
        ({"schedule": "2020-01-01"}, "never comes"),
        ({"schedule": "daily", "time_zone": "Mars"}, "time zone"),
        ({"sources": []}, "no source"),
        ({"sources": ["a.tree:relative"]}, "not an absolute path"),
        ({"window": ["22-6"]}, "time window"),
        ({"backup_id": "x", "tags": ["web"]}, "several hosts cannot write one group"),
        ({"retention": PolicyBody(timezone="Mars")}, "time zone"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_nothing_is_made(
    office: Office, autojump_clock: MockClock, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(**more)))
    assert list(await office.desk.list()) == []


async def test_names_stores_and_unknown_jobs(office: Office, autojump_clock: MockClock) -> None:
    with pytest.raises((NotFoundError, DatastoreOffline)):
        await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(store="other")))
    await office.desk.create("op@ibs", JobCreate(name="j", spec=spec()))
    with pytest.raises(ConflictError):
        await office.desk.create("op@ibs", JobCreate(name="j", spec=spec()))
    for work in (office.desk.show("x"), office.desk.run("x"), office.desk.remove("op@ibs", "x")):
        with pytest.raises(NotFoundError, match="no job x"):
            await work


async def test_retention_of_a_job_is_of_the_groups_it_wrote(office: Office, autojump_clock: MockClock) -> None:
    keep = PolicyBody(keep_last=3)
    await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(tags=["web"], namespace="a", retention=keep)))
    await office.desk.run("j")
    await trio.testing.wait_all_tasks_blocked()
    assert sorted(request.group for _, request in office.pruned) == ["host/web01", "host/web02"]
    retention = (await office.house.datastores.get("s1")).retention
    await retention.set(Namespace.parse("a"), Policy(keep_last=9), "op@ibs")
    record = await retention.record()
    mine = effective(record, Namespace.parse("a"), Group("host", "web01"))
    other = effective(record, Namespace.parse("a"), Group("host", "db01"))
    assert mine is not None
    assert other is not None
    assert (mine.policy.keep_last, mine.level, other.policy.keep_last) == (3, "job j", 9)
    await office.desk.remove("op@ibs", "j")
    assert (await retention.record()).groups == {}


async def test_the_calendar_has_what_was_and_what_comes(office: Office, autojump_clock: MockClock) -> None:
    await office.desk.create("op@ibs", JobCreate(name="j", spec=spec(schedule="daily", random_delay=600)))
    await trio.sleep(24 * 3600 + 700)
    await office.tick()
    rows = await office.desk.calendar(2)
    assert [row.state for row in rows] == ["OK", "planned", "planned"]
    assert rows[0].upid
    assert rows[1].time > rows[0].time
    with pytest.raises(UsageError, match="0 days"):
        await office.desk.calendar(0)
