"""Rebuilding the index from the store: online, one that is damaged anew, and what cannot be read is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from ibs.engine.modes import Mode
from ibs.engine.reindex import PREFIXES, reindex_online
from ibs.errors import UnderMaintenance
from ibs.ports.chunkstore import ChunkState
from ibs_tests.support.engine import Box, address_of, backup, read, start
from ibs_tests.unit.engine.test_datastores import World


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(tmp_path)
    yield world
    for datastores in world.started:
        await datastores.close()


async def test_what_the_index_did_not_know_is_set_right(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    result = await backup(datastore, {"etc.tree": [b"one", b"two", b"three"]})
    datastore.store._db.remove([address_of(b"one")])
    box.chunk_path(address_of(b"two")).unlink()
    steps: list[tuple[int, int]] = []
    done = await reindex_online(datastore, lambda *at: steps.append(at))
    assert (done.index.files, done.index.added, done.index.missing) == (2, 1, 1)
    assert steps[-1] == (PREFIXES, PREFIXES)
    assert done.text == "2 chunk files looked at: 1 added, 1 marked missing; 1 snapshots read, 0 damaged"
    states = [info.state for info in datastore.store.info([address_of(b"one"), address_of(b"two")])]
    assert states == [ChunkState.DURABLE, ChunkState.ABSENT]
    (Path(box.path) / "ns" / result.snapshot / "etc.tree.idx").unlink()
    again = await reindex_online(datastore, lambda *_: None)
    assert again.index.fixed == 0
    assert len(again.damaged) == 1
    assert result.snapshot in again.damaged[0]
    box.close()


async def test_a_damaged_index_is_made_anew_and_backups_go_on_after_it(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    datastore = await datastores.get("s1")
    result = await backup(datastore, {"etc.tree": [b"one", b"two"]})
    writer = await start(datastore, group="host/other")
    await writer.send(b"three")
    datastore.store._db.damage = lambda: "row 7 missing from index"  # type: ignore[method-assign]
    told: list[str] = []
    done = await datastores.reindex("s1", told.append, lambda *_: None)
    assert "row 7 missing" in told[0]
    assert (done.index.files, done.index.fixed) == (3, 0)
    fresh = await datastores.get("s1")
    assert fresh is not datastore
    assert fresh.store.recovered.index_rebuilt
    assert await read(fresh, result.snapshot, "etc.tree") == [b"one", b"two"]
    assert (await start(fresh, group="host/other")).session.opened.resumed_chunks == 1


async def test_an_index_too_damaged_for_opening_is_made_anew(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    chunks = [number.to_bytes(8, "big") for number in range(500)]
    result = await backup(await datastores.get("s1"), {"etc.tree": chunks})
    await datastores.close()
    path = world.path / "s1/.ibs/chunks.db"
    path.write_bytes(path.read_bytes()[:4096] + bytes(path.stat().st_size - 4096))
    later = await world.start()
    told: list[str] = []
    done = await later.reindex("s1", told.append, lambda *_: None)
    assert len(told) <= 1  # opening may have cured it already
    assert (done.index.files, done.index.fixed) == (500, 0)
    assert await read(await later.get("s1"), result.snapshot, "etc.tree") == chunks


async def test_a_read_only_datastore_is_not_repaired(world: World) -> None:
    datastores = await world.start()
    await datastores.create("s1", str(world.path / "s1"))
    await datastores.maintain("s1", "root@ibs", Mode.READ_ONLY)
    with pytest.raises(UnderMaintenance, match="it takes no repair"):
        await datastores.reindex("s1", lambda _: None, lambda *_: None)
    await datastores.maintain("s1", "root@ibs", Mode.NORMAL)
    await datastores.quarantine("s1", "root@ibs")
    assert (await datastores.reindex("s1", lambda _: None, lambda *_: None)).snapshots == 0
