"""The recycle bin: forget, undo, grace, protection, and what a deletion under way may not miss."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.ids import PLAIN_DOMAIN, chunk_id
from ibs.core.index import IdLookup
from ibs.core.manifest import SnapshotState, decode_mark
from ibs.core.modes import ModeRecord, Quarantine
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.references import protected_ids
from ibs.engine.session.discard import find_unreferenced, sweep
from ibs.engine.session.journal import id_array
from ibs.errors import BusyError, ConflictError, FormatError, NotFoundError, Quarantined, RefusedError
from ibs_tests.support.engine import OTHER, OWNER, Box, address_of, backup, read, snapshot_of

CHUNKS = [b"a", b"meta"]


async def made(datastore: Datastore, **options: object) -> SnapshotName:
    return snapshot_of(await backup(datastore, {"etc.tree": CHUNKS}, **options))


async def test_forgotten_and_undone_it_is_as_before(datastore: Datastore) -> None:
    name = await made(datastore)
    entry = await datastore.bin.put(name, "root@ibs", "too old")
    assert (entry.snapshot, entry.owner, entry.by, entry.why) == (name, OWNER, "root@ibs", "too old")
    assert await datastore.snapshots.every() == []
    assert list(await datastore.bin.entries()) == [entry]
    with pytest.raises(NotFoundError):
        await datastore.bin.put(name, "root@ibs")
    assert await datastore.bin.undo(str(name)) == name
    assert list(await datastore.bin.entries()) == []
    assert await read(datastore, str(name), "etc.tree") == CHUNKS
    assert await datastore.snapshots.owner(name.namespace, name.group) == OWNER


async def test_what_is_in_the_bin_keeps_its_chunks_and_what_left_it_does_not(datastore: Datastore) -> None:
    name = await made(datastore)
    await datastore.bin.put(name, "root@ibs")
    assert [part.by for part in protected_ids(datastore.context)] == [f"{name} in the bin, etc.tree"]
    assert find_unreferenced(datastore.context) == []
    ids = id_array(b"".join(chunk_id(data) for data in CHUNKS))
    assert (await sweep(datastore.context, PLAIN_DOMAIN, ids, skip=())).chunks == 0
    await datastore.bin.purge(str(name))
    assert set(find_unreferenced(datastore.context)) == {address_of(data) for data in CHUNKS}
    with pytest.raises(NotFoundError):
        await datastore.bin.undo(str(name))


async def test_the_grace_is_counted_by_the_stores_clock(box: Box, datastore: Datastore) -> None:
    name = await made(datastore)
    entry = await datastore.bin.put(name, "root@ibs")
    box.clock.advance(limits.BIN_GRACE_SECONDS - 1)
    await datastore.expire()
    assert len(await datastore.bin.entries()) == 1
    due = datastore.bin.due(entry)
    assert due is not None
    assert (due - box.clock.now()).total_seconds() == 1
    box.clock.advance(1)
    await datastore.expire()
    assert list(await datastore.bin.entries()) == []


async def test_nothing_expires_in_a_frozen_or_quarantined_store(box: Box, datastore: Datastore) -> None:
    await datastore.bin.put(await made(datastore), "root@ibs")
    box.clock._start_ns -= 7200 * 10**9
    assert datastore.context.time.frozen
    box.clock.advance(limits.BIN_GRACE_SECONDS + 10)
    assert await datastore.bin.expire() == 0
    datastore.context.time.confirm("root@ibs")
    box.clock.advance(limits.BIN_GRACE_SECONDS + 10)
    datastore.context.modes.set(ModeRecord(quarantine=Quarantine(reason="x", since="", by="")))
    assert await datastore.bin.expire() == 0
    with pytest.raises(Quarantined):
        await datastore.bin.purge((await datastore.bin.entries())[0].entry)
    datastore.context.modes.set(ModeRecord())
    assert await datastore.bin.expire() == 1


async def test_a_protected_snapshot_cannot_be_forgotten(datastore: Datastore) -> None:
    name = await made(datastore)
    datastore.context.folders.change_state(name, lambda _: SnapshotState(protected=True))
    with pytest.raises(RefusedError, match="is protected"):
        await datastore.bin.put(name, "root@ibs")
    datastore.store.snapshots.write_state(str(name), b"nonsense")
    with pytest.raises(RefusedError, match="cannot be told"):
        await datastore.bin.put(name, "root@ibs")
    assert len(await datastore.snapshots.every()) == 1


async def test_it_does_not_come_back_into_a_group_of_somebody_else(box: Box, datastore: Datastore) -> None:
    name = await made(datastore)
    await datastore.bin.put(name, "root@ibs")
    box.clock.advance(60)
    other = await made(datastore, auth_id=OTHER)
    with pytest.raises(ConflictError, match=OTHER):
        await datastore.bin.undo(str(name))
    await datastore.bin.put(other, "root@ibs")
    await datastore.bin.undo(str(name))
    assert await datastore.snapshots.owner(name.namespace, name.group) == OWNER


async def test_a_deletion_under_way_hears_of_what_is_forgotten(datastore: Datastore) -> None:
    name = await made(datastore)
    ids = id_array(b"".join(chunk_id(data) for data in CHUNKS))
    with datastore.context.gate.watching(PLAIN_DOMAIN, IdLookup(ids)) as watch:
        await datastore.bin.put(name, "root@ibs")
        assert watch.promised == {chunk_id(data) for data in CHUNKS}


async def test_a_damaged_snapshot_is_not_moved_while_chunks_are_deleted(box: Box, datastore: Datastore) -> None:
    name = await made(datastore)
    folder = f"{box.path}/ns/{name}"
    with open(f"{folder}/etc.tree.idx", "r+b") as file:
        file.write(b"x")
    ids = id_array(chunk_id(b"a"))
    with datastore.context.gate.watching(PLAIN_DOMAIN, IdLookup(ids)), pytest.raises(BusyError):
        await datastore.bin.put(name, "root@ibs")
    await datastore.bin.put(name, "root@ibs")
    with pytest.raises(FormatError):
        list(protected_ids(datastore.context))
    await datastore.bin.undo(str(name))


async def test_a_lost_record_keeps_the_entry_for_ever(box: Box, datastore: Datastore) -> None:
    name = await made(datastore)
    entry = await datastore.bin.put(name, "root@ibs")
    with open(f"{box.path}/.ibs/bin/{entry.entry}/bin.json", "wb") as file:
        file.write(b"nonsense")
    box.clock.advance(limits.BIN_GRACE_SECONDS * 10)
    await datastore.expire()
    (left,) = await datastore.bin.entries()
    assert (left.snapshot, left.forgotten, left.owner, left.due) == (name, None, OWNER, None)
    assert datastore.bin.due(left) is None
    await datastore.bin.undo(entry.entry)
    assert await datastore.snapshots.every() == [name]


async def test_whoever_keeps_count_of_snapshots_is_told(box: Box, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore = await box.open()
    told: list[tuple[str, bool]] = []
    object.__setattr__(datastore.context, "moved", lambda _uuid, name, appeared: told.append((name, appeared)))
    name = await made(datastore)
    await datastore.bin.put(name, "root@ibs")
    await datastore.bin.undo(str(name))
    assert told == [(str(name), False), (str(name), True)]


async def test_neither_number_nor_time_of_what_left_is_given_again(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, {"etc.tree": CHUNKS})
    second = await backup(datastore, {"etc.tree": CHUNKS})
    name = SnapshotName.parse(second.snapshot)
    before = (await datastore.snapshots.load(name)).manifest.sequence
    await datastore.bin.put(name, "root@ibs")
    third = await backup(datastore, {"etc.tree": CHUNKS})  # in the same second: the clock of these tests stands still
    assert third.snapshot not in {first.snapshot, second.snapshot}
    stored = await datastore.snapshots.load(SnapshotName.parse(third.snapshot))
    assert stored.manifest.sequence == before + 1
    await datastore.bin.undo(second.snapshot)
    assert [str(one) for one in await datastore.snapshots.every()] == [first.snapshot, second.snapshot, third.snapshot]


async def test_a_mark_that_cannot_be_read_is_no_obstacle(box: Box, datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": CHUNKS})
    await datastore.bin.put(SnapshotName.parse(result.snapshot), "root@ibs")
    mark = Path(box.path, "ns/host/web01/last.json")
    mark.write_bytes(b"{torn")
    again = await backup(datastore, {"etc.tree": CHUNKS})
    await datastore.bin.put(SnapshotName.parse(again.snapshot), "root@ibs")
    assert decode_mark(mark.read_bytes()).time
