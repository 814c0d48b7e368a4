"""Reading index files: proven by their digests or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.core import limits, limits_index
from ibs.core.ids import chunk_id, digest
from ibs.core.index import KIND_DATA, KIND_METADATA, IndexHeader, encode_header, tree_record
from ibs.engine.datastore import Datastore
from ibs.engine.indexes import IndexFile, bin_index, linked_index, snapshot_index
from ibs.engine.session.journal import id_array
from ibs.errors import FormatError, NotFoundError
from ibs_tests.support.engine import Box, backup

HELD = [True, False]
"""A small index is held in memory, a large one is looked at in its file: the same must come out."""


@pytest.fixture(params=HELD, ids=["held", "from its file"], autouse=True)
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    monkeypatch.setattr(limits_index, "INDEX_BLOCK_RECORDS", 2)
    if not request.param:
        monkeypatch.setattr(limits_index, "INDEX_HELD_BYTES_MAX", 256)
    return bool(request.param)


def ids_in(index: IndexFile) -> bytes:
    return b"".join(ids.tobytes() for ids in index.ids())


async def test_ids_of_trees_and_images(datastore: Datastore, held: bool) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"b", b"meta"], "disk.img": [b"x", b"", b"x"]})).snapshot
    files = datastore.store.snapshots
    tree = snapshot_index(files, name, "etc.tree")
    assert (tree.held, ids_in(tree)) == (held, chunk_id(b"a") + chunk_id(b"b") + chunk_id(b"meta"))
    image = snapshot_index(files, name, "disk.img")
    assert ids_in(image) == chunk_id(b"x") * 2
    assert [(first, len(piece)) for first, piece in image.blocks()] == [(0, 64), (2, 32)]
    assert image.read_ids(0, 3).tobytes() == chunk_id(b"x") + bytes(32) + chunk_id(b"x")


async def test_proving_finds_rows_and_the_digest(box: Box, datastore: Datastore) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"b", b"meta"], "disk.img": [b"x", b"", b"x"]})).snapshot
    told: list[bytes] = []
    for archive, rows in (("etc.tree", [0, 1, 2, -1, -1]), ("disk.img", [-1, -1, -1, -1, 0])):
        proven = snapshot_index(datastore.store.snapshots, name, archive).prove(
            lambda _, ids: told.append(ids.tobytes())
        )
        assert proven.digest == digest((Path(box.path) / "ns" / name / f"{archive}.idx").read_bytes()).hex()
        wanted = [chunk_id(chunk) for chunk in (b"a", b"b", b"meta")] + [bytes(32), chunk_id(b"x")]
        assert proven.rows.rows(id_array(b"".join(wanted))).tolist() == rows
        assert [one in proven.rows for one in wanted] == [row >= 0 for row in rows]
    assert b"".join(told) == b"".join(chunk_id(chunk) for chunk in (b"a", b"b", b"meta", b"x", b"x"))


async def test_a_linked_index_and_one_in_the_bin_are_the_same(datastore: Datastore) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    folder = datastore.store.leases.create("c" * 32)
    folder.link(name, "etc.tree.idx", as_name="etc.tree.idx")
    linked = linked_index(folder, "etc.tree.idx")
    ids = ids_in(snapshot_index(datastore.store.snapshots, name, "etc.tree"))
    assert ids_in(linked) == ids
    with pytest.raises(NotFoundError):
        linked_index(folder, "disk.img.idx")
    await datastore.bin.put((await datastore.snapshots.every())[0], by="root@builtin", why="")
    entry = datastore.store.bin.entries()[0]
    assert ids_in(bin_index(datastore.store.bin, entry, "etc.tree", "binned")) == ids


@pytest.mark.parametrize("at", [0, 10, 100, 230, 256, 300])
async def test_any_flipped_byte_is_noticed(box: Box, datastore: Datastore, at: int) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    path = Path(box.path) / "ns" / name / "etc.tree.idx"
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1
    path.write_bytes(raw)
    with pytest.raises(FormatError, match=r"etc\.tree\.idx"):
        ids_in(snapshot_index(datastore.store.snapshots, name, "etc.tree"))
    with pytest.raises(FormatError, match=r"etc\.tree\.idx"):
        snapshot_index(datastore.store.snapshots, name, "etc.tree").prove()


async def test_oversize_and_torn_files_are_refused(
    box: Box, datastore: Datastore, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = (await backup(datastore, {"etc.tree": [b"a", b"meta"]})).snapshot
    path = Path(box.path) / "ns" / name / "etc.tree.idx"
    whole = path.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(limits, "INDEX_FILE_BYTES_MAX", 300)
        with pytest.raises(FormatError, match="300"):
            snapshot_index(datastore.store.snapshots, name, "etc.tree")
    for content in (b"", bytes(256), whole[:100], whole[:256], whole[:335], whole + b"\0"):
        path.write_bytes(content)
        with pytest.raises(FormatError):
            ids_in(snapshot_index(datastore.store.snapshots, name, "etc.tree"))


def index_of(records: list[bytes], root: bytes, *, kind: str = "tree") -> IndexFile:
    """An index in memory whose digests are right, whatever its records say."""
    body = b"".join(records)
    header = IndexHeader(kind, len(records[0]), len(records), 0, 0, 0, bytes(32), root, digest(body))
    content = encode_header(header) + body
    return IndexFile(lambda offset, count: content[offset : offset + count], "")


META = tree_record(chunk_id(b"root"), 10, KIND_METADATA)
DATA = tree_record(chunk_id(b"a"), 10, KIND_DATA)


@pytest.mark.parametrize(
    ("records", "root", "words"),
    [
        ([DATA, META, DATA], b"root", "twice"),
        ([DATA, DATA, META], b"root", "twice"),
        ([DATA, META], b"a", "root chunk"),
        ([DATA, META], b"other", "root chunk"),
        ([DATA, tree_record(bytes(32), 10, KIND_DATA), META], b"root", "not valid"),
        ([DATA, META, tree_record(chunk_id(b"b"), 0, KIND_DATA)], b"root", "not valid"),
    ],
)
def test_what_no_backup_would_write_is_not_proven(records: list[bytes], root: bytes, words: str) -> None:
    with pytest.raises(FormatError, match=words):
        index_of(records, chunk_id(root)).prove()
    assert len(index_of([DATA, META], chunk_id(b"root")).prove().rows) == 2
