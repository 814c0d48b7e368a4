"""Deleting what nothing refers to, and never anything else (P5)."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from ibs.core.keys import DataKeys
from ibs.core.names import SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.datastore import Datastore
from ibs.engine.session import discard as module
from ibs.errors import ChunkNotFound, FormatError, IbsError
from ibs.ports.chunkstore import Address, ChunkState
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import OWNER, Box, Writer, address_of, backup, key_registry, read, start

KEYS = DataKeys.from_root(b"\7" * 32)


async def interrupted(datastore: Datastore, *chunks: bytes, group: str = "host/gone", **options: object) -> Writer:
    """A session that delivered `chunks` and ended."""
    writer = await start(datastore, group=group, **options)  # type: ignore[arg-type]
    await writer.send(*chunks)
    await writer.session.abort("gone")
    return writer


def there(datastore: Datastore, *chunks: bytes) -> list[bool]:
    infos = datastore.store.info([address_of(data) for data in chunks])
    return [info.state is not ChunkState.ABSENT for info in infos]


async def test_chunks_nobody_else_has_go_with_their_session(datastore: Datastore) -> None:
    writer = await interrupted(datastore, b"a", b"b")
    gone = await datastore.sessions.discard(writer.session.session_id)
    assert (gone.sessions, gone.chunks) == (1, 2)
    assert gone.bytes == len(writer.blob(b"a")) + len(writer.blob(b"b"))
    assert there(datastore, b"a", b"b") == [False, False]


async def test_promoted_chunks_go_too(box: Box, datastore: Datastore) -> None:
    await interrupted(datastore, b"a")
    datastore.store.barrier()
    datastore = await box.kill(datastore)
    await datastore.cleanup()
    assert list(datastore.store.iterate()) == []


async def test_chunks_of_a_snapshot_stay(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"shared", b"meta"], "disk.img": [b"block", b""]})
    await interrupted(datastore, b"shared", b"block", b"alone")
    await datastore.cleanup()
    assert there(datastore, b"shared", b"block", b"alone") == [True, True, False]
    assert await read(datastore, result.snapshot, "etc.tree") == [b"shared", b"meta"]


async def test_chunks_of_open_and_of_other_interrupted_sessions_stay(datastore: Datastore) -> None:
    live = await start(datastore)
    await live.send(b"live")
    other = await interrupted(datastore, b"other", group="host/other")
    writer = await interrupted(datastore, b"live", b"other", b"alone")
    await datastore.sessions.discard(writer.session.session_id)
    assert there(datastore, b"live", b"other", b"alone") == [True, True, False]
    await datastore.sessions.discard(other.session.session_id)
    assert there(datastore, b"live", b"other") == [True, False]
    await live.archive("etc.tree", [b"live"], send=False)
    await live.commit()


async def test_two_discards_at_once_leave_nothing(datastore: Datastore) -> None:
    first, second = await start(datastore, group="host/a"), await start(datastore, group="host/b")
    for writer in (first, second):
        await writer.send(b"in both")
        await writer.session.abort("stopped")
    async with trio.open_nursery() as nursery:
        for writer in (first, second):
            nursery.start_soon(datastore.sessions.discard, writer.session.session_id)
    assert list(datastore.store.iterate()) == []


async def test_chunks_of_a_pinned_base_stay_when_its_snapshot_is_gone(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"based", b"meta"]})
    live = await start(datastore)
    datastore.store.snapshots.remove(result.snapshot)
    await interrupted(datastore, b"based", b"alone")
    await datastore.cleanup()
    assert there(datastore, b"based", b"alone") == [True, False]
    await live.append("etc.tree", [b"based", b"meta"])


async def test_chunks_under_a_read_lease_stay_when_the_snapshot_is_gone(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": [b"leased", b"meta"]})
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    datastore.store.snapshots.remove(result.snapshot)
    writer = await interrupted(datastore, b"leased", b"alone")
    await datastore.cleanup()
    assert there(datastore, b"leased", b"alone") == [True, False]
    assert await reader.fetch([writer.id(b"leased")]) == [writer.blob(b"leased")]


async def test_domains_do_not_protect_each_other(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    secret = await interrupted(datastore, b"same", keys=KEYS)
    await backup(datastore, {"etc.tree": [b"same", b"meta"]})
    await datastore.cleanup()
    assert there(datastore, b"same") == [True]
    assert datastore.store.info([Address(KEYS.fingerprint, secret.id(b"same"))])[0].state is ChunkState.ABSENT


@pytest.mark.parametrize("damage", ["index", "manifest", "lost index", "lease", "base"])
async def test_what_cannot_be_read_keeps_everything(box: Box, datastore: Datastore, damage: str) -> None:
    """Unreadable means abort, never absent."""
    result = await backup(datastore, {"etc.tree": [b"shared", b"meta"]})
    live = await start(datastore)
    reader = await datastore.readers.open(OWNER, ReaderOpen(snapshot=result.snapshot), everything=True)
    root = Path(box.path)
    path = {
        "index": root / "ns" / result.snapshot / "etc.tree.idx",
        "manifest": root / "ns" / result.snapshot / "manifest.json",
        "lost index": root / "ns" / result.snapshot / "etc.tree.idx",
        "lease": root / ".ibs" / "leases" / reader.reader_id / "etc.tree.idx",
        "base": root / "staging" / live.session.session_id / "base-etc.tree.idx",
    }[damage]
    await interrupted(datastore, b"shared", b"alone")
    good = path.read_bytes()
    path.unlink()
    if damage != "lost index":
        path.write_bytes(good[:-8])
    with pytest.raises(FormatError):
        await datastore.cleanup()
    assert there(datastore, b"shared", b"alone") == [True, True]
    assert len(datastore.sessions.interrupted_sessions) == 1
    path.unlink(missing_ok=True)
    path.write_bytes(good)
    await datastore.cleanup()
    assert there(datastore, b"shared", b"alone") == [True, False]


# --- races, at every place where another session can step in ---


class Racing:
    """Runs `act` once, just before the deletion of the first batch, when references have been read already."""

    def __init__(self, datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
        self.marked = False
        real = module._mark

        def mark(context: StoreContext, *args: object) -> object:
            alive = real(context, *args)  # type: ignore[arg-type]
            self.act()
            return alive

        monkeypatch.setattr(module, "_mark", mark)

    def act(self) -> None:
        self.marked = True


async def test_a_chunk_acknowledged_while_it_is_being_deleted_stays(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await interrupted(datastore, b"raced", b"alone")
    live = await start(datastore)
    race = Racing(datastore, monkeypatch)
    race.act = lambda: live.session._ingest.receive([live.blob(b"raced")])  # type: ignore[method-assign]
    await datastore.cleanup()
    assert there(datastore, b"raced", b"alone") == [True, False]
    await live.archive("etc.tree", [b"raced"], send=False)
    await live.commit()


async def test_a_chunk_committed_while_it_is_being_deleted_stays(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sent, committed and out of the journals again between the marking and the deletion."""
    await interrupted(datastore, b"raced", b"alone")
    real = datastore.context.gate.delete
    made: list[str] = []

    async def slip_in() -> None:
        result = await backup(datastore, {"etc.tree": [b"raced", b"meta"]})
        made.append(result.snapshot)

    original = datastore.context.pool

    class Pool:
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if work == real and not made:
                made.append("under way")
                await slip_in()
            return await original.disk(work, *args)

        cpu = original.cpu

    object.__setattr__(datastore.context, "pool", Pool())
    await datastore.cleanup()
    assert there(datastore, b"raced", b"alone") == [True, False]
    assert await read(datastore, made[1], "etc.tree") == [b"raced", b"meta"]


