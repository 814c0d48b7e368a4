"""Indexes under fire, and the id look-up against a Python dict."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from blake3 import blake3
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ibs.core import index, limits
from ibs.core.index import IdLookup, IndexHeader, check_records, encode_header, parse_header
from ibs.errors import FormatError
from ibs_tests.support.mutations import Mutation, mutations

ROOT = b"\x05" * 32
# Few distinct halves, so that equal ids, shared prefixes and shared tails all come up.
IDS = st.builds(
    lambda head, tail: head + tail,
    st.sampled_from([bytes(8), b"\xff" * 8, b"\x7f" + b"\xff" * 7, b"\x80" + bytes(7), b"headhead"]),
    st.one_of(st.sampled_from([bytes(24), b"\xff" * 24, b"t" * 24]), st.binary(min_size=24, max_size=24)),
)
ANY_ID = st.one_of(IDS, st.binary(min_size=32, max_size=32))


def array(ids: list[bytes]) -> index.IdArray:
    return np.frombuffer(b"".join(ids), dtype=np.uint8).reshape(-1, 32)


@st.composite
def trees(draw: st.DrawFn) -> tuple[IndexHeader, bytes]:
    chunks = draw(st.lists(ANY_ID.filter(lambda chunk: chunk not in (ROOT, bytes(32))), max_size=20, unique=True))
    lengths = st.integers(1, limits.CHUNK_PLAIN_BYTES_MAX)
    rows = [index.tree_record(chunk, draw(lengths), draw(st.integers(0, 1))) for chunk in chunks]
    rows.insert(draw(st.integers(0, len(rows))), index.tree_record(ROOT, draw(lengths), index.KIND_METADATA))
    records = b"".join(rows)
    header = IndexHeader(
        index.TREE, 40, len(rows), draw(st.integers(0, 2**63 - 1)), 0, draw(st.integers(0, 8)),
        draw(ANY_ID), ROOT, blake3(records).digest(),
    )  # fmt: skip
    return header, records


@st.composite
def images(draw: st.DrawFn) -> tuple[IndexHeader, bytes]:
    records = b"".join(draw(st.lists(ANY_ID, max_size=20)))
    count = len(records) // 32
    short = draw(st.integers(0, limits.IMAGE_CHUNK_BYTES - 1)) if count else 0
    header = IndexHeader(
        index.IMAGE, 32, count, count * limits.IMAGE_CHUNK_BYTES - short, limits.IMAGE_CHUNK_BYTES, 0,
        draw(ANY_ID), bytes(32), blake3(records).digest(),
    )  # fmt: skip
    return header, records


INDEXES = st.one_of(trees(), images())


def read_all(raw: bytes) -> IndexHeader | None:
    """Read a whole index file as a hostile peer may send it; None when refused."""
    try:
        header = parse_header(raw, file_bytes=len(raw))
        check_records(header, raw[index.HEADER_BYTES :])
    except FormatError:
        return None
    return header


@given(made=INDEXES)
def test_round_trip(made: tuple[IndexHeader, bytes]) -> None:
    header, records = made
    assert read_all(encode_header(header) + records) == header
    ids = [row.tobytes() for row in index.record_ids(records, header.record_bytes)]
    if header.kind == index.TREE:
        assert [chunk for chunk, _, _ in index.iter_tree_records(records)] == ids
    assert all(chunk in IdLookup(array(ids)) for chunk in ids)


@given(made=INDEXES, mutate=mutations())
def test_any_damage_is_found(made: tuple[IndexHeader, bytes], mutate: Mutation) -> None:
    raw = encode_header(made[0]) + made[1]
    changed = mutate(raw)
    assert changed == raw or read_all(changed) is None


@given(made=INDEXES, mutate=mutations(), in_header=st.booleans())
@settings(max_examples=300)
def test_resealed_damage_is_refused_or_safe(made: tuple[IndexHeader, bytes], mutate: Mutation, in_header: bool) -> None:
    """With all digests put right again, whatever passes is within the limits that callers size things by."""
    sealed, records = encode_header(made[0])[:224], made[1]
    if in_header:
        sealed = mutate(sealed)[:224].ljust(224, b"\0")
    else:
        records = mutate(records)
        sealed = sealed[:96] + blake3(records).digest() + sealed[128:]
    header = read_all(sealed + blake3(sealed).digest() + records)
    if header is not None:
        assert len(records) == header.records * header.record_bytes
        assert 0 <= header.depth <= limits.TREE_DEPTH_MAX
        assert (header.kind == index.IMAGE) == (header.chunk_bytes == limits.IMAGE_CHUNK_BYTES)
        if header.kind == index.TREE:
            rows = list(index.iter_tree_records(records))
            assert (header.root, index.KIND_METADATA) in [(chunk, kind) for chunk, _, kind in rows]
            assert len({chunk for chunk, _, _ in rows}) == len(rows)
            assert all(1 <= length <= limits.CHUNK_PLAIN_BYTES_MAX and kind in (0, 1) for _, length, kind in rows)


@given(data=st.binary(max_size=600), record_bytes=st.integers(-8, 64))
@example(b"", 40)
def test_rubbish(data: bytes, record_bytes: int) -> None:
    assert read_all(data) is None
    assert read_all(b"IBSI\x01\0" + data) is None
    for read in (
        lambda: index.record_ids(data, record_bytes),
        lambda: index.iter_tree_records(data),
        lambda: index.tree_records(data),
        lambda: index.check_tree_records(data),
    ):
        with contextlib.suppress(FormatError):
            read()


WIDE = st.one_of(st.integers(-2, 300), st.integers(-(2**70), 2**70))


@given(
    kind=st.sampled_from(["tree", "img", "", "x"]),
    numbers=st.tuples(st.sampled_from([0, 32, 40]), WIDE, WIDE, WIDE, WIDE),
    fields=st.tuples(*[st.one_of(ANY_ID, st.just(bytes(32)), st.binary(max_size=40))] * 3),
)
def test_no_header_that_cannot_be_read_is_written(kind: str, numbers: Any, fields: Any) -> None:
    header = IndexHeader(kind, *numbers, *fields)
    try:
        raw = encode_header(header)
    except FormatError:
        return
    assert parse_header(raw) == header


@given(held=st.lists(ANY_ID, max_size=60), asked=st.lists(ANY_ID, max_size=60), stride=st.booleans())
@settings(max_examples=300)
def test_lookup_agrees_with_a_dict(held: list[bytes], asked: list[bytes], stride: bool) -> None:
    first: dict[bytes, int] = {}
    for row, chunk in enumerate(held):
        first.setdefault(chunk, row)
    ids = array(held)
    if stride:
        ids = index.record_ids(b"".join(index.tree_record(chunk, 1, 0) for chunk in held), 40)
    lookup = IdLookup(ids)
    asked = asked + held[::3]
    assert len(lookup) == len(first)
    assert lookup.positions(asked).tolist() == [first.get(chunk, -1) for chunk in asked]
    assert lookup.contains(array(asked)).tolist() == [chunk in first for chunk in asked]
    assert [chunk in lookup for chunk in asked] == [chunk in first for chunk in asked]
