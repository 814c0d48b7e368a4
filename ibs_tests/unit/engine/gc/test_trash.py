from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.engine.gc.trash import TrashKeeper
from ibs.errors import NotFoundError
from ibs.ports.chunkstore import Retired, Trash
from ibs_tests.support.engine import address_of, start


async def retired(datastore: Datastore, *chunks: bytes) -> int:
    writer = await start(datastore, group=f"host/{chunks[0].decode()}")
    await writer.send(*chunks)
    datastore.store.barrier()
    epoch = datastore.store.raise_epoch()
    datastore.store.retire([address_of(data) for data in chunks], epoch, since=datastore.context.time.now())
    return epoch


async def test_each_batch_is_told_while_trash_is_emptied(datastore: Datastore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GC_RECLAIM_CHUNKS", 2)
    epoch = await retired(datastore, b"a", b"b", b"c")
    told: list[Retired] = []
    done = await TrashKeeper(datastore.context).empty(epoch, told.append)
    assert done.freed_chunks == 3
    assert [some.freed_chunks for some in told] == [2, 1]


async def test_an_empty_trash_has_nothing_to_bring_back(datastore: Datastore) -> None:
    keeper = TrashKeeper(datastore.context)
    with pytest.raises(NotFoundError, match="trash of s1 is empty"):
        await keeper.revive(everything=True)
    await retired(datastore, b"a")
    await retired(datastore, b"b")
    assert (await keeper.revive(everything=False)).chunks == 1
    assert [info.state.value for info in datastore.store.info([address_of(b"a"), address_of(b"b")])] == [
        "retired",
        "durable",
    ]


def test_the_grace_counts_from_the_last_chunk() -> None:
    keeper = TrashKeeper.__new__(TrashKeeper)
    assert keeper.until(Trash(3, 1000, 5, 5)) == 1000 + limits.GC_TRASH_GRACE_SECONDS
    assert keeper.until(Trash(3, None, 5, 5)) is None
