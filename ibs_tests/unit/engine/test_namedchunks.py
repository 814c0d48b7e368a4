"""What verification looks at: every chunk that the indexes name, each once, however often and where it is named."""

from __future__ import annotations

import numpy as np
import pytest

from ibs.core import limits_index
from ibs.core.ids import chunk_id
from ibs.engine.datastore import Datastore
from ibs.engine.indexes import snapshot_index
from ibs.engine.namedchunks import NamedChunks
from ibs.errors import FormatError
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs_tests.support.engine import backup


@pytest.mark.parametrize("block", [1, 2, 100])
async def test_each_chunk_once(datastore: Datastore, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(limits_index, "INDEX_BLOCK_RECORDS", block)
    parts = {"etc.tree": [b"a", b"b", b"meta"], "disk.img": [b"x", b"", b"b", b"x"], "other.img": [b"x", b"y"]}
    name = (await backup(datastore, parts)).snapshot
    stored = datastore.context.folders.load((await datastore.snapshots.every())[0])
    named = NamedChunks()
    for archive in stored.manifest.archives:
        named.add(archive.name, snapshot_index(datastore.store.snapshots, name, archive.name), archive.index_digest)
    pieces = list(named.pieces())
    assert {domain for domain, _ in pieces} == {PLAIN_DOMAIN}
    found = [chunk.tobytes() for chunk in np.concatenate([ids for _, ids in pieces])]
    wanted = {chunk_id(chunk) for chunk in (b"a", b"b", b"meta", b"x", b"y")}
    assert (len(found), set(found), named.total) == (5, wanted, 5)
    assert named.archive_of(Address(PLAIN_DOMAIN, chunk_id(b"meta"))) == "etc.tree"
    assert named.archive_of(Address(PLAIN_DOMAIN, chunk_id(b"elsewhere"))) == "?"
    assert named.archive_of(Address(b"\1" * 32, chunk_id(b"meta"))) == "?"


async def test_an_index_of_another_manifest_adds_nothing(datastore: Datastore) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    named = NamedChunks()
    with pytest.raises(FormatError, match="manifest"):
        named.add("etc.tree", snapshot_index(datastore.store.snapshots, name, "etc.tree"), "00" * 32)
    assert (named.total, list(named.pieces())) == (0, [])
