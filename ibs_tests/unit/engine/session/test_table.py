"""The table: one session a group, leases, who finds what, recovery, closing."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.engine.session.facts import SESSION_FILE, SessionState
from ibs.errors import BusyError, NotFoundError, SessionLost
from ibs.runtime.pool import ThreadPool
from ibs_tests.support.engine import OTHER, OWNER, Box, backup, read, start

CONTENT = [b"data", b"meta"]


async def test_a_second_session_of_a_group_is_told_who_is_at_work(box: Box, datastore: Datastore) -> None:
    await start(datastore)
    box.clock.advance(10)
    with pytest.raises(BusyError, match=f"UPID:{OWNER}") as caught:
        await start(datastore)
    assert caught.value.details["upid"] == f"UPID:{OWNER}"
    assert caught.value.details["retry_after_seconds"] == limits.SESSION_SUPERSEDE_IDLE_SECONDS - 10
    await start(datastore, group="host/db01")  # other groups are not held up
    await start(datastore, namespace="a")


async def test_a_silent_session_of_the_same_identity_is_taken_over(box: Box, datastore: Datastore) -> None:
    first = await start(datastore)
    await first.send(b"a")
    box.clock.advance(limits.SESSION_SUPERSEDE_IDLE_SECONDS)
    second = await start(datastore)
    assert second.session.opened.resumed_chunks == 1
    assert second.session.facts.name.time > first.session.facts.name.time
    with pytest.raises(SessionLost, match="superseded"):
        await first.send(b"b")


async def test_a_session_whose_client_broke_off_is_taken_over_at_once(datastore: Datastore) -> None:
    first = await start(datastore)
    first.session.lose_peer()
    await first.send(b"it was only the network")
    with pytest.raises(BusyError):
        await start(datastore)
    first.session.lose_peer()
    await datastore.expire()
    assert first.session.state is SessionState.OPEN
    with pytest.raises(BusyError):
        await start(datastore, auth_id=OTHER)
    second = await start(datastore)
    assert second.session.opened.resumed_chunks == 1


async def test_a_silent_session_of_another_identity_is_not(box: Box, datastore: Datastore) -> None:
    await start(datastore)
    box.clock.advance(limits.SESSION_SUPERSEDE_IDLE_SECONDS + 50)
    with pytest.raises(BusyError):
        await start(datastore, auth_id=OTHER)


async def test_a_session_with_a_call_under_way_is_not_silent(box: Box) -> None:
    gate, inside = trio.Event(), trio.Event()

    class Pool(ThreadPool):
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if getattr(work, "__name__", "") == "receive":
                inside.set()
                await gate.wait()
            return await super().disk(work, *args)

    box.pool = Pool()
    datastore = await box.open()
    writer = await start(datastore)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.send, b"slow")
        await inside.wait()
        box.clock.advance(limits.SESSION_IDLE_SECONDS_MAX + 1)
        with pytest.raises(BusyError):
            await start(datastore)
        await datastore.sessions.expire()
        assert writer.session.state is SessionState.OPEN
        gate.set()


async def test_sessions_are_limited(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSIONS_PER_STORE_MAX", 3)
    writers = [await start(datastore, group=f"host/h{number}") for number in range(3)]
    with pytest.raises(BusyError, match="backups running"):
        await start(datastore, group="host/h9")
    await writers[0].session.abort("done")
    await start(datastore, group="host/h9")


async def test_what_nobody_will_resume_goes_at_the_next_expiry(datastore: Datastore) -> None:
    kept, given_up = [await start(datastore, group=f"host/h{number}") for number in range(2)]
    for writer, discard in ((kept, False), (given_up, True)):
        await writer.send(b"chunk of " + writer.session.session_id.encode())
        await writer.session.abort("done", discard=discard)
    await datastore.sessions.expire()
    assert list(datastore.sessions.interrupted_sessions) == [kept.session.session_id]


async def test_only_the_opener_finds_a_session(datastore: Datastore) -> None:
    writer = await start(datastore)
    session_id = writer.session.session_id
    assert datastore.sessions.get(session_id, OWNER) is writer.session
    for session, auth_id in ((session_id, OTHER), ("f" * 32, OWNER), ("../x", OWNER)):
        with pytest.raises(SessionLost, match="no such"):
            datastore.sessions.get(session, auth_id)
    await writer.session.abort("power button")
    with pytest.raises(SessionLost, match="power button"):
        datastore.sessions.get(session_id, OWNER)
    with pytest.raises(SessionLost, match="no such"):
        datastore.sessions.get(session_id, OTHER)


async def test_results_are_remembered_for_a_bounded_number(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSIONS_FINISHED_KEPT", 2)
    ids = []
    for number in range(3):
        writer = await start(datastore, group=f"host/h{number}")
        await writer.archive("etc.tree", CONTENT)
        await writer.commit()
        ids.append(writer.session.session_id)
    with pytest.raises(SessionLost):
        datastore.sessions.get(ids[0], OWNER)
    assert datastore.sessions.get(ids[2], OWNER).state is SessionState.COMMITTED


async def test_leases_expire_and_what_they_kept_goes_later(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"data")
    box.clock.advance(limits.SESSION_IDLE_SECONDS_MAX)
    await datastore.expire()
    assert writer.session.state is SessionState.OPEN
    box.clock.advance(1)
    await datastore.expire()
    assert writer.session.state is SessionState.INTERRUPTED
    assert len(datastore.sessions.interrupted_sessions) == 1
    box.clock.advance(limits.INTERRUPTED_SESSION_KEEP_SECONDS)
    await datastore.expire()
    assert len(datastore.sessions.interrupted_sessions) == 1
    box.clock.advance(1)
    await datastore.expire()
    assert datastore.sessions.interrupted_sessions == {}
    assert list(datastore.store.iterate()) == []
    assert datastore.store.staging.names() == []


async def test_any_call_keeps_the_lease(box: Box, datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CONTENT})
    writer = await start(datastore)
    session = writer.session
    for call in (
        lambda: writer.send(b"x"),
        lambda: session.base_available("etc.tree"),
        session.resumed_ids,
        lambda: session.base_chunk(writer.id(b"data")),
        lambda: writer.append("etc.tree", [b"data"]),
        lambda: session.put_blob("a", b""),
    ):
        box.clock.advance(100)
        await call()
        await datastore.expire()
    assert session.state is SessionState.OPEN


async def test_a_discard_that_fails_is_told_and_tried_again(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = await backup(datastore, {"etc.tree": CONTENT}, group="host/db01")
    index = Path(box.path) / "ns" / result.snapshot / "etc.tree.idx"
    good = index.read_bytes()
    index.write_bytes(good[:100])
    writer = await start(datastore)
    await writer.send(b"litter")
    await writer.session.abort("next")
    box.clock.advance(limits.INTERRUPTED_SESSION_KEEP_SECONDS + 1)
    await datastore.expire()
    assert "datastore.discard-failed" in box.kinds()
    assert len(datastore.sessions.interrupted_sessions) == 1
    index.write_bytes(good)
    await datastore.expire()
    assert datastore.sessions.interrupted_sessions == {}


async def test_discard_of_what_is_not_interrupted(datastore: Datastore) -> None:
    writer = await start(datastore)
    for session_id in (writer.session.session_id, "f" * 32):
        with pytest.raises(NotFoundError):
            await datastore.sessions.discard(session_id)
    await writer.send(b"still works")


async def test_recovery_keeps_what_can_be_resumed(box: Box, datastore: Datastore) -> None:
    for group in ("host/a", "host/b"):
        await (await start(datastore, group=group)).send(b"data of " + group.encode())
    datastore = await box.kill(datastore)
    assert len(datastore.sessions.interrupted_sessions) == 2
    writer = await start(datastore, group="host/a")
    assert writer.session.opened.resumed_chunks == 1


async def test_recovery_recognises_a_session_that_was_committed(box: Box, datastore: Datastore) -> None:
    """Killed between the manifest and the tidying: the folder goes, the snapshot and its chunks stay."""
    writer = await start(datastore)
    await writer.archive("etc.tree", CONTENT)
    folder = datastore.store.staging.folder(writer.session.session_id)
    saved = {name: folder.read(name) for name in folder.names()}
    result = await writer.commit()
    again = datastore.store.staging.create(writer.session.session_id)
    for name, content in saved.items():
        again.append(name, content)
    datastore = await box.kill(datastore)
    assert datastore.sessions.interrupted_sessions == {}
    assert datastore.store.staging.names() == []
    assert await read(datastore, result.snapshot, "etc.tree") == CONTENT


@pytest.mark.parametrize("torn", [b"", b"{", b'{"format": 1}'])
async def test_a_session_with_a_torn_record_can_only_be_discarded(box: Box, datastore: Datastore, torn: bytes) -> None:
    writer = await start(datastore)
    await writer.send(b"data")
    datastore.store.close(clean=False)
    (Path(box.path) / "staging" / writer.session.session_id / SESSION_FILE).write_bytes(torn)
    datastore = await box.open()
    assert (await start(datastore)).session.opened.resumed_chunks == 0
    assert await datastore.find_unreferenced() == []  # its journal still protects, whatever the domain
    gone = await datastore.cleanup()
    assert (gone.sessions, gone.chunks) == (1, 1)


async def test_litter_in_staging_is_discarded(box: Box, datastore: Datastore) -> None:
    datastore.store.staging.create("something-else")
    datastore = await box.kill(datastore)
    assert (await datastore.cleanup()).sessions == 1
    assert datastore.store.staging.names() == []


async def test_closing_interrupts_and_refuses(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"data")
    await datastore.close("the server stops")
    with pytest.raises(SessionLost, match="the server stops"):
        await writer.send(b"more")
    with pytest.raises(BusyError, match="takes no backups"):
        await start(datastore)
    datastore = await box.open()
    assert (await start(datastore)).session.opened.resumed_chunks == 1


async def test_closing_lets_a_commit_finish(box: Box) -> None:
    gate, inside = trio.Event(), trio.Event()

    class Pool(ThreadPool):
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if getattr(work, "__name__", "") == "_publish":
                inside.set()
                await gate.wait()
            return await super().disk(work, *args)

    box.pool = Pool()
    datastore = await box.open()
    writer = await start(datastore)
    await writer.archive("etc.tree", CONTENT)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.commit)
        await inside.wait()
        nursery.start_soon(datastore.close, "the server stops")
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    datastore = await box.open()
    assert len(await datastore.snapshots.every()) == 1
