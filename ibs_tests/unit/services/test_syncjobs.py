"""Sync jobs: what is refused, when they run, and that none runs twice at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from ibs.core.retention import Policy
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.task import Task
from ibs.errors import BusyError, DatastoreOffline, IbsError, NotFoundError, UsageError
from ibs.security.secrets import load_secrets
from ibs.services.remotes import Remotes
from ibs.services.syncjobs import SyncJobs
from ibs.wire.remotes import RemoteSet
from ibs.wire.session import StageFigures
from ibs.wire.sync import PullStart, SyncCreate, SyncSpec, SyncUpdate
from ibs_tests.unit.services.conftest import House

SPEC = SyncSpec(remote="b", source="far", store="s1", schedule="*:0/10")
_NS = 1_000_000_000


@dataclass
class Pulls:
    """Starts tasks that end when the test says so."""

    house: House
    began: list[tuple[str, str, PullStart]] = field(default_factory=list)
    last: Task | None = None
    error: IbsError | None = None

    async def pull(self, auth_id: str, store: str, request: PullStart) -> str:
        if self.error is not None:
            raise self.error
        self.began.append((auth_id, store, request))
        self.last = await self.house.tasks.start(TaskType.SYNC, "x", auth_id)
        return self.last.upid

    async def end(self, state: TaskState, message: str = "") -> None:
        assert self.last is not None
        self.last.advance(TaskState.RUNNING)
        await self.last.finish(state, message)


@pytest.fixture
async def desk(house: House, tmp_path: Path) -> SyncJobs:
    await house.make_store()
    remotes = Remotes(house.catalog.remotes, load_secrets(tmp_path), clock=house.clock, publish=house.publish)
    await remotes.create(
        RemoteSet(
            name="b", host="127.0.0.1", port=1, auth_id="s@ibs!t", secret="x" * 20, fingerprint=":".join(["ab"] * 32)
        )
    )
    return desk_of(house, remotes)


def desk_of(house: House, remotes: Remotes) -> SyncJobs:
    return SyncJobs(
        house.catalog.sync_jobs,
        Pulls(house),
        remotes,
        house.tasks,
        house.datastores,
        clock=house.clock,
        publish=house.publish,
    )


def pulls_of(desk: SyncJobs) -> Pulls:
    pulls = desk._copying
    assert isinstance(pulls, Pulls)
    return pulls


async def due(desk: SyncJobs, house: House, name: str = "n") -> None:
    """As if its time had come."""
    row = await house.catalog.sync_jobs.get(name)
    await house.catalog.sync_jobs.plan(row, house.clock.now_ns() - _NS)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"groups": ["host"]}, UsageError),
        ({"types": ["disk"]}, UsageError),
        ({"schedule": "sometimes"}, UsageError),
        ({"time_zone": "Mars/North"}, UsageError),
        ({"namespace": "../x"}, UsageError),
        ({"source": "../users"}, UsageError),
        ({"store": "nowhere"}, NotFoundError),
        ({"remote": "nobody"}, NotFoundError),
        ({"accept_vanished": True}, UsageError),
        ({"keep": Policy(keep_weekly=-1)}, UsageError),
    ],
    ids=str,
)
async def test_what_makes_no_sense_is_not_kept(
    desk: SyncJobs, house: House, change: dict[str, object], kind: type[IbsError]
) -> None:
    with pytest.raises(kind):
        await desk.create("a@ibs", SyncCreate(name="n", spec=msgspec.structs.replace(SPEC, **change)))
    assert await desk.list() == []


async def test_a_loss_over_there_is_accepted_for_one_run_only(desk: SyncJobs, house: House) -> None:
    pulls = pulls_of(desk)
    await desk.create("a@ibs", SyncCreate(name="n", spec=SPEC))
    with pytest.raises(UsageError, match="removes nothing"):
        await desk.start("n", accept_vanished=True)
    spec = msgspec.structs.replace(SPEC, remove_vanished=True)
    await desk.update("a@ibs", "n", SyncUpdate(spec=spec))
    await desk.start("n", accept_vanished=True)
    assert pulls.began[-1][2] == msgspec.structs.replace(spec, accept_vanished=True)
    assert (await desk.show("n")).spec == spec
    await pulls.end(TaskState.OK, "")
    await desk.start("n")
    assert pulls.began[-1][2] == spec


async def test_one_run_at_a_time(desk: SyncJobs, house: House) -> None:
    pulls = pulls_of(desk)
    made = await desk.create("a@ibs", SyncCreate(name="n", spec=SPEC, enabled=False))
    assert (made.next, made.last, made.state) == ("", "", "")
    upid = await desk.start("n")
    assert pulls.began == [("root@ibs", "s1", SPEC)]
    with pytest.raises(BusyError, match="under way"):
        await desk.start("n")
    assert pulls.last is not None
    pulls.last.progress(stages={"pull": StageFigures(items=3, bytes=1000)})
    status = await desk.status("n")
    assert (status.upid, status.chunks, status.bytes, status.last_error) == (upid, 3, 1000, "")
    assert status.rate > 0
    assert status.free_bytes_here
    assert status.free_bytes_remote is None
    assert status.remote_trouble, "nobody listens there"
    await pulls.end(TaskState.FAILED, "the line broke")
    status = await desk.status("n")
    assert (status.state, status.last_error) == ("FAILED", "the line broke")
    await desk.start("n")
    assert len(pulls.began) == 2


async def test_due_runs_begin_by_themselves_and_wait_for_the_one_before(desk: SyncJobs, house: House) -> None:
    pulls = pulls_of(desk)
    assert (await desk.create("a@ibs", SyncCreate(name="n", spec=SPEC))).next
    await desk.run_due()
    assert not pulls.began, "its time has not come"
    await due(desk, house)
    await desk.run_due()
    await desk.run_due()
    assert len(pulls.began) == 1
    await due(desk, house)
    await desk.run_due()
    assert len(pulls.began) == 1, "the last one is still under way"
    await pulls.end(TaskState.OK)
    await desk.run_due()
    assert len(pulls.began) == 2
    await pulls.end(TaskState.OK)
    await desk.update("a@ibs", "n", SyncUpdate(enabled=False))
    await due(desk, house)
    await desk.run_due()
    assert len(pulls.began) == 2, "it is disabled"
    await desk.remove("a@ibs", "n")
    with pytest.raises(NotFoundError):
        await desk.show("n")
    assert house.kinds().count("sync.changed") == 3


async def test_what_cannot_begin_stays_due_and_is_told_once(desk: SyncJobs, house: House) -> None:
    pulls = pulls_of(desk)
    await desk.create("a@ibs", SyncCreate(name="n", spec=SPEC))
    await due(desk, house)
    pulls.error = DatastoreOffline("s1", "its disk is away")
    await desk.run_due()
    await desk.run_due()
    assert house.kinds().count("sync.trouble") == 1
    assert "its disk is away" in (await desk.show("n")).trouble
    assert "its disk is away" in (await desk.status("n")).last_error
    pulls.error = None
    await desk.run_due()
    assert len(pulls.began) == 1
    assert (await desk.show("n")).trouble == ""