async def test_a_base_pinned_while_its_chunks_are_being_deleted_keeps_them(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshot goes before it is marked, but a session has taken it as its base just in time."""
    result = await backup(datastore, {"etc.tree": [b"based", b"meta"]})
    await interrupted(datastore, b"based")
    real = module.protected_ids
    sessions: list[Writer] = []

    original = datastore.context.pool

    class Pool:
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if work == real_mark and not sessions:
                found = list(real(datastore.context, skip=()))  # journals were read before the session came
                assert found
                sessions.append(await start(datastore))
                datastore.store.snapshots.remove(result.snapshot)
                monkeypatch.setattr(module, "protected_ids", lambda *_, **__: iter(()))
            return await original.disk(work, *args)

        cpu = original.cpu

    real_mark = module._mark
    object.__setattr__(datastore.context, "pool", Pool())
    await datastore.cleanup()
    assert there(datastore, b"based") == [True]
    await sessions[0].append("etc.tree", [b"based"])


async def test_chunks_inherited_while_they_are_being_deleted_stay(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal moves from one folder to another just while the folders are being read, and is seen in neither."""
    await interrupted(datastore, b"moved", group="host/web01")
    await interrupted(datastore, b"moved", group="host/gone")
    doomed = [
        session_id
        for session_id, one in datastore.sessions.interrupted_sessions.items()
        if one.facts is not None and str(one.facts.name.group) == "host/gone"
    ]
    original, heirs = datastore.context.pool, []

    class Pool:
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if work == module._mark and not heirs:
                heirs.append(await start(datastore))
                monkeypatch.setattr(module, "protected_ids", lambda *_, **__: iter(()))
            return await original.disk(work, *args)

        cpu = original.cpu

    object.__setattr__(datastore.context, "pool", Pool())
    await datastore.sessions.discard(doomed[0])
    assert there(datastore, b"moved") == [True]
    await heirs[0].append("etc.tree", [b"moved"])


async def test_a_journal_of_unknown_domain_protects_in_every_domain(box: Box, datastore: Datastore) -> None:
    torn = await interrupted(datastore, b"shared", group="host/torn")
    writer = await interrupted(datastore, b"shared", b"alone")
    datastore.store.staging.folder(torn.session.session_id).write("session.json", b"{")
    await datastore.sessions.discard(writer.session.session_id)
    assert there(datastore, b"shared", b"alone") == [True, False]


async def test_an_interrupted_session_is_not_resumed_while_it_is_discarded(datastore: Datastore) -> None:
    await interrupted(datastore, b"a", group="host/web01")
    original = datastore.context.pool
    opened: list[Writer] = []

    class Pool:
        async def disk(self, work, *args):  # type: ignore[no-untyped-def]
            if work == module._mark and not opened:
                opened.append(await start(datastore))
            return await original.disk(work, *args)

        cpu = original.cpu

    object.__setattr__(datastore.context, "pool", Pool())
    await datastore.cleanup()
    assert opened[0].session.opened.resumed_chunks == 0
    assert there(datastore, b"a") == [False]


async def test_a_discard_that_is_stopped_half_way_goes_on_later(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ibs.core.limits.DISCARD_BATCH_CHUNKS", 2)
    await interrupted(datastore, *[bytes([number]) for number in range(7)])
    real, calls = datastore.store.discard, 0

    def failing(addresses: list[Address]) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise IbsError("the disk is gone")
        return real(addresses)

    with monkeypatch.context() as patched:
        patched.setattr(datastore.store, "discard", failing)
        with pytest.raises(IbsError):
            await datastore.cleanup()
    assert len(list(datastore.store.iterate())) == 3
    assert len(datastore.sessions.interrupted_sessions) == 1
    datastore = await box.kill(datastore)
    await datastore.cleanup()
    assert list(datastore.store.iterate()) == []


# --- what no journal names ---


async def test_received_chunks_without_a_journal_go_at_clean_up(datastore: Datastore) -> None:
    live = await start(datastore)
    await live.send(b"live")
    datastore.store.put(address_of(b"orphan"), live.blob(b"orphan"))
    assert await datastore.find_unreferenced() == [address_of(b"orphan")]
    await datastore.cleanup()
    assert there(datastore, b"live", b"orphan") == [True, False]


async def test_find_unreferenced_sees_every_kind_of_reference(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    await backup(datastore, {"etc.tree": [b"a", b"b"]}, namespace="x/y")
    await backup(datastore, {"disk.img": [b"c", b""]}, keys=KEYS)
    await (await start(datastore, group="host/open")).send(b"d")
    await interrupted(datastore, b"e", keys=KEYS)
    assert await datastore.find_unreferenced() == []
    datastore.store.snapshots.remove(
        str((await datastore.snapshots.list(SnapshotName.parse("ns:x/y/host/web01").namespace))[0])
        .removeprefix("ns:x/y/")
        .join(["@x/@y/", ""])
    )
    assert set(await datastore.find_unreferenced()) == {address_of(b"a"), address_of(b"b")}


async def test_bad_files_of_a_dead_session_go(box: Box, datastore: Datastore) -> None:
    await interrupted(datastore, b"rotten")
    datastore.store.barrier()
    box.spoil(b"rotten")
    with pytest.raises(Exception, match="CORRUPT"):
        datastore.store.get(address_of(b"rotten"))
    await datastore.cleanup()
    assert not list((Path(box.path) / "chunks").rglob("*.bad"))
    with pytest.raises(ChunkNotFound):
        datastore.store.get(address_of(b"rotten"))


# --- what was delivered in vain ---


async def test_chunks_sent_in_vain_are_kept_for_discarding(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"in vain")
    await writer.archive("etc.tree", [b"data", b"meta"])
    result = await writer.commit()
    assert there(datastore, b"in vain") == [True]
    assert await datastore.find_unreferenced() == []
    facts = datastore.sessions.interrupted_sessions[writer.session.session_id].facts
    assert facts is not None
    assert facts.leftover
    folder = datastore.store.staging.folder(writer.session.session_id)
    assert folder.names() == ["pins.journal", "session.json"]
    assert folder.read("pins.journal") == writer.id(b"in vain")
    datastore = await box.kill(datastore)
    assert (await start(datastore)).session.opened.resumed_chunks == 0  # else it would be carried on for ever
    await datastore.cleanup()
    assert there(datastore, b"in vain", b"data") == [False, True]
    assert await read(datastore, result.snapshot, "etc.tree") == [b"data", b"meta"]


async def test_a_leftover_expires(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.send(b"in vain")
    await writer.archive("etc.tree", [b"meta"])
    await writer.commit()
    box.clock.advance(24 * 3600 + 1)
    await datastore.expire()
    assert there(datastore, b"in vain", b"meta") == [False, True]
    assert datastore.store.staging.names() == []


async def test_inherited_chunks_that_are_not_used_are_not_forgotten(datastore: Datastore) -> None:
    await interrupted(datastore, b"the file has changed since", group="host/web01")
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    await datastore.cleanup()
    assert there(datastore, b"the file has changed since") == [False]
    assert datastore.store.staging.names() == []


async def test_a_killed_commit_is_settled_at_opening(box: Box, datastore: Datastore) -> None:
    """Killed after the manifest and before the tidying, with chunks sent in vain."""
    writer = await start(datastore)
    await writer.send(b"in vain")
    await writer.archive("etc.tree", [b"data", b"meta"])
    folder = datastore.store.staging.folder(writer.session.session_id)
    saved = {name: folder.read(name) for name in folder.names()}
    await writer.commit()
    for name, content in saved.items():
        folder.write(name, content)
    datastore = await box.kill(datastore)
    facts = datastore.sessions.interrupted_sessions[writer.session.session_id].facts
    assert facts is not None
    assert facts.leftover
    await datastore.cleanup()
    assert there(datastore, b"in vain", b"data", b"meta") == [False, True, True]


async def test_a_killed_commit_whose_index_rotted_is_not_resumed(box: Box, datastore: Datastore) -> None:
    writer = await start(datastore)
    await writer.archive("etc.tree", [b"data", b"meta"])
    folder = datastore.store.staging.folder(writer.session.session_id)
    saved = {name: folder.read(name) for name in folder.names()}
    result = await writer.commit()
    again = datastore.store.staging.create(writer.session.session_id)
    for name, content in saved.items():
        again.write(name, content)
    (Path(box.path) / "ns" / result.snapshot / "etc.tree.idx").write_bytes(b"rotten")
    datastore = await box.kill(datastore)
    assert (await start(datastore)).session.opened.resumed_chunks == 0
    assert there(datastore, b"data") == [True]
