"""Reading trees: streaming, seeking without waste, and hostile archives refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from ibs.core import limits
from ibs.core.tree import Entry, Extent, Kind, TreeReader, decode_block, decode_node, path_key
from ibs.errors import ChunkNotFound, FormatError
from ibs_tests.support.archives import Chunks, build, chunk, every_kind, file, folder, reader, reference_encode


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of several levels from a few hundred entries."""
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 300)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 600)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MIN", 3)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MAX", 6)


def wide() -> list[Entry]:
    """30 folders of 10 files each."""
    entries = [folder(b"")]
    for i in range(30):
        entries.append(folder(b"d%02d" % i))
        entries += [file(b"d%02d/f%d" % (i, j), (i, j, 1)) for j in range(10)]
    return entries


def blocks_of(chunks: Chunks) -> set[bytes]:
    """Ids of the blocks among the chunks."""
    return {chunk_id for chunk_id, data in chunks.items() if data[0] == 0x94}


@pytest.mark.usefixtures("small_blocks")
def test_every_entry_is_found_and_nothing_else() -> None:
    entries = wide()
    chunks, root = build(entries)
    assert root.depth >= 2
    tree = reader(chunks, root)
    for entry in entries:
        assert tree.find(entry.path) == entry
    for path in (b"d", b"d00/f", b"d00/f00", b"d00/f9x", b"zzz", b"d29/f9/x", b"\xff"):
        assert tree.find(path) is None


@pytest.mark.usefixtures("small_blocks")
def test_a_start_may_be_any_place() -> None:
    entries = wide()
    chunks, root = build(entries)
    places = [b"", b"\x01", b"c", b"d07", b"d07/", b"d07/f3", b"d07/f3x", b"d07\x01", b"zz"]
    for place in places:
        expected = [entry for entry in entries if path_key(entry.path) >= path_key(place)]
        assert list(reader(chunks, root).entries(start=place)) == expected, place


@pytest.mark.usefixtures("small_blocks")
def test_a_prefix_is_a_subtree() -> None:
    entries = [*wide(), file(b"d29.txt")]
    entries.sort(key=lambda entry: path_key(entry.path))
    chunks, root = build(entries)
    tree = reader(chunks, root)
    expected = [entry for entry in entries if entry.path == b"d29" or entry.path.startswith(b"d29/")]
    assert list(tree.entries(prefix=b"d29")) == expected
    assert [entry.path for entry in tree.entries(start=b"d29/f8", prefix=b"d29")] == [b"d29/f8", b"d29/f9"]
    assert list(tree.entries(start=b"a", prefix=b"d29")) == expected
    assert list(tree.entries(prefix=b"d2")) == []
    assert list(tree.entries(prefix=b"")) == entries
    assert list(tree.entries(prefix=b"d29/f3")) == [entries[entries.index(expected[4])]]


@pytest.mark.usefixtures("small_blocks")
def test_seeking_fetches_one_way_down_and_no_block_before() -> None:
    entries = wide()
    chunks, root = build(entries)
    for entry in entries[1:]:
        chunks.fetched.clear()
        tree = reader(chunks, root)
        assert next(tree.entries(start=entry.path)) == entry
        assert len(chunks.fetched) == root.depth + 1, entry.path
    chunks.fetched.clear()
    tree = reader(chunks, root)
    stream = tree.entries()
    assert [next(stream) for _ in range(3)] == entries[:3]
    assert len(blocks_of(chunks) & set(chunks.fetched)) == 1, "streaming fetches as it goes"


@pytest.mark.usefixtures("small_blocks")
def test_the_children_of_a_folder() -> None:
    entries = [*wide(), folder(b"d05/sub"), file(b"d05/sub/x")]
    entries.sort(key=lambda entry: path_key(entry.path))
    chunks, root = build(entries)
    tree = reader(chunks, root)
    assert [entry.path for entry in tree.children(b"")] == [b"d%02d" % i for i in range(30)]
    assert [entry.path for entry in tree.children(b"d05")] == [*(b"d05/f%d" % j for j in range(10)), b"d05/sub"]
    assert [entry.path for entry in tree.children(b"d05/sub")] == [b"d05/sub/x"]
    assert list(tree.children(b"d05/f1")) == []
    assert list(tree.children(b"nowhere")) == []


@pytest.mark.usefixtures("small_blocks")
def test_large_subtrees_are_jumped_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ibs.core.tree.reader._JUMP_AFTER_ENTRIES", 20)
    inner = [file(b"a/%04d" % i) for i in range(1000)]
    chunks, root = build([folder(b""), folder(b"a"), *inner, file(b"b")])
    chunks.fetched.clear()
    assert [entry.path for entry in reader(chunks, root).children(b"")] == [b"a", b"b"]
    assert len(blocks_of(chunks) & set(chunks.fetched)) < 10 < len(blocks_of(chunks))


def test_several_iterators_may_be_open(small_blocks: None) -> None:
    entries = wide()
    chunks, root = build(entries)
    tree = reader(chunks, root)
    for one, other in zip(tree.entries(), tree.entries(start=b"d10"), strict=False):
        assert one in entries
        assert other in entries
    assert list(tree.entries()) == entries


