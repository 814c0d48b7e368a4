"""Index files: headers, records, and looking ids up among many."""

from __future__ import annotations

import dataclasses
import tracemalloc
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from ibs.core import index, limits
from ibs.core.index import IdLookup, IndexHeader, check_records, encode_header, parse_header
from ibs.errors import FormatError

ROOT = b"\x05" * 32


def some_ids(count: int, salt: bytes = b"ids") -> index.IdArray:
    return np.frombuffer(blake3(salt).digest(length=32 * count), dtype=np.uint8).reshape(-1, 32)


def tree(records: bytes, /, **changes: Any) -> IndexHeader:
    header = IndexHeader(
        kind=index.TREE,
        record_bytes=40,
        records=len(records) // 40,
        plain_bytes=12345,
        chunk_bytes=0,
        depth=1,
        domain=bytes(32),
        root=ROOT,
        records_digest=blake3(records).digest(),
    )
    return dataclasses.replace(header, **changes)


def image(records: bytes, /, **changes: Any) -> IndexHeader:
    header = IndexHeader(
        kind=index.IMAGE,
        record_bytes=32,
        records=len(records) // 32,
        plain_bytes=len(records) // 32 * limits.IMAGE_CHUNK_BYTES,
        chunk_bytes=limits.IMAGE_CHUNK_BYTES,
        depth=0,
        domain=b"\x09" * 32,
        root=bytes(32),
        records_digest=blake3(records).digest(),
    )
    return dataclasses.replace(header, **changes)


def tree_bytes(count: int = 5) -> bytes:
    """Data records, then the root."""
    data = [index.tree_record(row.tobytes(), 1000 + i, index.KIND_DATA) for i, row in enumerate(some_ids(count))]
    return b"".join([*data, index.tree_record(ROOT, 77, index.KIND_METADATA)])


@pytest.mark.parametrize("header", [tree(tree_bytes()), image(some_ids(3).tobytes()), image(b"")])
def test_headers_round_trip(header: IndexHeader) -> None:
    raw = encode_header(header)
    assert len(raw) == index.HEADER_BYTES
    assert parse_header(raw) == header
    assert parse_header(memoryview(raw + b"records"), file_bytes=header.file_bytes) == header
    with pytest.raises(FormatError, match="index file has"):
        parse_header(raw, file_bytes=header.file_bytes + 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "tape"},
        {"record_bytes": 32},
        {"records": -1},
        {"records": limits.INDEX_RECORDS_MAX + 1},
        {"records": 0},
        {"plain_bytes": -1},
        {"plain_bytes": 1 << 63},
        {"depth": limits.TREE_DEPTH_MAX + 1},
        {"depth": -1},
        {"chunk_bytes": 1},
        {"root": bytes(32)},
        {"root": b"short"},
        {"domain": b""},
        {"records_digest": b""},
    ],
    ids=str,
)
def test_impossible_tree_headers_are_not_written(changes: dict[str, Any]) -> None:
    header = tree(tree_bytes(), **changes)
    with pytest.raises(FormatError):
        encode_header(header)


@pytest.mark.parametrize(
    ("offset", "value"),
    [(7, b"\x20"), (8, bytes(8)), (8, b"\xff" * 8), (16, b"\xff" * 8), (24, b"\x01"), (28, b"\x09"), (64, bytes(32))],
    ids=["record bytes", "no records", "records", "plain bytes", "chunk bytes", "depth", "root"],
)
def test_impossible_headers_are_not_read_though_their_digest_fits(offset: int, value: bytes) -> None:
    raw = bytearray(encode_header(tree(tree_bytes())))
    raw[offset : offset + len(value)] = value
    raw[224:] = blake3(bytes(raw[:224])).digest()
    with pytest.raises(FormatError):
        parse_header(raw)


