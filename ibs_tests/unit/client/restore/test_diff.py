"""What differs between snapshots, and between a snapshot and a live folder."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ibs.client.restore.diff import LiveOptions, diff_folder, diff_snapshots
from ibs.client.restore.view import TreeView, open_tree
from ibs.core.keys import DataKeys
from ibs.core.tree import Entry, Extent, Kind
from ibs.errors import ChunkNotFound, FormatError, UsageError
from ibs.runtime.pool import InlinePool
from ibs.sources.tree.meta import FileSystems
from ibs_tests.support.restores import CLOCK, SNAPSHOT, STORE, MemorySnapshot, folder
from ibs_tests.support.trees import rich_tree

Changes = dict[str, tuple[str, ...]]


@asynccontextmanager
async def views(*snapshots: MemorySnapshot) -> AsyncIterator[Sequence[TreeView]]:
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                open_tree(
                    snapshot.transport(),
                    store=STORE,
                    snapshot=SNAPSHOT,
                    archive="a.tree",
                    pool=InlinePool(),
                    clock=CLOCK,
                    keys=snapshot.keys,
                )
            )
            for snapshot in snapshots
        ]


async def between(old: MemorySnapshot, new: MemorySnapshot) -> Changes:
    async with views(old, new) as (left, right):
        return {each.path.decode(): (each.change, *each.what) async for each in diff_snapshots(left, right)}


def tree(*entries: Entry, snapshot: MemorySnapshot | None = None) -> MemorySnapshot:
    snapshot = snapshot or MemorySnapshot()
    snapshot.add_tree("a.tree", [folder(b""), *entries])
    return snapshot


def file(snapshot: MemorySnapshot, path: bytes, data: bytes, **values: object) -> Entry:
    return Entry(path=path, kind=Kind.FILE, size=len(data), extents=snapshot.extents(data), **values)  # type: ignore[arg-type]


async def test_nothing_differs_from_itself(tmp_path: Path) -> None:
    rich_tree(tmp_path / "s")
    snapshot = MemorySnapshot()
    snapshot.add_folder("a.tree", str(tmp_path / "s"))
    async with views(snapshot, snapshot) as (left, right):
        assert [each async for each in diff_snapshots(left, right)] == []
        assert left.fetcher.figures.plain_bytes < 100_000  # metadata only


async def test_added_removed_changed() -> None:
    old, new = MemorySnapshot(), MemorySnapshot()
    tree(
        file(old, b"content", b"one"),
        folder(b"gone"),
        file(old, b"gone/f", b"x"),
        file(old, b"kind", b"x"),
        Entry(path=b"link", kind=Kind.SYMLINK, link=b"a"),
        file(old, b"mode", b"x", mode=0o644),
        file(old, b"same", b"x"),
        file(old, b"touched", b"x", mtime_ns=1),
        snapshot=old,
    )
    tree(
        file(new, b"content", b"two", mtime_ns=5),
        file(new, b"added", b"x") and file(new, b"dded", b"x"),
        folder(b"kind"),
        file(new, b"kind/f", b"x"),
        Entry(path=b"link", kind=Kind.SYMLINK, link=b"b"),
        file(new, b"mode", b"x", mode=0o600),
        file(new, b"same", b"x"),
        file(new, b"touched", b"x", mtime_ns=2),
        snapshot=new,
    )
    assert await between(old, new) == {
        "content": ("changed", "content", "mtime"),
        "dded": ("added",),
        "gone": ("removed",),
        "gone/f": ("removed",),
        "kind": ("changed", "kind"),
        "kind/f": ("added",),
        "link": ("changed", "link"),
        "mode": ("changed", "mode"),
        "touched": ("changed", "mtime"),
    }


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"k" * 32)])
@pytest.mark.parametrize("changed", [True, False])
async def test_another_chunking_or_key_is_no_change(keys: DataKeys | None, changed: bool) -> None:
    data = os.urandom(100_000)
    other = data[:70_000] + (b"?" if changed else data[70_000:70_001]) + data[70_001:]
    old, new = MemorySnapshot(cut=30_000), MemorySnapshot(cut=17_000, keys=keys)
    tree(file(old, b"f", data), snapshot=old)
    tree(file(new, b"f", other), snapshot=new)
    assert await between(old, new) == ({"f": ("changed", "content")} if changed else {})


async def test_zeros_and_holes_are_the_same_content() -> None:
    old, new = MemorySnapshot(), MemorySnapshot()
    tree(file(old, b"f", bytes(5000) + b"x"), snapshot=old)
    sparse = Entry(path=b"f", kind=Kind.FILE, size=5001, extents=new.extents(b"x"), ranges=((5000, 1),))
    tree(sparse, snapshot=new)
    assert await between(old, new) == {}
    third = MemorySnapshot()
    tree(Entry(path=b"f", kind=Kind.FILE, size=5001), snapshot=third)
    assert await between(new, third) == {"f": ("changed", "content")}


async def test_a_group_of_hard_links_may_change_its_first_name() -> None:
    old, new = MemorySnapshot(), MemorySnapshot()
    tree(file(old, b"a", b"x"), Entry(path=b"b", kind=Kind.HARDLINK, link=b"a"), snapshot=old)
    tree(file(new, b"b", b"x"), snapshot=new)
    assert await between(old, new) == {"a": ("removed",)}
    assert await between(new, old) == {"a": ("added",)}


async def test_a_link_to_nothing_is_refused() -> None:
    old, new = MemorySnapshot(), MemorySnapshot()
    tree(folder(b"a"), Entry(path=b"b", kind=Kind.HARDLINK, link=b"a"), snapshot=old)
    tree(folder(b"a"), file(new, b"b", b"x"), snapshot=new)
    with pytest.raises(FormatError, match="links to a"):
        await between(old, new)


async def test_a_missing_chunk_is_told_only_when_it_is_needed() -> None:
    old, new = MemorySnapshot(cut=10), MemorySnapshot(cut=7)
    tree(file(old, b"f", b"x" * 30), snapshot=old)
    tree(file(new, b"f", b"x" * 30), snapshot=new)
    for chunk, data in old.plain.items():
        if data == b"x" * 10:
            del old.blobs[chunk]
    assert await between(old, old) == {}
    with pytest.raises(ChunkNotFound):
        await between(old, new)


# --- against a live folder ---


def archived(path: Path, keys: DataKeys | None = None) -> MemorySnapshot:
    """A snapshot of a live folder as a backup makes it: with the file systems' ids."""
    plain = MemorySnapshot(keys=keys)
    scratch = MemorySnapshot(keys=keys)
    scratch.add_folder("a.tree", str(path))
    fd = os.open(path, os.O_RDONLY)
    fs = FileSystems().of(fd, os.fstat(fd).st_dev).id
    os.close(fd)
    from ibs_tests.support.restores import archive_folder  # noqa: PLC0415

    entries = [msgspec.structs.replace(entry, fs=fs) for entry in archive_folder(plain, os.fsencode(path))]
    plain.add_tree("a.tree", entries)
    return plain