def test_errors_of_fetch_pass_through() -> None:
    def fetch(chunk_id: bytes) -> bytes:
        raise ChunkNotFound(chunk_id.hex())

    with pytest.raises(ChunkNotFound):
        TreeReader(fetch, chunk(1), 0).find(b"a")


@pytest.mark.parametrize(("root", "depth"), [(b"short", 0), (chunk(1), -1), (chunk(1), limits.TREE_DEPTH_MAX + 1)])
def test_impossible_trees_are_refused(root: bytes, depth: int) -> None:
    with pytest.raises(FormatError):
        TreeReader(lambda _: b"", root, depth)


# --- continuations over many blocks ---


@pytest.fixture
def continued(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """A file whose continuations fill blocks, and nodes, of their own."""
    monkeypatch.setattr(limits, "ENTRY_EXTENTS_MAX", 4)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 150)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 250)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MIN", 2)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MAX", 3)
    big = tuple((i, 0, 10) for i in range(200))
    small = [folder(b""), folder(b"a"), file(b"a/a")]
    return [*small, file(b"a/big", *big), file(b"a/c"), file(b"d", *big, flags=2), file(b"e")]


def test_continuations_are_joined_across_blocks_and_nodes(continued: list[Entry]) -> None:
    chunks, root = build(continued)
    assert root.depth >= 3
    assert any(decode_block(chunks[block])[0].kind is Kind.CONTINUATION for block in blocks_of(chunks))
    tree = reader(chunks, root)
    assert list(tree.entries()) == continued
    for n, entry in enumerate(continued):
        assert tree.find(entry.path) == entry
        assert list(tree.entries(start=entry.path)) == continued[n:]
    assert list(tree.entries(start=b"a/bi")) == continued[3:]
    assert list(tree.entries(start=b"a/big\x01")) == continued[4:]
    assert list(tree.entries(prefix=b"a/big")) == [continued[3]]


def test_files_of_very_many_extents_are_refused(continued: list[Entry], monkeypatch: pytest.MonkeyPatch) -> None:
    chunks, root = build(continued)
    monkeypatch.setattr(limits, "FILE_EXTENTS_MAX", 100)
    with pytest.raises(FormatError):
        list(reader(chunks, root).entries())


# --- hostile trees ---


class Forge(Chunks):
    """Chunks that say what a forger wants."""

    def block(self, *entries: Entry) -> list[Any]:
        """The child for a block of these entries."""
        data = reference_encode(entries)
        return [entries[0].path, self.emit(data), len(data), len(entries)]

    def node(self, level: int, *children: list[Any]) -> list[Any]:
        data = msgspec.msgpack.encode([1, level, list(children)])
        return [children[0][0], self.emit(data), len(data), sum(child[3] for child in children)]

    def read(self, top: list[Any], depth: int, start: bytes = b"") -> list[Entry]:
        return list(TreeReader(self.fetch, top[1], depth).entries(start))


def changed(child: list[Any], **fields: Any) -> list[Any]:
    names = ["path", "id", "length", "entries"]
    return [fields.get(name, value) for name, value in zip(names, child, strict=True)]


def piece(path: bytes, count: int, flags: int = 0) -> Entry:
    """A continuation of `count` extents of one byte."""
    extents = tuple(Extent(chunk(1), 2 * i, 1) for i in range(count))
    return Entry(path=path, kind=Kind.CONTINUATION, flags=flags, extents=extents)


FULL = limits.ENTRY_EXTENTS_MAX
HEAD = file(b"big", *((1, 2 * i, 1) for i in range(FULL)), size=FULL + 5, flags=4)


def good_tree(forge: Forge) -> tuple[list[Any], list[Any]]:
    return forge.block(folder(b""), file(b"a")), forge.block(file(b"b"), file(b"c"))


