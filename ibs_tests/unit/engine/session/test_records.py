"""The growing index: order, idempotence, hostile records, and what its close insists on."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from ibs.core import limits
from ibs.core.ids import chunk_id, digest
from ibs.core.index import HEADER_BYTES, KIND_DATA, KIND_METADATA, check_records, distinct, parse_header, tree_record
from ibs.engine.session.records import GrowingIndex
from ibs.errors import ConflictError, FailedError, FormatError, UsageError
from ibs.storage.local import LocalStore, WorkFolder
from ibs.wire.session import ArchiveClose

DOMAIN = bytes(32)
ROOT = chunk_id(b"root")


@pytest.fixture
def folder(store: LocalStore) -> WorkFolder:
    return store.staging.create("b" * 32)


def tree(folder: WorkFolder) -> GrowingIndex:
    return GrowingIndex(folder, "etc.tree", "tree", DOMAIN)


def record(number: int) -> bytes:
    return tree_record(chunk_id(bytes([number])), 100 + number, KIND_DATA)


def append(index: GrowingIndex, first: int, records: bytes) -> int:
    new = index.check(first, memoryview(records))
    index.ids(new)
    index.append(new)
    return len(new) // index.record_bytes


ROOT_RECORD = tree_record(ROOT, 50, KIND_METADATA)


def closing(records: int, **values: object) -> ArchiveClose:
    return ArchiveClose(**({"plain_bytes": 10, "records": records, "root": ROOT.hex()} | values))  # type: ignore[arg-type]


def test_appends_make_a_whole_index(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, record(1) + record(2))
    append(index, 2, ROOT_RECORD)
    closed = index.close_archive(closing(3))
    content = folder.read("etc.tree.idx")
    header = parse_header(content[:HEADER_BYTES], file_bytes=len(content))
    check_records(header, content[HEADER_BYTES:])
    assert (header.kind, header.records, header.root, header.plain_bytes) == ("tree", 3, ROOT, 10)
    assert closed.index_digest == digest(content).hex()
    assert closed.index_bytes == len(content)
    assert np.concatenate(list(index.index().ids())).tobytes() == b"".join([chunk_id(b"\1"), chunk_id(b"\2"), ROOT])


def test_a_repeated_append_changes_nothing(folder: WorkFolder) -> None:
    index = tree(folder)
    assert append(index, 0, record(1) + record(2)) == 2
    assert append(index, 0, record(1) + record(2)) == 0
    assert append(index, 1, record(2) + ROOT_RECORD) == 1
    assert index.records == 3
    index.close_archive(closing(3))


def test_an_overlap_with_other_content_is_refused(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, record(1) + record(2))
    with pytest.raises(ConflictError, match="sent before with other content"):
        append(index, 1, record(3))
    assert index.records == 2


@pytest.mark.parametrize("first", [-1, 1, 1 << 40])
def test_a_gap_is_refused(folder: WorkFolder, first: int) -> None:
    with pytest.raises(UsageError, match="0 is the next"):
        append(tree(folder), first, record(1))


def test_torn_and_oversize_bodies_are_refused(folder: WorkFolder) -> None:
    index = tree(folder)
    with pytest.raises(UsageError, match="not accepted"):
        append(index, 0, record(1)[:-1])
    with pytest.raises(UsageError, match="not accepted"):
        append(index, 0, bytes(40 * (limits.RECORDS_BODY_BYTES_MAX // 40 + 1)))


@pytest.mark.parametrize(
    "bad",
    [
        tree_record(chunk_id(b"x"), 0, KIND_DATA),
        tree_record(chunk_id(b"x"), limits.CHUNK_PLAIN_BYTES_MAX + 1, KIND_DATA),
        tree_record(chunk_id(b"x"), 1, 2),
        tree_record(bytes(32), 1, KIND_DATA),
        tree_record(chunk_id(b"x"), 1, KIND_DATA)[:-1] + b"\1",
    ],
)
def test_hostile_tree_records_are_refused(folder: WorkFolder, bad: bytes) -> None:
    with pytest.raises(FormatError):
        append(tree(folder), 0, bad)


def test_zero_blocks_are_no_ids_of_an_image(folder: WorkFolder) -> None:
    index = GrowingIndex(folder, "disk.img", "img", DOMAIN)
    records = bytes(32) + chunk_id(b"a") + bytes(32)
    assert index.ids(memoryview(records)).tobytes() == chunk_id(b"a")
    append(index, 0, records)
    index.close_archive(ArchiveClose(plain_bytes=2 * limits.IMAGE_CHUNK_BYTES + 1, records=3))
    assert np.concatenate(list(index.index().ids())).tobytes() == chunk_id(b"a")


def test_close_is_idempotent_and_final(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, ROOT_RECORD)
    closed = index.close_archive(closing(1))
    assert index.close_archive(closing(1)) == closed
    with pytest.raises(ConflictError):
        index.close_archive(closing(1, plain_bytes=11))
    with pytest.raises(ConflictError, match="closed"):
        append(index, 1, record(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"records": 2},
        {"root": ""},
        {"root": "zz"},
        {"root": chunk_id(b"not listed").hex()},
        {"depth": limits.TREE_DEPTH_MAX + 1},
        {"depth": -1},
        {"plain_bytes": -1},
        {"plain_bytes": 1 << 63},
    ],
)
def test_close_refuses_figures_that_do_not_fit(folder: WorkFolder, wrong: dict[str, object]) -> None:
    index = tree(folder)
    append(index, 0, ROOT_RECORD)
    with pytest.raises((UsageError, FormatError)):
        index.close_archive(closing(**({"records": 1} | wrong)))  # type: ignore[arg-type]
    index.close_archive(closing(1))  # nothing was spoilt by the refusal


def test_an_image_of_another_size_than_its_records_is_refused(folder: WorkFolder) -> None:
    index = GrowingIndex(folder, "disk.img", "img", DOMAIN)
    append(index, 0, bytes(32))
    for plain in (0, limits.IMAGE_CHUNK_BYTES + 1):
        with pytest.raises(FormatError):
            index.close_archive(ArchiveClose(plain_bytes=plain, records=1))


def test_a_chunk_listed_twice_is_refused(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, record(1) + record(1) + ROOT_RECORD)
    with pytest.raises(FormatError, match="twice"):
        index.close_archive(closing(3))


def test_a_file_that_changed_below_us_is_noticed(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, record(1) + ROOT_RECORD)
    folder.append("etc.tree.idx", b"\xff", at=HEADER_BYTES + 3)
    with pytest.raises(FailedError, match="differs from what was received"):
        index.close_archive(closing(2))


def test_a_failed_append_can_be_repeated(folder: WorkFolder) -> None:
    index = tree(folder)
    append(index, 0, record(1))
    folder.append("etc.tree.idx", b"half a record")  # what a full disk left behind
    append(index, 1, ROOT_RECORD)
    assert index.close_archive(closing(2)).index_bytes == HEADER_BYTES + 80


def test_distinct_ids() -> None:
    ids = np.frombuffer(b"b" * 32 + b"a" * 32 + b"b" * 32, dtype=np.uint8).reshape(-1, 32)
    assert distinct(ids).tobytes() == b"a" * 32 + b"b" * 32
    assert distinct(ids[:0]).shape == (0, 32)


@pytest.mark.parametrize("twice", [0, 1])
def test_distinct_ids_take_little_more_memory_than_a_copy(twice: int) -> None:
    count = 50_000
    ids = np.random.default_rng(1).integers(0, 256, size=(count, 40), dtype=np.uint8)[:, :32]
    ids[-1] = ids[-1 - twice]
    tracemalloc.start()
    try:
        found = distinct(ids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(found) == count - twice
    assert peak < count * (35 + 40 * twice)
    assert [row.tobytes() for row in found] == sorted({row.tobytes() for row in ids})
