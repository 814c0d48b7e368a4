"""Looking into an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from ibs.client.restore.view import archive_path, list_entries, open_tree
from ibs.core.tree import Entry, Kind
from ibs.errors import CorruptChunk, FormatError, NotFoundError, UsageError
from ibs.runtime.pool import InlinePool
from ibs_tests.support.restores import CLOCK, SNAPSHOT, STORE, MemorySnapshot, folder
from ibs_tests.support.trees import many_files


def sample() -> MemorySnapshot:
    snapshot = MemorySnapshot()
    entries = [
        folder(b""),
        folder(b"a"),
        folder(b"a/b"),
        Entry(path=b"a/b/f", kind=Kind.FILE, size=3, extents=snapshot.extents(b"abc")),
        Entry(path=b"a/g", kind=Kind.FILE),
        Entry(path=b"a.txt", kind=Kind.FILE),
        folder(b"z"),
    ]
    snapshot.add_tree("a.tree", entries)
    return snapshot


async def listed(snapshot: MemorySnapshot, path: bytes, *, recursive: bool = False) -> list[bytes]:
    async with open_tree(
        snapshot.transport(), store=STORE, snapshot=SNAPSHOT, archive="a.tree", pool=InlinePool(), clock=CLOCK
    ) as view:
        return [entry.path async for entry in list_entries(view, path, recursive=recursive)]


@pytest.mark.parametrize(
    ("path", "recursive", "expected"),
    [
        (b"", False, [b"a", b"a.txt", b"z"]),
        (b"", True, [b"a", b"a/b", b"a/b/f", b"a/g", b"a.txt", b"z"]),
        (b"a", False, [b"a/b", b"a/g"]),
        (b"a/b", False, [b"a/b/f"]),
        (b"a/b/f", False, [b"a/b/f"]),
        (b"z", True, []),
    ],
)
async def test_listing(path: bytes, recursive: bool, expected: list[bytes]) -> None:
    assert await listed(sample(), path, recursive=recursive) == expected


async def test_subtrees_that_are_not_listed_are_jumped_over(tmp_path: Path) -> None:
    many_files(tmp_path, seed=1, count=6000, size_max=2)
    (tmp_path / "zz").touch()
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path))
    expected = sorted([b"d%03d" % number for number in range(120)] + [b"zz"])
    assert await listed(snapshot, b"") == expected


async def test_what_is_not_there() -> None:
    with pytest.raises(NotFoundError, match=r"a/none is not in a\.tree"):
        await listed(sample(), b"a/none")


async def test_the_server_is_told_how_it_ended() -> None:
    snapshot = sample()
    transport = snapshot.transport()

    async def look(archive: str = "a.tree") -> None:
        async with open_tree(
            transport, store=STORE, snapshot=SNAPSHOT, archive=archive, pool=InlinePool(), clock=CLOCK
        ) as view:
            assert (await view.entries.find(b"a")) is not None
            (chunk,) = [each for each, data in snapshot.plain.items() if data == b"abc"]
            assert await view.chunks({chunk: 3}) == {chunk: b"abc"}
            snapshot.blobs[chunk] = b"junk"
            view.fetcher._slots.clear()
            view.fetcher._idle.clear()
            with pytest.raises(CorruptChunk):
                await view.chunks({chunk: 3})
            if archive == "a.tree" and transport.requests > 5:
                raise NotFoundError("x")

    await look()
    assert transport.closed == ("OK", 0, "")
    with pytest.raises(NotFoundError):
        await look("b.tree")
    assert transport.closed == ("FAILED", 0, "not-found")


async def test_images_are_no_trees() -> None:
    transport = sample().transport()
    with pytest.raises(UsageError, match="not a tree"):
        async with open_tree(
            transport, store=STORE, snapshot=SNAPSHOT, archive="d.img", pool=InlinePool(), clock=CLOCK
        ):
            pass
    assert transport.closed is None


def test_paths_as_users_write_them() -> None:
    assert archive_path("/etc/ssh/") == b"etc/ssh"
    assert archive_path("/") == b""
    assert archive_path("\udcff") == b"\xff"
    with pytest.raises(FormatError):
        archive_path("a/../b")
