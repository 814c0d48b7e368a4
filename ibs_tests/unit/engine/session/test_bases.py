"""What of the previous snapshot may be reused: bitmap, pins, and when there is no base at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ibs.core.keys import DataKeys
from ibs.core.manifest import VerifyState
from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.errors import CorruptChunk, RefusedError
from ibs_tests.support.engine import Box, address_of, backup, key_registry, read, start

KEYS = DataKeys.from_root(b"\7" * 32)
CHUNKS = [bytes([65 + number]) * 100 for number in range(10)]


def bits(bitmap: bytes, count: int) -> list[int]:
    return np.unpackbits(np.frombuffer(bitmap, dtype=np.uint8), count=count, bitorder="little").tolist()


async def test_everything_good_is_available(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CHUNKS})
    writer = await start(datastore)
    assert bits(await writer.session.base_available("etc.tree"), 10) == [1] * 10
    assert [base.complete for base in writer.session.opened.bases] == [True]


async def test_bad_missing_and_suspect_chunks_are_not_available_and_cannot_be_named(
    box: Box, datastore: Datastore
) -> None:
    await backup(datastore, {"etc.tree": CHUNKS})
    box.spoil(CHUNKS[2])
    with pytest.raises(CorruptChunk):
        datastore.store.get(address_of(CHUNKS[2]))
    box.chunk_path(address_of(CHUNKS[5])).unlink()
    datastore = await box.kill(datastore)  # the index is rebuilt from the files
    datastore.store.mark_suspect(address_of(CHUNKS[8]))
    writer = await start(datastore)
    assert bits(await writer.session.base_available("etc.tree"), 10) == [1, 1, 0, 1, 1, 0, 1, 1, 0, 1]
    assert [base.complete for base in writer.session.opened.bases] == [False]
    for number in (2, 5, 8):
        with pytest.raises(RefusedError):
            await writer.append("etc.tree", [CHUNKS[number]])


async def test_a_chunk_that_left_no_trace_is_not_available(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CHUNKS})
    datastore.store.discard([address_of(CHUNKS[3])])
    writer = await start(datastore)
    assert bits(await writer.session.base_available("etc.tree"), 10) == [1, 1, 1, 0, 1, 1, 1, 1, 1, 1]


async def test_healing_by_sending_what_was_not_available(box: Box, datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CHUNKS})
    box.chunk_path(address_of(CHUNKS[5])).unlink()
    datastore = await box.kill(datastore)
    writer = await start(datastore)
    await writer.send(CHUNKS[5])
    await writer.append("etc.tree", CHUNKS)
    await writer.close("etc.tree", CHUNKS)
    result = await writer.commit()
    first = (await datastore.snapshots.every())[0]
    for name in (str(first), result.snapshot):
        assert await read(datastore, name, "etc.tree") == CHUNKS


async def test_zero_blocks_of_an_image_are_available(datastore: Datastore) -> None:
    await backup(datastore, {"disk.img": [b"", b"block", b""]})
    writer = await start(datastore, "disk.img")
    assert bits(await writer.session.base_available("disk.img"), 3) == [1, 1, 1]


async def test_the_base_keeps_its_index_when_the_snapshot_goes(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": CHUNKS})
    writer = await start(datastore)
    datastore.store.snapshots.remove(result.snapshot)
    assert len(await writer.session.base_index("etc.tree")) == 256 + 400


async def test_no_base_after_a_failed_verification(datastore: Datastore) -> None:
    result = await backup(datastore, {"etc.tree": CHUNKS})
    name = SnapshotName.parse(result.snapshot)
    for state, bases in (("CORRUPT", 0), ("MISSING", 0), ("OK", 1)):
        await datastore.snapshots.set_verify(name, VerifyState(result=state, time="2026-11-22T19:00:00Z"))
        writer = await start(datastore)
        assert len(writer.session.opened.bases) == bases
        await writer.session.abort("next")


async def test_no_base_for_other_archives_or_when_not_wanted(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": CHUNKS})
    writer = await start(datastore, "home.tree", "etc.img")
    assert writer.session.opened.bases == []
    await writer.session.abort("next")
    writer = await start(datastore, use_base=False)
    assert writer.session.opened.bases == []
    assert writer.session.opened.base_run == 0


async def test_no_base_under_another_key(box: Box) -> None:
    box.keys = key_registry(KEYS)
    datastore = await box.open()
    await backup(datastore, {"etc.tree": CHUNKS})
    writer = await start(datastore, keys=KEYS)
    assert writer.session.opened.bases == []
    with pytest.raises(RefusedError):
        await writer.append("etc.tree", CHUNKS)
    await writer.archive("etc.tree", CHUNKS)
    await writer.commit()
    again = await start(datastore, keys=KEYS)
    assert len(again.session.opened.bases) == 1


async def test_only_the_newest_snapshot_of_the_group_is_a_base(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"first", b"meta 1"]})
    await backup(datastore, {"etc.tree": [b"second", b"meta 2"]})
    writer = await start(datastore)
    with pytest.raises(RefusedError):
        await writer.append("etc.tree", [b"first"])
    await writer.append("etc.tree", [b"second"])


@pytest.mark.parametrize("damage", ["header", "records", "length", "gone"])
async def test_a_damaged_index_is_not_offered(box: Box, datastore: Datastore, damage: str) -> None:
    result = await backup(datastore, {"etc.tree": CHUNKS, "disk.img": [b"block"]})
    path = Path(box.path) / "ns" / result.snapshot / "etc.tree.idx"
    raw = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "length":
        path.write_bytes(raw[:-40])
    else:
        raw[20 if damage == "header" else 300] ^= 1
        path.write_bytes(raw)
    writer = await start(datastore, "etc.tree", "disk.img")
    assert [base.archive for base in writer.session.opened.bases] == ["disk.img"]
    assert "backup.base-unusable" in box.kinds()


async def test_an_index_other_than_the_manifest_states_is_not_offered(box: Box, datastore: Datastore) -> None:
    """Well formed, but of another snapshot: reusing it would grant chunks the owner may not read."""
    mine = await backup(datastore, {"etc.tree": CHUNKS})
    other = await backup(datastore, {"etc.tree": [b"foreign"]}, group="host/db01")
    ns = Path(box.path) / "ns"
    (ns / mine.snapshot / "etc.tree.idx").write_bytes((ns / other.snapshot / "etc.tree.idx").read_bytes())
    writer = await start(datastore)
    assert writer.session.opened.bases == []
