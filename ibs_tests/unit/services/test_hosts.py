"""Backups on other hosts as tasks of the server: one task from order to end, and every way in which a host can fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import ConflictError, NotFoundError, RefusedError, UsageError
from ibs.runtime.settings import Settings
from ibs.security.access import AccessChecker
from ibs.security.identities import Identities
from ibs.services.hosts import Hosts
from ibs.services.hosts_book import HostBook
from ibs.services.sessions import Sessions
from ibs.wire.hosts import AgentEnd, AgentJoin, AgentOrders, AgentPoll, HostInvite, HostUpdate
from ibs.wire.session import LogLine, SessionOpen, StageReport
from ibs.wire.system import BackupRun
from ibs_tests.support.engine import Writer
from ibs_tests.unit.services.conftest import House

ROOT = "root@ibs!local"
TREE = {"etc.tree": [b"data", b"root"]}
RUN = BackupRun(store="s1", sources=["etc.tree:/etc"], host="web01", backup_id="web01")
OPEN = SessionOpen(store="s1", group="host/web01", archives=["etc.tree"], client_version="agent 1")


@dataclass
class Bench:
    house: House
    hosts: Hosts
    sessions: Sessions
    nursery: trio.Nursery
    stopping: trio.Event = field(default_factory=trio.Event)
    made: list[str] = field(default_factory=list)

    async def join(self, name: str = "web01") -> Agent:
        invited = await self.hosts.invite(ROOT, HostInvite(name=name), 8007)
        joined = await self.hosts.join("10.0.0.1", AgentJoin(name=name, token=invited.token, version="0.1"))
        return Agent(self, joined.auth_id)

    async def start(self, run: BackupRun = RUN) -> Task:
        task = await self.house.tasks.start(TaskType.BACKUP, f"s1:host/{run.host}", ROOT)
        self.nursery.start_soon(lambda: task.run(lambda task: self.hosts.run(task, run)))
        await trio.testing.wait_all_tasks_blocked()
        return task

    async def state(self, task: Task) -> tuple[str, str]:
        view = await self.house.tasks.get(task.upid)
        return view.state, view.message


@dataclass
class Agent:
    """A host's agent as the server meets it."""

    bench: Bench
    auth_id: str
    instance: str = "one"

    async def poll(self, *running: str) -> AgentOrders:
        poll = AgentPoll(instance=self.instance, version="0.1", system="Linux", running=[*running])
        return await self.bench.hosts.poll(self.auth_id, "10.0.0.1", poll, self.bench.stopping)

    async def attach(self, upid: str, request: SessionOpen = OPEN) -> Writer:
        opened = await self.bench.hosts.attach(self.bench.sessions, self.auth_id, upid, request)
        assert opened.upid == upid
        return Writer(self.bench.sessions.get(opened.session_id, self.auth_id))

    async def back_up(self, upid: str) -> None:
        writer = await self.attach(upid)
        for archive, chunks in TREE.items():
            await writer.archive(archive, chunks)
        await writer.commit()

    def end(self, upid: str, status: str = "OK", **more: Any) -> None:
        self.bench.hosts.end(self.auth_id, upid, AgentEnd(status=status, **more))

    def stay(self) -> trio.CancelScope:
        """Poll for ever, as a living agent does, with nothing in hand that it was not told to begin."""
        scope = trio.CancelScope()

        async def polling() -> None:
            running: list[str] = []
            with scope:
                while True:
                    orders = await self.poll(*running)
                    running = [*running, *(one.upid for one in orders.start)]
                    running = [upid for upid in running if upid not in orders.stop]

        self.bench.nursery.start_soon(polling)
        return scope


@pytest.fixture
async def bench(house: House, nursery: trio.Nursery) -> Bench:
    await house.make_store()
    access = AccessChecker(house.catalog.access, bytes(32), clock=house.clock, bus=house.bus)
    identities = Identities(house.catalog.access, access, bytes(32), clock=house.clock, bus=house.bus)
    book = HostBook(house.catalog.hosts, identities, bytes(32), clock=house.clock, node="node1", publish=house.publish)
    settings = Settings(Path("/nowhere"), None, node="node1")
    hosts = Hosts(book, settings, clock=house.clock, fingerprint="aa:bb", publish=house.publish)
    await hosts.load()
    made: list[str] = []
    sessions = Sessions(
        house.datastores,
        house.tasks,
        admit=lambda: None,
        spawn=nursery.start_soon,
        note_commit=lambda _uuid, snapshot: made.append(snapshot),
    )
    return Bench(house, hosts, sessions, nursery, made=made)