async def against(snapshot: MemorySnapshot, path: Path, options: LiveOptions | None = None) -> Changes:
    async with views(snapshot) as (view,):
        return {each.path.decode(): (each.change, *each.what) async for each in diff_folder(view, str(path), options)}


@pytest.mark.parametrize("content", [True, False])
@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"k" * 32)])
async def test_a_folder_that_has_not_changed(tmp_path: Path, content: bool, keys: DataKeys | None) -> None:
    rich_tree(tmp_path / "s")
    snapshot = archived(tmp_path / "s", keys)
    assert await against(snapshot, tmp_path / "s", LiveOptions(content=content)) == {}


async def test_what_changed_in_a_folder(tmp_path: Path) -> None:
    rich_tree(tmp_path / "s")
    snapshot = archived(tmp_path / "s")
    source = tmp_path / "s"
    (source / "new").write_text("new")
    (source / "folder" / "deeper" / "file").unlink()
    with (source / "large").open("r+b") as opened:
        opened.seek(3_000_000)
        opened.write(b"changed")
    os.utime(source / "large", ns=(10**18, 10**18))
    with (source / "sparse").open("r+b") as opened:
        opened.seek(20 << 20)
        opened.write(b"in the hole")
    (source / "edge").chmod(0o600)
    os.setxattr(source / "one", b"user.other", b"x")
    (source / "dangling").unlink()
    (source / "dangling").symlink_to("/other")
    found = await against(snapshot, source)
    assert found["new"] == ("added",)
    assert found["folder/deeper/file"] == ("removed",)
    assert found["large"][:2] == ("changed", "content")
    assert found["sparse"][:2] == ("changed", "content")
    assert found["edge"][0] == "changed"
    assert "content" not in found["edge"]
    assert found["one"] == ("changed", "xattrs")
    assert "link" in found["dangling"]
    assert "small" not in found


