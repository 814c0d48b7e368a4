"""One open datastore from opening to closing."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.engine.datastore import Datastore
from ibs.errors import DatastoreOffline
from ibs_tests.support.engine import Box, address_of, backup, start

CONTENT = {"etc.tree": [b"data", b"meta"]}


async def test_a_clean_end_makes_received_chunks_durable(box: Box, datastore: Datastore) -> None:
    await (await start(datastore)).send(b"received")
    await datastore.close("the server stops")
    assert box.chunk_path(address_of(b"received")).exists()
    assert (await box.open()).store.recovered.clean


async def test_an_unclean_end_writes_nothing(box: Box, datastore: Datastore) -> None:
    await (await start(datastore)).send(b"received")
    await datastore.close("it went offline", clean=False)
    assert not box.chunk_path(address_of(b"received")).exists()
    with pytest.raises(DatastoreOffline):
        await datastore.stats()


async def test_a_damaged_snapshot_does_not_stop_the_figures(box: Box, datastore: Datastore) -> None:
    first = await backup(datastore, CONTENT)
    await backup(datastore, CONTENT)
    (Path(box.path) / "ns" / first.snapshot / "manifest.json").write_bytes(b"")
    datastore = await box.kill(datastore)
    stats = await datastore.stats()
    assert (stats.snapshots, stats.plain_bytes) == (2, 8)
    assert await datastore.snapshot_count() == 2


async def test_clean_up_leaves_only_what_is_referred_to(datastore: Datastore) -> None:
    await backup(datastore, CONTENT)
    writer = await start(datastore)
    await writer.send(b"litter")
    await writer.session.abort("gone")
    gone = await datastore.cleanup()
    assert (gone.sessions, gone.chunks) == (1, 1)
    assert {info.address for info in datastore.store.iterate()} == {address_of(b"data"), address_of(b"meta")}
    assert await datastore.find_unreferenced() == []