@pytest.mark.parametrize(
    "changes",
    [
        {"depth": 1},
        {"root": ROOT},
        {"chunk_bytes": 4096},
        {"chunk_bytes": 0},
        {"records": 2},
        {"plain_bytes": 3 * limits.IMAGE_CHUNK_BYTES + 1},
        {"plain_bytes": 2 * limits.IMAGE_CHUNK_BYTES},
        {"record_bytes": 40},
    ],
    ids=str,
)
def test_impossible_image_headers_are_not_written(changes: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        encode_header(image(some_ids(3).tobytes(), **changes))


def test_the_last_chunk_of_an_image_may_be_short() -> None:
    records = some_ids(3).tobytes()
    short = image(records, plain_bytes=2 * limits.IMAGE_CHUNK_BYTES + 1)
    assert parse_header(encode_header(short)).plain_bytes == short.plain_bytes
    check_records(short, records)


@pytest.mark.parametrize(
    ("offset", "value", "resealed", "words"),
    [
        (0, b"JUNK", True, "magic"),
        (4, b"\x02", True, "version 2"),
        (6, b"\x03", True, "kind 3"),
        (128, b"\x01", True, "must be zero"),
        (223, b"\x01", True, "must be zero"),
        (8, b"\x7f", False, "does not match its digest"),
        (224, bytes(32), False, "does not match its digest"),
    ],
)
def test_broken_header_bytes_are_refused(offset: int, value: bytes, resealed: bool, words: str) -> None:
    raw = bytearray(encode_header(tree(tree_bytes())))
    raw[offset : offset + len(value)] = value
    if resealed:
        raw[224:] = blake3(bytes(raw[:224])).digest()
    with pytest.raises(FormatError, match=words):
        parse_header(raw)


@pytest.mark.parametrize("length", [0, 4, 255])
def test_a_short_header_is_refused(length: int) -> None:
    with pytest.raises(FormatError, match="256 bytes"):
        parse_header(encode_header(tree(tree_bytes()))[:length])


def test_records_are_seen_without_copies() -> None:
    records = bytearray(tree_bytes(4))
    ids = index.record_ids(records, 40)
    assert ids.shape == (5, 32)
    assert np.shares_memory(ids, np.frombuffer(records, dtype=np.uint8))
    rows = list(index.iter_tree_records(records))
    assert rows[1] == (ids[1].tobytes(), 1001, index.KIND_DATA)
    assert rows[-1] == (ROOT, 77, index.KIND_METADATA)
    columns = index.tree_records(records)
    assert columns["plain_length"].tolist() == [1000, 1001, 1002, 1003, 77]
    assert columns["kind"].tolist() == [0, 0, 0, 0, 1]
    assert index.record_ids(b"", 32).shape == (0, 32)


@pytest.mark.parametrize(("length", "record_bytes"), [(41, 40), (31, 32), (40, 0), (40, -8), (40, 8)])
def test_torn_records_are_refused(length: int, record_bytes: int) -> None:
    with pytest.raises(FormatError):
        index.record_ids(bytes(length), record_bytes)
    with pytest.raises(FormatError):
        index.iter_tree_records(bytes(41))


def test_good_records_pass() -> None:
    check_records(tree(tree_bytes()), tree_bytes())
    holes = some_ids(2).tobytes() + bytes(64)
    check_records(image(holes), holes)


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (index.tree_record(b"\x01" * 32, 1, 2), "record 6 is not valid"),
        (index.tree_record(b"\x01" * 32, 0, 0), "record 6 is not valid"),
        (index.tree_record(b"\x01" * 32, limits.CHUNK_PLAIN_BYTES_MAX + 1, 0), "record 6 is not valid"),
        (index.tree_record(bytes(32), 1, 0), "record 6 is not valid"),
        (index.tree_record(b"\x01" * 32, 1, 0)[:-1] + b"\x01", "record 6 is not valid"),
        (index.tree_record(some_ids(1)[0].tobytes(), 1000, 0), "lists a chunk twice"),
    ],
)
def test_bad_tree_records_are_refused(records: bytes, words: str) -> None:
    whole = tree_bytes() + records
    with pytest.raises(FormatError, match=words):
        check_records(tree(whole), whole)