def hostile_trees() -> Iterator[tuple[str, Callable[[Forge], tuple[list[Any], int]]]]:
    def two(change: Callable[[Forge, list[Any], list[Any]], list[Any]]) -> Callable[[Forge], tuple[list[Any], int]]:
        return lambda forge: (change(forge, *good_tree(forge)), 1)

    yield "block where a node belongs", lambda forge: (forge.block(folder(b"")), 1)
    yield "node where a block belongs", lambda forge: (forge.node(1, forge.block(folder(b""))), 0)
    yield "level too low", lambda forge: (forge.node(1, forge.block(folder(b""))), 2)
    yield "level too high", lambda forge: (forge.node(3, forge.block(folder(b""))), 1)
    yield "no root entry", lambda forge: (forge.block(file(b"a")), 0)
    yield "no root entry below a node", lambda forge: (forge.node(1, forge.block(file(b"a"))), 1)
    yield "first path of a block", two(lambda f, a, b: f.node(1, a, changed(b, path=b"bb")))
    yield "first path of the first block", two(lambda f, a, b: f.node(1, changed(a, path=b"a"), b))
    yield "entry count of a block", two(lambda f, a, b: f.node(1, a, changed(b, entries=3)))
    yield "plain length of a block", two(lambda f, a, b: f.node(1, a, changed(b, length=b[2] + 1)))
    yield "children out of order", two(lambda f, a, b: f.node(1, b, a))
    yield "the same block twice", two(lambda f, a, b: f.node(1, a, b, b))
    yield "blocks overlap", lambda f: (f.node(1, f.block(folder(b""), file(b"c")), f.block(file(b"b"))), 1)
    yield "folder is none", lambda f: (f.node(1, f.block(folder(b""), file(b"a")), f.block(file(b"a/b"))), 1)
    yield "folder missing in another block", lambda f: (f.node(1, f.block(folder(b"")), f.block(file(b"a/b"))), 1)
    yield "begins with a continuation", lambda f: (f.block(piece(b"", 3)), 0)
    yield "continuation of nothing", lambda f: (f.node(1, f.block(folder(b""), file(b"b")), f.block(piece(b"b", 3))), 1)
    yield "continued by nothing", lambda f: (f.block(folder(b""), HEAD), 0)
    yield "continued by another", lambda f: (f.node(1, f.block(folder(b""), HEAD), f.block(file(b"c"))), 1)
    yield "continuation of another path", lambda f: (f.node(1, f.block(folder(b""), HEAD), f.block(piece(b"c", 5))), 1)
    yield "continuation too short", lambda f: (f.node(1, f.block(folder(b""), HEAD), f.block(piece(b"big", 4))), 1)
    yield "continuation too long", lambda f: (f.node(1, f.block(folder(b""), HEAD), f.block(piece(b"big", 6))), 1)
    yield (
        "continuation twice",
        lambda f: (
            f.node(1, f.block(folder(b""), HEAD), *[f.block(piece(b"big", 5))] * 2),
            1,
        ),
    )


TREES = dict(hostile_trees())


@pytest.mark.parametrize("what", TREES)
def test_hostile_trees_are_refused(what: str) -> None:
    forge = Forge()
    top, depth = TREES[what](forge)
    with pytest.raises(FormatError):
        forge.read(top, depth)


def test_the_forger_can_also_be_honest() -> None:
    forge = Forge()
    top = forge.node(1, *good_tree(forge))
    assert [entry.path for entry in forge.read(top, 1)] == [b"", b"a", b"b", b"c"]
    top = forge.node(1, forge.block(folder(b""), HEAD), forge.block(piece(b"big", 5), file(b"c")))
    assert [len(entry.extents) for entry in forge.read(top, 1)] == [0, FULL + 5, 0]


@pytest.mark.parametrize("field", ["path", "entries", "length"])
def test_nodes_must_be_what_their_parent_says(field: str) -> None:
    forge = Forge()
    first, second = good_tree(forge)
    lower = forge.node(1, second)
    wrong = {"path": b"bb", "entries": 3, "length": lower[2] - 1}[field]
    with pytest.raises(FormatError):
        forge.read(forge.node(2, forge.node(1, first), changed(lower, **{field: wrong})), 2)


def test_a_tree_that_contains_itself_is_refused() -> None:
    def fetch(_: bytes) -> bytes:
        return msgspec.msgpack.encode([1, 1, [[b"", chunk(7), 46, 1]]])

    for depth in (1, 2, limits.TREE_DEPTH_MAX):
        with pytest.raises(FormatError):
            list(TreeReader(fetch, chunk(7), depth).entries())


def test_one_block_repeated_without_end_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal first paths are for continuations: a forger's thousand children cannot make a file grow without end."""
    monkeypatch.setattr(limits, "FILE_EXTENTS_MAX", 20 * FULL)
    forge = Forge()
    head = msgspec.structs.replace(HEAD, size=1 << 62)
    again = forge.block(piece(b"big", FULL, 4))
    level = forge.node(1, *[again] * limits.NODE_CHILDREN_MAX)
    top = forge.node(2, forge.node(1, forge.block(folder(b""), head)), *[level] * 1000)
    with pytest.raises(FormatError):
        forge.read(top, 2)
    assert len(forge.fetched) < 10


def test_what_was_read_before_the_fault_is_sound() -> None:
    forge = Forge()
    first, second = good_tree(forge)
    stream = TreeReader(forge.fetch, forge.node(1, first, changed(second, entries=9))[1], 1).entries()
    assert [next(stream).path, next(stream).path] == [b"", b"a"]
    with pytest.raises(FormatError):
        next(stream)


def test_nodes_kept_are_bounded(monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> None:
    monkeypatch.setattr(limits, "TREE_NODES_CACHED_MAX", 2)
    entries = wide()
    chunks, root = build(entries)
    tree = reader(chunks, root)
    assert list(tree.entries()) == entries
    assert len(tree._nodes) <= 2
    assert decode_node(chunks[root.id]).level == root.depth


def test_a_tree_of_every_kind_is_read_back() -> None:
    chunks, root = build(every_kind())
    assert list(reader(chunks, root).entries()) == every_kind()
