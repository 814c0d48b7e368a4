"""Whom bad chunks hurt: found by domain, marked once, and never over what their own verification found."""

from __future__ import annotations

from pathlib import Path

from ibs.core.manifest import VerifyState
from ibs.engine.affected import damage, find_affected, mark_affected
from ibs_tests.support.engine import Box, address_of, backup, snapshot_of

OTHER = address_of(b"other")


async def test_found_with_the_chunks_that_hurt(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    both = await backup(datastore, {"etc.tree": [b"data", b"other"]})
    one = await backup(datastore, {"etc.tree": [b"data", b"meta"]}, group="host/b")
    await backup(datastore, {"etc.tree": [b"fine"]}, group="host/c")
    data = address_of(b"data")
    found = find_affected(datastore.context, [data, OTHER])
    assert {str(name): chunks for name, chunks in found.items()} == {
        both.snapshot: frozenset({data, OTHER}),
        one.snapshot: frozenset({data}),
    }
    assert find_affected(datastore.context, []) == {}
    (Path(box.path) / "ns" / both.snapshot / "etc.tree.idx").unlink()
    assert [str(name) for name in find_affected(datastore.context, [data])] == [one.snapshot]
    box.close()


async def test_marked_unless_their_own_verification_said_more(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    sound = snapshot_of(await backup(datastore, {"etc.tree": [b"data"]}))
    known = snapshot_of(await backup(datastore, {"etc.tree": [b"data"]}, group="host/b"))
    await datastore.snapshots.set_verify(known, VerifyState(result="MISSING", time="before", first_failure="own words"))
    data = address_of(b"data")
    hurt = dict.fromkeys([sound, known], frozenset({data}))
    await mark_affected(datastore, hurt, {data: "CORRUPT"}, "UPID:1")
    marked = (await datastore.snapshots.load(sound)).state.verify
    assert marked is not None
    assert (marked.result, marked.upid) == ("CORRUPT", "UPID:1")
    kept = (await datastore.snapshots.load(known)).state.verify
    assert kept is not None
    assert kept.first_failure == "own words"
    box.close()


async def test_nothing_damaged_names_nobody(tmp_path: Path) -> None:
    box = Box(str(tmp_path / "s")).create()
    datastore = await box.open()
    await backup(datastore, {"etc.tree": [b"data"]})
    found = await damage(datastore)
    assert (found.bad_chunks, found.chunks, found.snapshots) == (0, [], [])
    box.close()
