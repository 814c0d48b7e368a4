from __future__ import annotations

import pytest

from ibs.core import limits, marking
from ibs.engine.datastore import Datastore
from ibs.engine.gc import marker as module
from ibs.engine.gc.marker import Found, Marker
from ibs.engine.session.journal import id_array
from ibs.errors import FailedError
from ibs_tests.support.engine import address_of, backup, start


def mark(datastore: Datastore) -> tuple[Marker, Found]:
    marker = Marker(datastore.context, datastore.store.epoch + 1)
    for _ in marker.steps():
        pass
    return marker, marker.found()


def unmarked(found: Found, *chunks: bytes) -> list[bool]:
    ids = id_array(b"".join(address_of(data).id for data in chunks))
    return [bool(one) for one in marking.contains(found.unmarked, marking.prefixes_of(ids))]


async def garbage(datastore: Datastore, *chunks: bytes) -> None:
    writer = await start(datastore, group="host/gone")
    await writer.send(*chunks)
    datastore.store.barrier()
    datastore.store.staging.folder(writer.session.session_id).unlink("pins.journal")


@pytest.mark.parametrize("pass_bytes", [marking.PASS_BYTES_MAX, 48])
async def test_several_passes_find_what_one_does(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch, pass_bytes: int
) -> None:
    monkeypatch.setattr(module, "passes", lambda chunks: marking.passes(chunks, bytes_max=pass_bytes))
    await backup(datastore, {"etc.tree": [b"a", b"b", b"meta"], "disk.img": [b"a", b"", b"a"]})
    await backup(datastore, {"etc.tree": [b"a", b"other"]}, group="host/two")
    await garbage(datastore, b"x", b"y", b"z")
    marker, found = mark(datastore)
    plan = found.plan
    assert (plan.total_chunks, plan.chunks, plan.snapshots, plan.references) == (7, 3, 2, 7)
    assert marker.snapshots_done == marker.snapshots_total == (2 if pass_bytes > 48 else 14)
    assert unmarked(found, b"a", b"b", b"meta", b"other", b"x", b"y", b"z") == [False] * 4 + [True] * 3
    assert plan.bytes == sum(
        info.stored_bytes for info in datastore.store.info([address_of(c) for c in (b"x", b"y", b"z")])
    )


async def test_a_backup_committed_while_we_read_misses_nothing(datastore: Datastore) -> None:
    """Its chunks came after the table was made: they look absent, and are there."""
    await backup(datastore, {"etc.tree": [b"a", b"meta"]})
    marker = Marker(datastore.context, datastore.store.epoch + 1)
    steps = marker.steps()
    next(steps)  # the table is made
    await backup(datastore, {"etc.tree": [b"new", b"meta2"]}, group="host/two")
    for _ in steps:
        pass
    plan = marker.found().plan
    assert (plan.missing, plan.chunks, plan.references) == ({}, 0, 4)


async def test_so_many_missing_chunks_that_they_cannot_be_kept_end_the_run(
    datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GC_ABSENT_MAX", 2)
    chunks = [b"a", b"b", b"c", b"meta"]
    await backup(datastore, {"etc.tree": chunks})
    datastore.store._db.remove([address_of(data) for data in chunks])
    with pytest.raises(FailedError, match="missing"):
        mark(datastore)


async def test_the_newest_snapshots_are_read_first(datastore: Datastore) -> None:
    names = []
    for number in range(3):
        result = await backup(datastore, {"etc.tree": [b"%d" % number, b"m%d" % number]})
        names.append(result.snapshot)
    assert [str(name) for name in module.newest_first(datastore.context)] == names[::-1]
