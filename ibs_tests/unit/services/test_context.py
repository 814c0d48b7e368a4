"""What routes see of the server: status in the roles' order, and questions that reach the right actor."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ibs.errors import NotFoundError, UsageError
from ibs.runtime.settings import Settings
from ibs.runtime.stall import StallDetector
from ibs.services.context import ROLES, Endpoint, ServerContext
from ibs.wire.datastore import VerifyStart
from ibs.wire.gc import GcStart, GcUndo
from ibs.wire.system import BackupRun
from ibs_tests.unit.services.conftest import House
from ibs_tests.unit.services.test_roster import seated


def context_of(house: House) -> ServerContext:
    roles = seated(house)
    nobody: Any = None
    return ServerContext(
        settings=Settings(Path("/nowhere"), None, node="node1"),
        clock=house.clock,
        pool=house.pool,
        bus=house.bus,
        started=house.clock.now(),
        certificates=SimpleNamespace(context=None, certificate=SimpleNamespace(fingerprint="aa:bb")),  # type: ignore[arg-type]
        endpoint=Endpoint("::1", 8007),
        api_stopping=trio.Event(),
        access=nobody,
        identities=nobody,
        roles=nobody,
        realms=nobody,
        logins=nobody,
        keys=nobody,
        signer="5e" * 32,
        remotes=nobody,
        copying=nobody,
        sync_jobs=nobody,
        datastores=house.datastores,
        sessions=nobody,
        readers=nobody,
        hosts=nobody,
        upkeep=nobody,
        lifecycle=nobody,
        pruning=nobody,
        plans=roles.plans,
        jobs=roles.jobs,
        tasks=house.tasks,
        inbox_table=house.catalog.inbox,
        supervisor=house.supervisor,
        stalls=StallDetector(lambda *_: None),
        metrics=nobody,
        scheduler=roles.scheduler,
        worker=roles.worker,
        verifier=roles.verifier,
        gc=roles.gc,
        sync=roles.sync,
        pid=4711,
        uptime=lambda: 12.3456,
        audit=nobody,
        support=nobody,
        sla=nobody,
        notifications=nobody,
    )


async def test_status_lists_the_roles_in_their_order(house: House, autojump_clock: MockClock) -> None:
    context = context_of(house)
    async with house.running():
        status = context.status()
        assert [service.role for service in status.services] == list(ROLES)
        assert status.services[0].unit == "ironcore-backup-api"
        assert {service.state for service in status.services} == {"active (running)"}
        assert (status.listen, status.node, status.pid, status.uptime_seconds) == ("[::1]:8007", "node1", 4711, 12.346)
        context.inject_fault("gc")
        await trio.testing.wait_all_tasks_blocked()
        broken = {service.role: service for service in context.status().services}["gc"]
        assert (broken.state, broken.last_error) == ("activating (auto-restart)", "InjectedFault: asked for")
        with pytest.raises(NotFoundError):
            context.inject_fault("nobody")
        context.restart_service("sync")
        context.restart_service("api")  # a little later: it has to answer first
        await trio.testing.wait_all_tasks_blocked()
        assert [house.state(role).restarts for role in ("sync", "api")] == [1, 0]
        await trio.sleep(1)
        assert house.state("api").restarts == 1


async def test_questions_reach_their_actors(house: House, autojump_clock: MockClock) -> None:
    await house.make_store()
    context = context_of(house)
    async with house.running():
        assert (await context.worker_status()).slots == 3
        assert (await context.set_worker_slots(2)).slots == 2
        assert len(await context.timetable()) == 6
        assert await context.verify_status() == []
        for upid in (
            await context.start_verify("a@ibs", "s1", VerifyStart()),
            await context.start_cleanup("a@ibs", "s1"),
            await context.start_gc("a@ibs", "s1", GcStart()),
        ):
            await trio.sleep(1)
            assert (await house.tasks.get(upid)).state == "OK"
        assert [status.state for status in await context.gc_status("")] == ["idle"]
        with pytest.raises(NotFoundError):
            await context.undo_gc("a@ibs", "s1", GcUndo())
        with pytest.raises(NotFoundError):
            await context.steer_gc("s1", pause=True)
        with pytest.raises(UsageError):
            await context.start_backup("a@ibs", BackupRun(store="s1", sources=[]))
        await house.catalog.inbox.add(
            time_ns=1_700_000_000_123_456_789, severity="error", source="system", kind="x.y", text="t", fields={"a": 1}
        )
        [row] = [row for row in await context.inbox(50) if row.text == "t"]
        assert (row.time, row.severity, row.fields) == ("2023-11-14T22:13:20Z", "error", {"a": 1})
        assert row in await context.inbox(50, "warning", "system")
        assert row not in await context.inbox(50, "critical")
        assert row not in await context.inbox(50, "", "backup")
        for words in (("loud", ""), ("", "nowhere")):
            with pytest.raises(UsageError):
                await context.inbox(50, *words)


def test_an_endpoint_is_written_for_people() -> None:
    assert str(Endpoint()) == ""
    assert str(Endpoint("127.0.0.1", 1)) == "127.0.0.1:1"
