"""The desks: a session is found by whoever opened it, wherever it is, and its life is its task's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from ibs.core import limits
from ibs.errors import NotFoundError, RefusedError, SessionLost, UnavailableError, UsageError
from ibs.services.sessions import Readers, Sessions
from ibs.wire.reader import ReaderClose, ReaderOpen
from ibs.wire.session import LogLine, SessionOpen, StageReport
from ibs_tests.support.engine import OTHER, OWNER, Writer, backup
from ibs_tests.unit.services.conftest import House

TREE = {"etc.tree": [b"data", b"root"]}


class Desk:
    """Both desks with a nursery of the test."""

    def __init__(self, house: House, nursery: trio.Nursery) -> None:
        self.made: list[tuple[str, str]] = []
        self.open = True

        def spawn(work: Callable[[], Awaitable[object]]) -> None:
            nursery.start_soon(work)

        more: dict[str, Any] = {"admit": self.admit, "spawn": spawn}
        self.sessions = Sessions(house.datastores, house.tasks, note_commit=self.note, **more)
        self.readers = Readers(house.datastores, house.tasks, **more)

    def note(self, uuid: str, snapshot: str) -> None:
        self.made.append((uuid, snapshot))

    def admit(self) -> None:
        if not self.open:
            raise UnavailableError("the server is stopping")


def request(store: str = "s1", **changes: Any) -> SessionOpen:
    return SessionOpen(**({"store": store, "group": "host/web01", "archives": ["etc.tree"]} | changes))


async def finish(writer: Writer) -> None:
    for archive, chunks in TREE.items():
        await writer.archive(archive, chunks)


async def test_a_backup_from_open_to_commit_is_one_task(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store, desk = await house.make_store(), Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request(client_version="test 1"))
    task = await house.tasks.get(opened.upid)
    assert (task.state, task.type, task.id, task.auth_id) == ("running", "backup", "s1:host/web01", OWNER)
    session = desk.sessions.get(opened.session_id, OWNER)
    await session.report(StageReport(done_bytes=5, files=2, lines=[LogLine(level="warning", text="a file changed")]))
    writer = Writer(session)
    await finish(writer)
    result = await desk.sessions.commit(opened.session_id, OWNER, writer.request())
    assert desk.made == [(store.uuid, result.snapshot)]
    task = await house.tasks.get(opened.upid)
    assert (task.state, task.done_bytes, task.warnings) == ("WARNING", 5, 1)
    log = await house.log(opened.upid)
    assert log[0] == f"backup to {opened.snapshot} by test 1"
    assert log[-1] == "TASK WARNING: 1"
    again = await desk.sessions.commit(opened.session_id, OWNER, writer.request())
    assert again.snapshot == result.snapshot


async def test_a_commit_is_answered_again_by_a_server_that_knows_the_session_no_more(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    await house.make_store("s0")
    await house.make_store()
    desk = Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request())
    writer = Writer(desk.sessions.get(opened.session_id, OWNER))
    await finish(writer)
    stated = writer.request()
    first = await desk.sessions.commit(opened.session_id, OWNER, stated)
    await house.datastores.close()
    for name in ("s0", "s1"):
        await house.datastores.probe(name)
    fresh = Desk(house, nursery)
    assert (await fresh.sessions.commit(opened.session_id, OWNER, stated)).snapshot == first.snapshot
    with pytest.raises(SessionLost):
        await fresh.sessions.commit("0" * 32, OTHER, stated)


async def test_only_the_opener_finds_it_and_other_desks_find_it_too(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    await house.make_store("s0")
    await house.make_store()
    desk = Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request())
    with pytest.raises(SessionLost):
        desk.sessions.get(opened.session_id, OTHER)
    assert Desk(house, nursery).sessions.get(opened.session_id, OWNER).session_id == opened.session_id
    with pytest.raises(SessionLost, match="no such"):
        desk.sessions.get("0" * 32, OWNER)


async def test_a_session_that_cannot_open_leaves_a_failed_task(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store, desk = await house.make_store(), Desk(house, nursery)
    await backup(store, TREE)
    with pytest.raises(RefusedError):
        await desk.sessions.open("s1", OTHER, request())
    [task] = await house.tasks.list()
    assert (task.state, task.auth_id) == ("FAILED", OTHER)
    with pytest.raises(UsageError, match="names 's1'"):
        await desk.sessions.open("s1", OWNER, request("s2"))
    with pytest.raises(NotFoundError):
        await desk.sessions.open("s2", OWNER, request("s2"))
    assert len(await house.tasks.list()) == 1


async def test_stopping_the_task_ends_the_session(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    await house.make_store()
    desk = Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request())
    await house.tasks.stop(opened.upid)
    await trio.testing.wait_all_tasks_blocked()
    with pytest.raises(SessionLost, match="stopped on request"):
        desk.sessions.get(opened.session_id, OWNER)
    assert (await house.tasks.get(opened.upid)).state == "CANCELLED"


@pytest.mark.parametrize(
    ("reason", "state"), [("cancelled", "CANCELLED"), ("no space: /x has no free bytes", "FAILED")]
)
async def test_a_client_that_gives_up_says_why(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery, reason: str, state: str
) -> None:
    await house.make_store()
    desk = Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request())
    await desk.sessions.get(opened.session_id, OWNER).abort(reason)
    task = await house.tasks.get(opened.upid)
    assert (task.state, task.message) == (state, reason)


async def test_a_silent_client_loses_its_session_and_the_next_one_resumes(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store, desk = await house.make_store(), Desk(house, nursery)
    opened = await desk.sessions.open("s1", OWNER, request())
    await Writer(desk.sessions.get(opened.session_id, OWNER)).send(b"data")
    await trio.sleep(limits.SESSION_IDLE_SECONDS_MAX + 1)
    await store.expire()
    assert (await house.tasks.get(opened.upid)).state == "FAILED"
    again = await desk.sessions.open("s1", OWNER, request())
    assert again.resumed_chunks == 1
    await desk.sessions.get(again.session_id, OWNER).abort("cancelled")
    assert "left 1 chunks that need not be sent again" in "".join(await house.log(again.upid))


async def test_a_stopping_server_admits_nobody(house: House, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    await house.make_store()
    desk = Desk(house, nursery)
    desk.open = False
    with pytest.raises(UnavailableError, match="stopping"):
        await desk.sessions.open("s1", OWNER, request())
    with pytest.raises(UnavailableError, match="stopping"):
        await desk.readers.open("s1", OWNER, ReaderOpen(snapshot="host/web01"), everything=True)


async def test_reading_is_a_task_with_figures(house: House, autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    store, desk = await house.make_store(), Desk(house, nursery)
    made = await backup(store, TREE)
    opened = await desk.readers.open("s1", OWNER, ReaderOpen(snapshot="host/web01"), everything=False)
    assert opened.snapshot == made.snapshot
    reader = desk.readers.get(opened.reader_id, OWNER)
    index = await reader.file("etc.tree.idx")
    blobs = await reader.fetch([index[256:288]])
    assert (await house.tasks.get(opened.upid)).done_bytes == len(blobs[0])
    with pytest.raises(UsageError, match="status 'GOOD'"):
        await desk.readers.close(opened.reader_id, OWNER, ReaderClose(status="GOOD"))
    await desk.readers.close(opened.reader_id, OWNER, ReaderClose(status="WARNING", warnings=3))
    task = await house.tasks.get(opened.upid)
    assert (task.type, task.state, task.warnings) == ("restore", "WARNING", 3)
    with pytest.raises(SessionLost):
        desk.readers.get(opened.reader_id, OWNER)


async def test_stopping_a_restore_ends_its_reader_and_others_groups_are_not_found(
    house: House, autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    store, desk = await house.make_store(), Desk(house, nursery)
    await backup(store, TREE)
    opened = await desk.readers.open("s1", OWNER, ReaderOpen(snapshot="host/web01"), everything=True)
    await house.tasks.stop(opened.upid)
    await trio.testing.wait_all_tasks_blocked()
    assert (await house.tasks.get(opened.upid)).state == "CANCELLED"
    with pytest.raises(NotFoundError):
        await desk.readers.open("s1", OTHER, ReaderOpen(snapshot="host/web01"), everything=False)
    assert (await house.tasks.list(auth_id=OTHER))[0].state == "FAILED"