async def test_one_task_from_order_to_end(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    agent.stay()
    task = await bench.start()
    writer = await agent.attach(task.upid)
    report = StageReport(done_bytes=7, files=3, lines=[LogLine(level="warning", text="etc/x changed while read")])
    await writer.session.report(report)
    assert (task.record.figures.done_bytes, task.warnings) == (7, 1)
    await agent.back_up(task.upid)  # attached anew: the first session ends and nothing else
    agent.end(task.upid, message="3 files, all well")
    await trio.testing.wait_all_tasks_blocked()
    assert await bench.state(task) == ("WARNING", "3 files, all well")
    log = await bench.house.log(task.upid)
    assert "given to the agent of host web01, web01 0.1" in log
    assert any(line.startswith("backup to host/web01/") and line.endswith("by agent 1") for line in log)
    assert bench.made
    assert len(await bench.house.tasks.list()) == 1
    with pytest.raises(NotFoundError, match="is not given to this agent"):
        await agent.attach(task.upid)


async def test_a_snapshot_is_a_snapshot_whatever_becomes_of_the_agent(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    scope = agent.stay()
    task = await bench.start()
    await agent.back_up(task.upid)
    scope.cancel()
    await trio.sleep(30)
    state, message = await bench.state(task)
    assert (state, message.startswith("snapshot host/web01/")) == ("OK", True)


async def test_a_silent_agent_loses_its_task_after_the_grace(bench: Bench, autojump_clock: MockClock) -> None:
    agent, other = await bench.join(), await bench.join("db01")
    scope = agent.stay()
    other.stay()
    task = await bench.start()
    writer = await agent.attach(task.upid)
    going_on = await bench.start(BackupRun(store="s1", sources=["etc.tree:/etc"], host="db01", backup_id="db01"))
    scope.cancel()
    await trio.sleep(59)
    assert (await bench.state(task))[0] == "running"
    await trio.sleep(2)
    assert await bench.state(task) == (
        "FAILED",
        "source unreachable: host web01, agent web01 0.1, last contact 2026-01-01T00:00:00Z",
    )
    assert "hint: on the host: systemctl status ironcore-backup-agent" in "\n".join(await bench.house.log(task.upid))
    assert writer.session.state == "interrupted"
    assert "task.ended" in bench.house.kinds()
    assert (await bench.state(going_on))[0] == "running"  # other hosts' jobs go on
    again = await bench.start()
    assert (await bench.state(again))[0] == "FAILED"  # no second wait for an agent known to be silent
    agent.instance = "two"
    agent.stay()
    await trio.testing.wait_all_tasks_blocked()
    third = await bench.start()
    assert (await bench.state(third))[0] == "running"  # it is used again by itself


async def test_an_agent_that_comes_back_in_time_goes_on(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    scope = agent.stay()
    task = await bench.start()
    await agent.attach(task.upid)
    scope.cancel()
    await trio.sleep(50)
    agent.instance = "restarted"
    agent.stay()
    await trio.sleep(50)
    await agent.back_up(task.upid)
    agent.end(task.upid, message="done")
    await trio.testing.wait_all_tasks_blocked()
    assert (await bench.state(task))[1] == "done"
    assert any("was started anew" in line for line in await bench.house.log(task.upid))


async def test_an_agent_hears_that_its_session_has_ended(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    await agent.poll()
    task = await bench.start()
    await agent.poll()
    writer = await agent.attach(task.upid)
    assert (await agent.poll(task.upid)).again == []
    await writer.session.interrupt("no sign of the client for 120 seconds")
    assert (await agent.poll(task.upid)).again == [task.upid]
    writer = await agent.attach(task.upid)
    assert (await agent.poll(task.upid)).again == []
    await writer.session.abort("given up by the client")
    assert (await agent.poll(task.upid)).again == []  # it knows
    agent.end(task.upid, "FAILED", message="no")
    await trio.testing.wait_all_tasks_blocked()
    assert await bench.state(task) == ("FAILED", "no")


async def test_a_host_that_joins_again_takes_its_task_up(bench: Bench, autojump_clock: MockClock) -> None:
    old = await bench.join()
    scope = old.stay()
    task = await bench.start()
    invited = await bench.hosts.invite(ROOT, HostInvite(name="web01", again=True), 8007)
    await bench.hosts.join("10.0.0.2", AgentJoin(name="web01", token=invited.token))
    scope.cancel()
    new = Agent(bench, old.auth_id, instance="new")
    new.stay()
    await trio.sleep(100)  # longer than the grace: it counts for the new one
    await new.back_up(task.upid)
    new.end(task.upid, message="done")
    await trio.testing.wait_all_tasks_blocked()
    assert (await bench.state(task))[1] == "done"
    assert bench.hosts.get("web01").running == []


async def test_stop_reaches_the_host_and_ends_the_session(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    await agent.poll()
    task = await bench.start()
    assert [one.upid for one in (await agent.poll()).start] == [task.upid]
    writer = await agent.attach(task.upid)
    await bench.house.tasks.stop(task.upid)
    await trio.testing.wait_all_tasks_blocked()
    assert await bench.state(task) == ("CANCELLED", "stopped on request")
    assert writer.session.state == "interrupted"
    assert (await agent.poll(task.upid)).stop == [task.upid]
    agent.end(task.upid, "CANCELLED")  # too late, and harmless


@pytest.mark.parametrize(
    ("end", "state", "message"),
    [
        (AgentEnd(status="FAILED", message="no", code="refused", hint="allow it"), "FAILED", "no"),
        (AgentEnd(status="FAILED"), "FAILED", "the backup on host web01 ended without a snapshot"),
        (AgentEnd(status="CANCELLED", message="stopped there"), "CANCELLED", "stopped there"),
        (AgentEnd(status="OK"), "FAILED", "the backup on host web01 ended without a snapshot"),
    ],
)
async def test_what_the_agent_says_is_the_end(
    bench: Bench, autojump_clock: MockClock, end: AgentEnd, state: str, message: str
) -> None:
    agent = await bench.join()
    agent.stay()
    task = await bench.start()
    bench.hosts.end(agent.auth_id, task.upid, end)
    await trio.testing.wait_all_tasks_blocked()
    assert await bench.state(task) == (state, message)
    if end.hint:
        assert "hint: allow it" in await bench.house.log(task.upid)


async def test_an_agent_reaches_its_own_tasks_and_place_only(bench: Bench, autojump_clock: MockClock) -> None:
    agent, other = await bench.join(), await bench.join("db01")
    agent.stay()
    task = await bench.start()
    with pytest.raises(NotFoundError, match="is not given to this agent"):
        await other.attach(task.upid)
    for place in (
        SessionOpen(store="s2", group="host/web01", archives=["etc.tree"]),
        SessionOpen(store="s1", group="host/db01", archives=["etc.tree"]),
        SessionOpen(store="s1", group="host/web01", archives=["etc.tree"], namespace="a"),
        SessionOpen(store="s1", group="host/web01", archives=["home.tree"]),
    ):
        with pytest.raises(RefusedError, match="not the place that the task names"):
            await agent.attach(task.upid, place)
    with pytest.raises(RefusedError, match="is not the agent of a host"):
        bench.hosts.end("root@ibs!local", task.upid, AgentEnd(status="OK"))
    with pytest.raises(UsageError):
        agent.end(task.upid, "fine")
    assert (await bench.state(task))[0] == "running"


async def test_hosts_that_cannot_be_asked(bench: Bench, autojump_clock: MockClock) -> None:
    await bench.hosts.invite(ROOT, HostInvite(name="new"), 8007)
    never = await bench.start(BackupRun(store="s1", sources=["etc.tree:/etc"], host="new"))
    assert await bench.state(never) == ("FAILED", "source unreachable: host new, agent new, last contact never")
    unknown = await bench.start(BackupRun(store="s1", sources=["etc.tree:/etc"], host="nobody"))
    assert await bench.state(unknown) == ("FAILED", "no host nobody")


async def test_the_server_backs_itself_up(bench: Bench, autojump_clock: MockClock) -> None:
    seen: list[str] = []

    async def local(task: Task, run: BackupRun) -> str | None:
        await trio.lowlevel.checkpoint()
        seen.append(run.host)
        return "made here"

    bench.hosts.serve_locally(local)
    for host in ("", "node1"):
        task = await bench.start(BackupRun(store="s1", sources=["etc.tree:/etc"], host=host))
        assert await bench.state(task) == ("OK", "made here")
    assert seen == ["", "node1"]


async def test_views(bench: Bench, autojump_clock: MockClock) -> None:
    bench.nursery.start_soon(bench.hosts.watch)
    agent = await bench.join()
    await bench.hosts.invite(ROOT, HostInvite(name="new", tags=["b", "a"]), 8007)
    scope = agent.stay()
    task = await bench.start()
    await trio.sleep(3)
    own, new, web = bench.hosts.list()
    assert (own.name, own.built_in, own.state) == ("node1", True, "online")
    assert (new.name, new.state, new.tags, bool(new.invited_until)) == ("new", "never joined", ["a", "b"], True)
    assert (web.state, web.version, web.running, web.address) == ("online", "0.1", [task.upid], "10.0.0.1")
    assert bench.hosts.get("node1") == own
    with pytest.raises(ConflictError, match="has 1 tasks in hand"):
        await bench.hosts.remove(ROOT, "web01")
    scope.cancel()
    await trio.sleep(15)
    assert bench.hosts.get("web01").state == "silent"
    assert [kind for kind in bench.house.kinds() if kind in {"host.online", "host.silent"}] == [
        "host.online",
        "host.silent",
    ]
    await trio.sleep(60)
    await bench.hosts.remove(ROOT, "web01")
    with pytest.raises(RefusedError):
        await agent.poll()
    for change in (bench.hosts.remove(ROOT, "node1"), bench.hosts.update(ROOT, "node1", HostUpdate())):
        with pytest.raises(ConflictError, match="is the server itself"):
            await change


async def test_a_stopping_server_keeps_no_poll(bench: Bench, autojump_clock: MockClock) -> None:
    agent = await bench.join()
    await agent.poll()
    bench.nursery.start_soon(_set_later, bench.stopping)
    began = trio.current_time()
    await agent.poll()
    assert trio.current_time() - began == 1


async def _set_later(event: trio.Event) -> None:
    await trio.sleep(1)
    event.set()
