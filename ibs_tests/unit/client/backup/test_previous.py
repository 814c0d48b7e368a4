"""The previous tree beside the scan: every old entry found in either gait, missing chunks asked for."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from ibs.client.backup.base import ChunkWanted
from ibs.client.backup.previous import BlockWalk, OldRun, PreviousTree
from ibs.core import limits
from ibs.core.tree import FLAG_RACY, Entry, Extent, Kind, TreeBuilder, TreeRoot, path_key
from ibs.errors import FormatError
from ibs.sources.tree.meta import FileSystem
from ibs.sources.tree.scan import Found, TreeScan
from ibs_tests.support.archives import Chunks, build, chunk, file, folder

LATER = 1 << 62


class Shelf:
    """Hands chunks out one by one; each must be asked for twice."""

    def __init__(self, chunks: Chunks) -> None:
        self.chunks = chunks
        self.asked: set[bytes] = set()

    def get(self, chunk_id: bytes) -> bytes:
        if chunk_id not in self.asked:
            self.asked.add(chunk_id)
            raise ChunkWanted(chunk_id)
        self.asked.discard(chunk_id)
        return self.chunks.fetch(chunk_id)


class FakeBase:
    """What `PreviousTree` looks at in a base index."""

    def __init__(self, root: TreeRoot, *unusable: bytes) -> None:
        self.header = root
        self.unusable = frozenset(unusable)


class FakeHeader:
    def __init__(self, root: TreeRoot) -> None:
        self.root = root.id
        self.depth = root.depth


def previous(chunks: Chunks, root: TreeRoot, *unusable: bytes, patient: bool = False) -> PreviousTree:
    base = FakeBase(root, *unusable)
    base.header = FakeHeader(root)  # type: ignore[assignment]
    fetch = chunks.fetch if patient else Shelf(chunks).get
    return PreviousTree(base, fetch)  # type: ignore[arg-type]


def ask(tree: PreviousTree, path: bytes) -> Entry | None:
    while True:
        try:
            return tree.match(path)
        except ChunkWanted:
            pass


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 200)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 400)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MIN", 2)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MAX", 4)


def some(count: int) -> list[Entry]:
    return [folder(b""), *(file(b"%06d" % n, (n // 10, n % 10, 1), inode=n + 1) for n in range(count))]


@pytest.mark.parametrize("count", [0, 1, 40, 400])
@pytest.mark.usefixtures("small")
def test_every_old_entry_is_found_by_its_path(count: int) -> None:
    entries = some(count)
    tree = previous(*build(entries))
    assert [ask(tree, entry.path) for entry in entries] == entries
    assert ask(tree, b"~") is None


@pytest.mark.usefixtures("small")
def test_new_and_deleted_paths_in_between() -> None:
    entries = some(300)
    tree = previous(*build(entries))
    known = {entry.path: entry for entry in entries}
    wanted = sorted(
        {b"", b"0", b"000000a", b"~", *list(known)[::7], *(b"%06d-" % n for n in range(0, 400, 11))}, key=path_key
    )
    assert [ask(tree, path) for path in wanted] == [known.get(path) for path in wanted]


@pytest.mark.usefixtures("small")
def test_files_continued_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "ENTRY_EXTENTS_MAX", 8)
    extents = tuple(Extent(chunk(n), 0, 10) for n in range(50))
    long = Entry(b"b", Kind.FILE, size=500, extents=extents)
    entries = [folder(b""), file(b"a"), long, file(b"c")]
    tree = previous(*build(entries))
    assert [ask(tree, entry.path) for entry in entries] == entries


@pytest.mark.usefixtures("small")
def test_a_walk_takes_up_where_a_missing_chunk_broke_it_off() -> None:
    chunks, root = build(some(300))
    assert root.depth >= 2
    walk = BlockWalk(Shelf(chunks).get, root.id, root.depth)
    paths = []
    while True:
        try:
            child = walk.peek()
        except ChunkWanted:
            continue
        if child is None:
            break
        paths.append(child.first_path)
        walk.advance()
    assert len(paths) == root.blocks
    assert paths == sorted(paths)


def test_after_the_end_everything_is_new() -> None:
    chunks, root = build(some(30))
    tree = previous(chunks, root, patient=True)
    assert tree.match(b"") is not None
    tree.end()
    assert tree.match(b"000003") is None
    assert tree.begin(b"000004") is None


def test_what_is_no_archive_is_refused() -> None:
    chunks, root = build(some(30))
    chunks[root.id] = b"nonsense"
    with pytest.raises(FormatError):
        previous(chunks, root, patient=True).match(b"")
    deeper = root._replace(depth=2)
    with pytest.raises(FormatError):
        previous(chunks, deeper, patient=True).match(b"")


class Scanned:
    """A real folder, and an archive of it as an earlier backup would have made it."""

    def __init__(self, root: Path) -> None:
        (root / "sub").mkdir()
        for number in range(30):
            (root / "sub" / f"f{number:02}").write_bytes(b"x" * (number + 1))
        (root / "zlink").symlink_to("sub")
        self.root = root
        builder = TreeBuilder((chunks := Chunks()).emit)
        self.found = [self.keep(one) for one in TreeScan(os.fsencode(root), note=lambda _: None)]
        self.entries = [self.entry(one) for one in self.found]
        for entry in self.entries:
            builder.add(entry)
        self.chunks, self.archive = chunks, builder.finish()

    @staticmethod
    def keep(one: Found) -> Found:
        return msgspec.structs.replace(one, file_system=FileSystem(b"f" * 16, pseudo=False))

    def entry(self, one: Found) -> Entry:
        st = one.stat
        size = st.st_size if one.kind is Kind.FILE else 0
        link = os.fsencode(os.readlink(self.root / "zlink")) if one.kind is Kind.SYMLINK else b""
        return Entry(
            one.path, one.kind, st.st_mode & 0o7777, st.st_uid, st.st_gid, st.st_mtime_ns, st.st_ctime_ns, size,
            b"f" * 16, st.st_ino, link=link,
            extents=(Extent(chunk(1), 0, size),) if size else (),
        )  # fmt: skip

    def run(self, *unusable: bytes) -> tuple[PreviousTree, OldRun | None]:
        tree = previous(self.chunks, self.archive, *unusable, patient=True)
        return tree, tree.begin(b"")


@pytest.fixture
def scanned(tmp_path: Path) -> Scanned:
    return Scanned(tmp_path)


def accepts(run: OldRun, one: Found, now_ns: int = LATER) -> bool:
    return run.accepts(one, one.kind, None, 0, now_ns)


def test_an_unchanged_block_stands_for_all_its_entries(scanned: Scanned) -> None:
    tree, run = scanned.run()
    assert run is not None
    assert all(accepts(run, one) for one in scanned.found)
    assert run.complete
    assert (run.files, run.size) == (30, sum(range(1, 31)))
    assert (run.last_path, run.last_is_folder, run.link()) == (b"zlink", False, b"sub")
    assert list(run.data_ids()) == [chunk(1)]
    assert run.child.entries == len(scanned.found)
    assert tree.begin(b"~") is None


def test_a_broken_off_run_gives_its_entries_back_and_the_rest_is_matched(scanned: Scanned) -> None:
    tree, run = scanned.run()
    assert run is not None
    assert all(accepts(run, one) for one in scanned.found[:10])
    assert tree.give_up(run) == scanned.entries[:10]
    assert tree.begin(scanned.found[10].path) is None
    assert [tree.match(one.path) for one in scanned.found[10:]] == scanned.entries[10:]


@pytest.mark.usefixtures("small")
def test_after_a_block_with_changes_whole_blocks_are_offered_again() -> None:
    entries = some(300)
    chunks, root = build(entries)
    tree = previous(chunks, root, patient=True)
    offered = 0
    gave_up = False
    at = 0
    while at < len(entries):
        run = tree.begin(entries[at].path)
        if run is not None and gave_up:
            offered += 1
            for _ in run.block.entries:
                at += 1
            continue
        if run is not None:
            gave_up = True
            tree.give_up(run)
        assert tree.match(entries[at].path) == entries[at]
        at += 1
    assert offered == root.blocks - 1


@pytest.mark.parametrize("field", ["st_mtime_ns", "st_ctime_ns", "st_ino", "st_size", "st_mode", "st_uid", "st_gid"])
def test_any_difference_is_seen(scanned: Scanned, field: str) -> None:
    _, run = scanned.run()
    assert run is not None
    assert accepts(run, scanned.found[0])
    assert accepts(run, scanned.found[1])

    class Other:
        def __getattr__(self, name: str) -> int:
            value: int = getattr(scanned.found[2].stat, name)
            return value + 1 if name == field else value

    assert not accepts(run, msgspec.structs.replace(scanned.found[2], stat=Other()))  # type: ignore[arg-type]
    assert accepts(run, scanned.found[2])


def test_other_reasons_to_look_closer(scanned: Scanned) -> None:
    _, run = scanned.run()
    assert run is not None
    first = scanned.found[0]
    assert not accepts(run, first, now_ns=first.stat.st_ctime_ns)  # racy by now: the clock was set back
    assert not accepts(run, scanned.found[1])
    assert not accepts(run, msgspec.structs.replace(first, listed=False))
    assert not accepts(run, msgspec.structs.replace(first, file_system=FileSystem(b"g" * 16, pseudo=False)))
    assert not run.accepts(first, Kind.HARDLINK, b"x", 0, LATER)
    assert not run.accepts(first, Kind.DIR, None, 7, LATER)
    assert accepts(run, first)


def test_racy_entries_are_not_taken_over(scanned: Scanned) -> None:
    scanned.entries[1] = msgspec.structs.replace(scanned.entries[1], flags=FLAG_RACY)
    scanned.chunks, scanned.archive = build(scanned.entries)
    _, run = scanned.run()
    assert run is not None
    assert accepts(run, scanned.found[0])
    assert not accepts(run, scanned.found[1])


def test_a_block_with_a_lost_chunk_is_walked_entry_by_entry(scanned: Scanned) -> None:
    for lost in (chunk(1), scanned.archive.id):
        tree, run = scanned.run(lost)
        assert run is None
        assert tree.match(b"") == scanned.entries[0]
