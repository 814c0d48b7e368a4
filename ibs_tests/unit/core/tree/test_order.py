"""One step of the canonical order."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.core.tree.order import check_step, common_prefix_bytes
from ibs.errors import FormatError


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        (b"", b"", 0), (b"", b"a", 0), (b"a", b"", 0), (b"abc", b"abd", 2), (b"abc", b"abc", 3), (b"ab", b"abc", 2),
        (b"abc", b"ab", 2), (b"\0a", b"\0b", 1), (b"\0\0", b"\0\1", 1),
        (b"x" * 70_000 + b"a", b"x" * 70_000 + b"b", 70_000),
        (b"\x80", b"\x81", 0), (b"a\x80", b"a\x00", 1),
    ],
)  # fmt: skip
def test_common_prefix(a: bytes, b: bytes, length: int) -> None:
    assert common_prefix_bytes(a, b) == length


def step(before: bytes, path: bytes, *, before_is_folder: bool = True) -> None:
    shared = common_prefix_bytes(before, path)
    check_step(before, before_is_folder, shared, path[shared:])


@pytest.mark.parametrize(
    ("before", "path"),
    [
        (b"", b"a"), (b"", b".a"), (b"a", b"a/b"), (b"a", b"ab"), (b"a", b"b"), (b"a/b", b"a/c"),
        (b"a/b/c/d", b"a/b/c/e"), (b"a/b/c/d", b"a/b/ca"), (b"a/b/c/d", b"b"), (b"a/b", b"a\x01"), (b"a/b", b"a!"),
        (b"a/b", b"a."), (b"a/b", b"a.."), (b"a", b"a/..."), (b"a/.", b"a/.a"), (b"a\xff", b"b"),
    ],
)  # fmt: skip
def test_steps_that_are_taken(before: bytes, path: bytes) -> None:
    step(before, path)


@pytest.mark.parametrize(
    ("before", "path"),
    [
        (b"a", b"a"), (b"b", b"a"), (b"a/b", b"a"), (b"a!", b"a/b"), (b"a/c", b"a/b"), (b"", b""),
        (b"", b"/a"), (b"", b"a/b"), (b"a", b"a/b/c"), (b"a", b"b/c"), (b"a", b"ab/c"), (b"a/b", b"a/c/d"),
        (b"a", b"a/"), (b"a", b"a/."), (b"a", b"a/.."), (b"", b"."), (b"", b".."), (b"a/!", b"a/."), (b"a/!", b"a/.."),
        (b"a", b"a/b\0"), (b"a", b"b\0"), (b"a", b"a\0"), (b"a", b"a//b"), (b"a", b"b/"), (b"a/b", b"a//"),
        (b"a", b"x" * (limits.PATH_BYTES_MAX + 1)),
    ],
)  # fmt: skip
def test_steps_that_are_refused(before: bytes, path: bytes) -> None:
    with pytest.raises(FormatError):
        step(before, path)


def test_nothing_lies_below_what_is_no_folder() -> None:
    for before, path in ((b"a", b"a/b"), (b"", b"a")):
        with pytest.raises(FormatError):
            step(before, path, before_is_folder=False)
    step(b"a", b"ab", before_is_folder=False)


def test_the_shared_part_is_exactly_the_common_prefix() -> None:
    check_step(b"abc", True, 2, b"d")
    for shared, suffix in ((1, b"bd"), (0, b"abd"), (4, b"d"), (3, b"")):
        with pytest.raises(FormatError):
            check_step(b"abc", True, shared, suffix)
