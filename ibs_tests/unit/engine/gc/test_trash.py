from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.engine.datastore import Datastore
from ibs.engine.gc.plan import Options as GcOptions
from ibs.engine.gc.trash import TrashKeeper
from ibs.errors import NotFoundError
from ibs.ports.chunkstore import Retired, Trash
from ibs.runtime.clock import START, ManualClock
from ibs.storage.local import Options
from ibs_tests.support.engine import Box, address_of, backup, snapshot_of, start


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


async def test_the_grace_outlives_a_kill_and_a_jump_of_the_clock(box: Box) -> None:
    box.options = Options(boot_id="one")
    datastore = await box.open()
    snapshot = snapshot_of(await backup(datastore, {"etc.tree": [b"gone"]}))
    await datastore.bin.purge((await datastore.bin.put(snapshot, "root@ibs")).entry)
    (record := Path(box.path, ".ibs", "clock.json")).unlink()  # as in a store that took no writes when it was opened
    assert (await datastore.gc.run(GcOptions(share_percent=100))).retired.chunks == 1
    assert record.exists()
    box.clock = ManualClock(START + timedelta(days=3))
    box.options = Options(boot_id="two")
    datastore = await box.kill(datastore)
    assert await TrashKeeper(datastore.context).expire() == Retired()
    assert [one.chunks for one in datastore.store.trash()] == [1]
