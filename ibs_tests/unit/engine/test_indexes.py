"""Reading index files: proven by their digests or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import limits
from ibs.core.ids import chunk_id
from ibs.engine.datastore import Datastore
from ibs.engine.indexes import linked_index, snapshot_index
from ibs.errors import FormatError, NotFoundError
from ibs_tests.support.engine import Box, backup


async def test_ids_of_trees_and_images(datastore: Datastore) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"], "disk.img": [b"x", b"", b"x"]})).snapshot
    files = datastore.store.snapshots
    tree = snapshot_index(files, name, "etc.tree")
    assert tree.stored_ids.tobytes() == chunk_id(b"a") + chunk_id(b"meta")
    image = snapshot_index(files, name, "disk.img")
    assert image.ids.tobytes() == chunk_id(b"x") + bytes(32) + chunk_id(b"x")
    assert image.stored_ids.tobytes() == chunk_id(b"x") * 2
    assert len(image.records) == 96


async def test_a_linked_index_is_the_same(datastore: Datastore) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    folder = datastore.store.leases.create("c" * 32)
    folder.link(name, "etc.tree.idx", as_name="etc.tree.idx")
    assert linked_index(folder, "etc.tree.idx") == snapshot_index(datastore.store.snapshots, name, "etc.tree")
    with pytest.raises(NotFoundError):
        linked_index(folder, "disk.img.idx")


@pytest.mark.parametrize("at", [0, 10, 100, 230, 256, 300])
async def test_any_flipped_byte_is_noticed(box: Box, datastore: Datastore, at: int) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    path = Path(box.path) / "ns" / name / "etc.tree.idx"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=r"etc\.tree\.idx"):
        snapshot_index(datastore.store.snapshots, name, "etc.tree")


async def test_oversize_and_torn_files_are_refused(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    folder = datastore.store.leases.create("c" * 32)
    folder.link(name, "etc.tree.idx", as_name="etc.tree.idx")
    with monkeypatch.context() as patched:
        patched.setattr(limits, "INDEX_FILE_BYTES_MAX", 300)
        with pytest.raises(FormatError):
            linked_index(folder, "etc.tree.idx")
        with pytest.raises(FormatError):
            snapshot_index(datastore.store.snapshots, name, "etc.tree")
    for size in (0, 100, 256, 335):
        (Path(box.path) / "ns" / name / "etc.tree.idx").write_bytes(bytes(size))
        with pytest.raises(FormatError):
            snapshot_index(datastore.store.snapshots, name, "etc.tree")