def test_the_root_must_be_listed_as_metadata() -> None:
    for root in (b"\x06" * 32, some_ids(1)[0].tobytes()):
        with pytest.raises(FormatError, match="root chunk as metadata"):
            check_records(tree(tree_bytes(), root=root), tree_bytes())


def test_records_must_fit_their_header() -> None:
    records = tree_bytes()
    with pytest.raises(FormatError, match="header says 6 records"):
        check_records(tree(records), records[:-40])
    with pytest.raises(FormatError, match="do not match their digest"):
        check_records(tree(records, records_digest=bytes(32)), records)


def test_lookup_finds_what_is_there() -> None:
    ids = some_ids(1000)
    lookup = IdLookup(ids)
    assert len(lookup) == 1000
    assert lookup.contains(ids).all()
    assert not lookup.contains(some_ids(1000, b"others")).any()
    assert ids[7].tobytes() in lookup
    assert bytes(32) not in lookup
    assert ids[7].tobytes()[:31] not in lookup
    assert b"" not in lookup
    assert lookup.positions([ids[9].tobytes(), bytes(32), ids[0].tobytes()]).tolist() == [9, -1, 0]
    assert lookup.contains(iter([ids[3].tobytes()])).tolist() == [True]
    assert lookup.contains([]).tolist() == []


def test_lookup_over_strided_records() -> None:
    records = tree_bytes(100)
    lookup = IdLookup(index.record_ids(records, 40))
    assert lookup.contains(some_ids(100)).all()
    assert ROOT in lookup


def test_an_empty_lookup_holds_nothing() -> None:
    lookup = IdLookup(index.record_ids(b"", 32))
    assert len(lookup) == 0
    assert not lookup.contains(some_ids(3)).any()


def test_repeated_ids_count_once_and_the_first_row_answers() -> None:
    ids = some_ids(50)
    repeated = np.concatenate((ids, np.zeros((20, 32), dtype=np.uint8), ids[:10], ids))
    lookup = IdLookup(repeated)
    assert len(lookup) == 51
    assert lookup.positions(ids).tolist() == list(range(50))
    assert lookup.positions([bytes(32)]).tolist() == [50]


def test_extreme_prefixes() -> None:
    ids = np.array([[0] * 32, [255] * 32, [127] * 32, [128] + [0] * 31], dtype=np.uint8)
    lookup = IdLookup(ids)
    assert lookup.positions(ids).tolist() == [0, 1, 2, 3]
    near = ids.copy()
    near[:, 31] ^= 1
    assert not lookup.contains(near).any()


def test_ids_chosen_to_share_a_prefix_are_told_apart() -> None:
    hostile = some_ids(200).copy()
    hostile[:, :8] = 0x41
    honest = some_ids(50, b"honest")
    lookup = IdLookup(np.concatenate((honest[:25], hostile[:100], honest[25:], hostile[:50])))
    assert len(lookup) == 150
    assert lookup.contains(hostile).tolist() == [True] * 100 + [False] * 100
    assert lookup.contains(honest).all()
    assert lookup.positions(hostile[:3]).tolist() == [25, 26, 27]


def test_wrong_shapes_are_a_programming_error() -> None:
    with pytest.raises(ValueError, match="shape"):
        IdLookup(np.zeros((3, 31), dtype=np.uint8))
    with pytest.raises(ValueError, match="32 bytes"):
        IdLookup(some_ids(2)).contains([b"short"])


def test_lookup_memory_stays_within_its_word() -> None:
    lookup = IdLookup(some_ids(100_000))
    assert lookup._prefixes.nbytes + lookup._order.nbytes <= 16 * 100_000
    assert lookup._ids.base is not None  # the ids are the caller's, not a copy


def test_looking_up_many_ids_takes_little_memory_whatever_their_number() -> None:
    count = 200_000
    ids = some_ids(count)
    lookup = IdLookup(ids[1:])
    tracemalloc.start()
    try:
        found = lookup.positions(ids)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60 * count  # the answer takes 8 bytes an id, comparing all of them at once would take 140
    assert found[0] == -1
    assert (found[1:] == np.arange(count - 1)).all()
