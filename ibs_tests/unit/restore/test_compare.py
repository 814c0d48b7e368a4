"""What differs between entries, stretches of files, and live files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ibs.core.ids import chunk_id
from ibs.core.tree import Entry, Kind
from ibs.restore.compare import LiveFile, metadata_changes, same_bytes, stretches
from ibs.restore.content import Piece
from ibs.restore.tree.safe_path import SafeRoot

A, B = b"a" * 32, b"b" * 32
BASE = Entry(path=b"x", kind=Kind.FILE, mode=0o644, uid=1, gid=2, mtime_ns=3)


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({}, []),
        ({"mode": 0o600}, ["mode"]),
        ({"uid": 9}, ["owner"]),
        ({"gid": 9}, ["owner"]),
        ({"mtime_ns": 9}, ["mtime"]),
        ({"ctime_ns": 9, "inode": 7}, []),
        ({"xattrs": ((b"a", b"b"),)}, ["xattrs"]),
        ({"kind": Kind.FIFO}, ["kind"]),
        ({"rdev": 5}, ["device"]),
        ({"link": b"y", "mode": 0o600}, ["mode", "link"]),
    ],
)
def test_metadata(changes: dict[str, object], what: list[str]) -> None:
    values = {name: getattr(BASE, name) for name in Entry.__struct_fields__}
    assert metadata_changes(BASE, Entry(**{**values, **changes})) == what


def test_stretches_are_only_where_places_differ() -> None:
    old = [Piece(0, A, 0, 100), Piece(100, B, 0, 50)]
    new = [Piece(0, A, 0, 60), Piece(60, B, 7, 40), Piece(100, B, 0, 50)]
    assert list(stretches(old, new, 200)) == [(60, 40, (A, 60), (B, 7))]
    assert list(stretches(old, old, 200)) == []


def test_a_hole_against_data_is_a_stretch() -> None:
    assert list(stretches([], [Piece(10, A, 0, 5)], 20)) == [(10, 5, None, (A, 0))]


CHUNKS = {A: bytes(range(64)), B: bytes(64)}


@st.composite
def layouts(draw: st.DrawFn) -> list[Piece]:
    pieces, at = [], 0
    for _ in range(draw(st.integers(0, 4))):
        at += draw(st.integers(0, 5))
        offset = draw(st.integers(0, 50))
        length = draw(st.integers(1, 10))
        pieces.append(Piece(at, draw(st.sampled_from([A, B])), offset, length))
        at += length
    return pieces


def spelled(pieces: list[Piece], size: int) -> bytes:
    content = bytearray(size)
    for at, chunk, offset, length in pieces:
        content[at : at + length] = CHUNKS[chunk][offset : offset + length]
    return bytes(content)


@given(layouts(), layouts())
def test_files_are_equal_when_all_stretches_are(old: list[Piece], new: list[Piece]) -> None:
    size = 80
    equal = all(
        same_bytes(
            each,
            CHUNKS[each.old[0]] if each.old else None,
            CHUNKS[each.new[0]] if each.new else None,
        )
        for each in stretches(old, new, size)
    )
    assert equal == (spelled(old, size) == spelled(new, size))


def test_a_live_file_is_decided_by_ids_where_it_can(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 100 + b"y" * 100)
    root = SafeRoot(str(tmp_path))
    file = LiveFile(root, b"f")
    x, y = chunk_id(b"x" * 100), chunk_id(b"y" * 100)
    lengths = {x: 100, y: 100, A: 300}
    assert file.undecided([Piece(0, x, 0, 100), Piece(100, y, 0, 100)], lengths, chunk_id) == []
    assert file.undecided([Piece(0, y, 0, 100)], lengths, chunk_id) is None
    part = Piece(100, A, 7, 100)
    assert file.undecided([Piece(0, x, 0, 100), part], lengths, chunk_id) == [part]
    assert file.same(part, bytes(7) + b"y" * 293)
    assert not file.same(part, bytes(300))
    file.close()
    root.close()


def test_holes_of_the_archive_must_be_zeros_in_the_file(tmp_path: Path) -> None:
    size = 3 << 20
    with (tmp_path / "f").open("wb") as opened:
        opened.truncate(size)
        opened.seek(1 << 20)
        opened.write(b"data")
    root = SafeRoot(str(tmp_path))
    file = LiveFile(root, b"f")
    assert file.holes_are_zero([Piece(1 << 20, A, 0, 4)], size)
    assert not file.holes_are_zero([], size)
    assert not file.holes_are_zero([Piece(0, A, 0, 4)], size)
    assert file.holes_are_zero([Piece(1 << 20, A, 0, 4)], size + 100)
    file.close()
    root.close()


def test_a_live_file_is_never_reached_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "f").touch()
    (tmp_path / "l").symlink_to("real")
    (tmp_path / "m").symlink_to("real/f")
    root = SafeRoot(str(tmp_path))
    for path in (b"l/f", b"m"):
        with pytest.raises(OSError, match=r"symbolic links|Not a directory"):
            LiveFile(root, path)
    LiveFile(root, b"real/f").close()
    root.close()
    assert len(os.listdir(tmp_path)) == 3
