"""Values of entries: what is accepted, what is refused, and the small helpers around them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from ibs.core import limits
from ibs.core.tree import (
    FLAG_INCOMPLETE,
    FLAG_RACY,
    Entry,
    Extent,
    Kind,
    after_subtree,
    check_entry,
    check_path,
    clamp_time_ns,
    coalesce_extents,
    coalesce_ranges,
    entry_unchanged,
    is_racy,
    path_key,
)
from ibs.core.tree.entry import show
from ibs.errors import FormatError
from ibs_tests.support.archives import FS_A, FS_B, chunk, every_kind, file, folder

SECOND = 1_000_000_000


def test_entries_know_their_name_flags_and_data() -> None:
    entry = file(b"a/b", (1, 0, 5), flags=FLAG_RACY | FLAG_INCOMPLETE)
    assert (entry.name, folder(b"").name, file(b"x").name) == (b"b", b"", b"x")
    assert entry.racy
    assert entry.incomplete
    assert not file(b"x").racy
    assert entry.data_ranges() == ((0, 5),)
    assert file(b"x").data_ranges() == ()
    assert file(b"x", size=9).data_ranges() == (), "one hole"
    assert file(b"x", (1, 0, 2), size=9, ranges=((3, 2),)).data_ranges() == ((3, 2),)


def test_entries_are_frozen() -> None:
    with pytest.raises(AttributeError):
        file(b"x").size = 1  # type: ignore[misc]


def test_canonical_order_puts_a_folder_before_its_content_and_both_before_longer_names() -> None:
    paths = [b"", b"a", b"a/\x01", b"a/b", b"a/b/c", b"a/\xff", b"a\x01", b"a b", b"a-", b"a.", b"ab", b"b"]
    assert sorted(paths, key=path_key) == paths


def test_after_subtree_lies_behind_the_subtree_and_before_everything_else() -> None:
    place = path_key(after_subtree(b"a"))
    assert all(path_key(path) < place for path in (b"a", b"a/b", b"a/\xff\xff"))
    assert all(path_key(path) >= place for path in (b"a\x01", b"a ", b"ab", b"b"))


@pytest.mark.parametrize(
    ("age_ns", "racy"), [(2 * SECOND, False), (2 * SECOND - 1, True), (0, True), (-5 * SECOND, True), (10**12, False)]
)
def test_an_entry_is_racy_within_the_window_before_it_was_seen_or_later(age_ns: int, racy: bool) -> None:
    seen = 10**18
    assert is_racy(seen - age_ns, 0, seen) is racy
    assert is_racy(0, seen - age_ns, seen) is racy
    assert is_racy(0, 0, seen, granularity_ns=0) is False


def test_unchanged_needs_every_fact_and_a_clean_old_entry() -> None:
    old = file(b"x", (1, 0, 5), mtime_ns=1, ctime_ns=2, inode=3)
    facts: dict[str, Any] = {
        "kind": Kind.FILE, "size": 5, "mtime_ns": 1, "ctime_ns": 2, "inode": 3, "fs": FS_A,
    }  # fmt: skip
    assert entry_unchanged(old, **facts)
    for name, other in {
        "kind": Kind.DIR, "size": 6, "mtime_ns": 2, "ctime_ns": 3, "inode": 4, "fs": FS_B,
    }.items():  # fmt: skip
        assert not entry_unchanged(old, **{**facts, name: other}), name
    for flag in (FLAG_RACY, FLAG_INCOMPLETE):
        assert not entry_unchanged(msgspec.structs.replace(old, flags=flag), **facts)


def test_neighbouring_extents_of_one_chunk_are_joined() -> None:
    a, b = chunk(1), chunk(2)
    assert coalesce_extents([Extent(a, 0, 5), Extent(a, 5, 5), Extent(a, 10, 1), Extent(b, 11, 1)]) == (
        Extent(a, 0, 11),
        Extent(b, 11, 1),
    )
    apart = (Extent(a, 0, 5), Extent(a, 6, 5), Extent(a, 0, 5))
    assert coalesce_extents(apart) == apart
    assert coalesce_extents([]) == ()


def test_ranges_are_joined_and_the_smallest_holes_filled() -> None:
    assert coalesce_ranges([(0, 4), (4, 4), (10, 0), (20, 1)]) == ((0, 8), (20, 1))
    many = [(0, 1), (10, 1), (13, 1), (100, 1), (105, 1)]
    assert coalesce_ranges(many, 5) == tuple(many)
    assert coalesce_ranges(many, 3) == ((0, 1), (10, 4), (100, 6))
    assert coalesce_ranges(many, 1) == ((0, 106),)
    assert coalesce_ranges([]) == ()


def test_times_beyond_64_bits_are_clamped() -> None:
    assert clamp_time_ns(2**70) == 2**63 - 1
    assert clamp_time_ns(-(2**63)) == -(2**63) + 1
    assert clamp_time_ns(-7) == -7


@pytest.mark.parametrize(
    "path",
    [
        b"/", b"/a", b"a/", b"a//b", b".", b"..", b"a/.", b"a/..", b"../a", b"./a", b"a/../b", b"a\0b", b"\0",
        b"x" * (limits.PATH_BYTES_MAX + 1),
    ],
)  # fmt: skip
def test_bad_paths_are_refused(path: bytes) -> None:
    with pytest.raises(FormatError):
        check_path(path)


@pytest.mark.parametrize("path", [b"", b"a", b"a/b", b"...", b".a", b"a.", b"\xff\n", b"x" * limits.PATH_BYTES_MAX])
def test_good_paths_pass(path: bytes) -> None:
    check_path(path)


def test_paths_in_messages_are_printable_and_short() -> None:
    assert show(b"a\xff\xfeb") == "a\\xff\\xfeb"
    assert len(show(b"x" * 5000)) == 201


def test_every_kind_passes() -> None:
    for entry in every_kind():
        check_entry(entry)


def link(kind: Kind, target: bytes) -> Entry:
    return Entry(path=b"m/n", kind=kind, fs=FS_A, link=target)


BAD: dict[str, Entry] = {
    "mode": file(b"x", mtime_ns=2**63),
    "mtime": file(b"x", mtime_ns=2**63),
    "ctime": file(b"x", ctime_ns=-(2**63)),
    "uid": file(b"x", uid=2**32),
    "gid": file(b"x", gid=-1),
    "size": file(b"x", size=2**63),
    "negative size": file(b"x", size=-1),
    "inode": file(b"x", inode=2**64),
    "flags": file(b"x", flags=4),
    "fs": Entry(path=b"x", kind=Kind.FILE, fs=b"short"),
    "continuation": Entry(path=b"x", kind=Kind.CONTINUATION),
    "rdev of a file": file(b"x", rdev=1),
    "rdev too large": Entry(path=b"x", kind=Kind.CHAR, rdev=2**64),
    "xattrs unsorted": file(b"x", xattrs=((b"b", b""), (b"a", b""))),
    "xattrs doubled": file(b"x", xattrs=((b"b", b""), (b"b", b""))),
    "xattr without name": file(b"x", xattrs=((b"", b"v"),)),
    "xattr with NUL": file(b"x", xattrs=((b"a\0", b"v"),)),
    "xattrs too big": file(b"x", xattrs=((b"a", bytes(limits.ENTRY_XATTR_BYTES_MAX)),)),
    "link of a file": file(b"x", link=b"y"),
    "symlink without target": link(Kind.SYMLINK, b""),
    "symlink with NUL": link(Kind.SYMLINK, b"a\0"),
    "symlink too long": link(Kind.SYMLINK, b"a" * (limits.PATH_BYTES_MAX + 1)),
    "hard link without target": link(Kind.HARDLINK, b""),
    "hard link to itself": link(Kind.HARDLINK, b"m/n"),
    "hard link forwards": link(Kind.HARDLINK, b"m/o"),
    "hard link outside": link(Kind.HARDLINK, b"../n"),
    "folder with size": folder(b"x", size=1),
    "folder with extents": folder(b"x", extents=(Extent(chunk(1), 0, 1),)),
    "folder with ranges": folder(b"x", ranges=((0, 1),)),
    "extents short of size": file(b"x", (1, 0, 5), size=6),
    "extents over size": file(b"x", (1, 0, 5), size=4),
    "extents of nothing": file(b"x", (1, 0, 5), size=0),
    "empty extent": file(b"x", (1, 0, 0), (1, 0, 5)),
    "negative offset": file(b"x", (1, -1, 5)),
    "extent past a chunk": file(b"x", (1, 1, limits.CHUNK_PLAIN_BYTES_MAX)),
    "id too short": Entry(path=b"x", kind=Kind.FILE, size=1, extents=(Extent(b"id", 0, 1),)),
    "ranges without extents": file(b"x", size=9, ranges=((0, 5),)),
    "ranges not ascending": file(b"x", (1, 0, 4), size=9, ranges=((4, 2), (0, 2))),
    "ranges touching": file(b"x", (1, 0, 4), size=9, ranges=((0, 2), (2, 2))),
    "ranges overlapping": file(b"x", (1, 0, 4), size=9, ranges=((0, 3), (2, 1))),
    "range past the end": file(b"x", (1, 0, 4), size=9, ranges=((6, 4),)),
    "empty range": file(b"x", (1, 0, 4), size=9, ranges=((0, 4), (6, 0))),
    "ranges other than extents": file(b"x", (1, 0, 4), size=9, ranges=((0, 5),)),
    "too many ranges": file(
        b"x",
        (1, 0, limits.ENTRY_RANGES_MAX + 1),
        size=1 << 20,
        ranges=tuple((2 * i, 1) for i in range(limits.ENTRY_RANGES_MAX + 1)),
    ),
}
BAD["mode"] = msgspec.structs.replace(file(b"x"), mode=0o10000)


@pytest.mark.parametrize("what", BAD)
def test_values_outside_the_format_are_refused(what: str) -> None:
    with pytest.raises(FormatError):
        check_entry(BAD[what])


def test_too_many_extents_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "FILE_EXTENTS_MAX", 2)
    check_entry(file(b"x", (1, 0, 1), (2, 0, 1)))
    with pytest.raises(FormatError):
        check_entry(file(b"x", (1, 0, 1), (2, 0, 1), (3, 0, 1)))