async def test_a_change_that_hides_behind_its_times_is_found_when_asked(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old content")
    snapshot = archived(tmp_path)
    entry = os.stat(tmp_path / "f")
    (tmp_path / "f").write_bytes(b"new content")
    os.utime(tmp_path / "f", ns=(entry.st_atime_ns, entry.st_mtime_ns))
    # The change of ctime gives it away; an archive that claims the new ctime shows what `content` is for.
    assert await against(snapshot, tmp_path) == {"f": ("changed", "content")}
    later = os.stat(tmp_path / "f").st_ctime_ns
    lying = MemorySnapshot()
    fd = os.open(tmp_path, os.O_RDONLY)
    fs = FileSystems().of(fd, os.fstat(fd).st_dev).id
    os.close(fd)
    top = os.stat(tmp_path)
    old = Entry(
        path=b"f", kind=Kind.FILE, mode=entry.st_mode & 0o7777, uid=entry.st_uid, gid=entry.st_gid,
        mtime_ns=entry.st_mtime_ns, ctime_ns=later, size=11, inode=entry.st_ino, fs=fs,
        extents=lying.extents(b"old content"),
    )  # fmt: skip
    root = folder(b"", mode=top.st_mode & 0o7777, mtime_ns=top.st_mtime_ns)
    lying.add_tree("a.tree", [root, old])
    assert await against(lying, tmp_path) == {}
    assert await against(lying, tmp_path, LiveOptions(content=True)) == {"f": ("changed", "content")}


async def test_parts_of_chunks_are_fetched_and_whole_ones_are_not(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1000)
    entry = os.stat(tmp_path / "f")
    snapshot = MemorySnapshot()
    together = snapshot.chunk(b"#" + b"x" * 500 + b"#")
    whole = snapshot.chunk(b"x" * 500)
    top = os.stat(tmp_path)
    stored = Entry(
        path=b"f", kind=Kind.FILE, mode=entry.st_mode & 0o7777, uid=entry.st_uid, gid=entry.st_gid,
        mtime_ns=entry.st_mtime_ns, size=1000, extents=(Extent(together, 1, 500), Extent(whole, 0, 500)),
    )  # fmt: skip
    snapshot.add_tree("a.tree", [folder(b"", mode=top.st_mode & 0o7777, mtime_ns=top.st_mtime_ns), stored])
    del snapshot.blobs[whole]
    assert await against(snapshot, tmp_path) == {}


async def test_excludes_leave_out_the_live_side(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    snapshot = archived(tmp_path)
    times = os.stat(tmp_path)
    (tmp_path / "cache").touch()
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert await against(snapshot, tmp_path) == {"cache": ("added",)}
    assert await against(snapshot, tmp_path, LiveOptions(excludes=("cache",))) == {}


async def test_a_folder_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(UsageError):
        await against(archived(tmp_path), tmp_path / "f")


async def test_stopping_early_closes_everything(tmp_path: Path) -> None:
    rich_tree(tmp_path / "s")
    snapshot = archived(tmp_path / "s")
    for name in ("a", "b", "c"):
        (tmp_path / "s" / name).touch()
    before = len(os.listdir("/proc/self/fd"))
    async with views(snapshot) as (view,), aclosing(diff_folder(view, str(tmp_path / "s"))) as found:
        async for _ in found:
            break
    assert len(os.listdir("/proc/self/fd")) == before
