"""Where bytes of files go, and how they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind
from ibs.errors import CorruptChunk, FormatError
from ibs.restore.content import Piece, is_zero, layout, nonzero_runs, resolve, write_pieces

A, B = b"a" * 32, b"b" * 32
RUN = limits.SPARSE_RUN_BYTES


def entry(size: int, extents: tuple[Extent, ...] = (), ranges: tuple[tuple[int, int], ...] = ()) -> Entry:
    return Entry(path=b"f", kind=Kind.FILE, size=size, extents=extents, ranges=ranges)


def test_a_whole_file_of_one_extent() -> None:
    assert layout(entry(10, (Extent(A, 5, 10),))) == [Piece(0, A, 5, 10)]


def test_extents_flow_over_ranges() -> None:
    found = layout(entry(100, (Extent(A, 0, 6), Extent(B, 2, 8)), ((10, 4), (50, 10))))
    assert found == [Piece(10, A, 0, 4), Piece(50, A, 4, 2), Piece(52, B, 2, 8)]


def test_a_hole_and_an_empty_file_have_no_pieces() -> None:
    assert layout(entry(1 << 60)) == []
    assert layout(entry(0)) == []


@pytest.mark.parametrize(
    ("size", "extents", "ranges"),
    [
        (10, (Extent(A, 0, 9),), ()),  # too little
        (10, (Extent(A, 0, 11),), ()),  # too much
        (10, (Extent(A, 0, 5), Extent(B, 0, 5), Extent(A, 0, 1)), ()),  # an extent left over
        (10, (Extent(A, 0, 0), Extent(B, 0, 10)), ()),  # empty
        (10, (Extent(A, -1, 4), Extent(B, 0, 6)), ()),  # negative
        (10, (Extent(A, 0, 8),), ((0, 4), (3, 4))),  # ranges overlap
        (10, (Extent(A, 0, 8),), ((4, 8),)),  # behind the end
        (10, (Extent(A, 0, 4),), ((6, 2), (0, 2))),  # descending
        (10, (), ((0, 10),)),  # ranges without data
        (10, (Extent(A, 0, 4),), ((-2, 4),)),
    ],
)
def test_what_does_not_add_up_is_refused(
    size: int, extents: tuple[Extent, ...], ranges: tuple[tuple[int, int], ...]
) -> None:
    with pytest.raises(FormatError):
        layout(entry(size, extents, ranges))


def test_resolve_gives_views_not_copies() -> None:
    data = bytes(range(100))
    ((at, view),) = resolve([Piece(7, A, 10, 5)], {A: data}, b"f")
    assert (at, bytes(view)) == (7, data[10:15])
    assert view.obj is data


def test_resolve_refuses_what_lies_outside_its_chunk() -> None:
    with pytest.raises(FormatError, match=A.hex()):
        resolve([Piece(0, A, 90, 11)], {A: bytes(100)}, b"f")


def test_resolve_raises_what_befell_the_chunk() -> None:
    with pytest.raises(CorruptChunk):
        resolve([Piece(0, A, 0, 1)], {A: CorruptChunk(A.hex(), "rot")}, b"f")


def test_neighbours_go_out_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    real = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: calls.append((len(parts), at)) or real(fd, parts, at))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    parts = [(0, memoryview(b"ab")), (2, memoryview(b"cd")), (4, memoryview(b"ef")), (10, memoryview(b"gh"))]
    assert write_pieces(fd, parts, sparse=False) == 8
    assert os.pread(fd, 20, 0) == b"abcdef\0\0\0\0gh"
    assert calls == [(3, 0)]
    os.close(fd)


def test_short_writes_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, realv = os.pwrite, os.pwritev
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, at: realv(fd, [parts[0][:2]], at))
    fd = os.open(tmp_path / "f", os.O_RDWR | os.O_CREAT)
    write_pieces(fd, [(0, memoryview(b"abcde")), (5, memoryview(b"fghijkl"))], sparse=False)
    assert os.pread(fd, 20, 0) == b"abcdefghijkl"
    os.close(fd)


def test_is_zero() -> None:
    assert is_zero(b"")
    assert is_zero(bytes(5000))
    assert not is_zero(bytes(5000) + b"\1" + bytes(10))
    assert not is_zero(b"\1" + bytes(5000))
    assert not is_zero(bytes(5000) + b"\1")


@given(
    st.integers(0, 3 * RUN),
    st.lists(st.tuples(st.booleans(), st.integers(1, 2 * RUN)), min_size=1, max_size=6),
)
def test_only_zeros_are_left_out_and_whole_runs_of_them_always(at: int, shape: list[tuple[bool, int]]) -> None:
    data = b"".join((b"x" if filled else b"\0") * length for filled, length in shape)
    kept = nonzero_runs(at, memoryview(data))
    written = bytearray(len(data))
    end = at
    for first, view in kept:
        assert first >= end
        assert len(view)
        written[first - at : first - at + len(view)] = view
        end = first + len(view)
    assert bytes(written) == data
    covered = {number for first, view in kept for number in range(first // RUN, -(-(first + len(view)) // RUN))}
    for number in range(-(-at // RUN), (at + len(data)) // RUN):
        if is_zero(data[number * RUN - at : (number + 1) * RUN - at]):
            assert number not in covered
