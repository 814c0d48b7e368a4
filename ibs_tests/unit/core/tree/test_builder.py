"""Building trees: order enforced, blocks and nodes shaped as the format says, equal input gives equal chunks."""

from __future__ import annotations

import pytest

from ibs.core import limits
from ibs.core.tree import Child, Entry, Extent, Kind, TreeBuilder, TreeRoot, decode_block, decode_node
from ibs.errors import FormatError
from ibs_tests.support.archives import Chunks, build, chunk, every_kind, file, folder, reader, reference_encode


def many(count: int) -> list[Entry]:
    return [folder(b""), *(file(b"%06d" % i, (i // 10, i % 10, 1), inode=i) for i in range(count))]


def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trees of several levels from a few hundred entries."""
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 200)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 400)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MIN", 2)
    monkeypatch.setattr(limits, "NODE_CHILDREN_MAX", 4)


def test_a_small_tree_is_one_block() -> None:
    chunks, root = build(every_kind())
    assert (root.depth, root.blocks, root.entries) == (0, 1, len(every_kind()))
    assert chunks.emitted == [reference_encode(every_kind())]


def test_the_root_alone_is_a_tree_whatever_it_is() -> None:
    for entry in (folder(b""), file(b"", (1, 0, 5))):
        chunks, root = build([entry])
        assert list(reader(chunks, root).entries()) == [entry]


def test_nothing_is_no_tree() -> None:
    with pytest.raises(FormatError):
        build([])


@pytest.mark.parametrize(
    "wrong",
    [
        [file(b"a")],
        [folder(b""), folder(b"")],
        [folder(b""), file(b"a"), file(b"a")],
        [folder(b""), file(b"b"), file(b"a")],
        [folder(b""), file(b"a/b")],
        [folder(b""), file(b"a"), file(b"a/b")],
        [folder(b""), folder(b"a"), file(b"a!"), file(b"a/b")],
        [folder(b""), file(b"..")],
        [folder(b""), file(b"/a")],
        [folder(b""), file(b"a\0")],
        [file(b""), file(b"a")],
        [folder(b""), file(b"a", (1, 0, 2), size=3)],
        [folder(b""), Entry(path=b"a", kind=Kind.CONTINUATION)],
    ],
)
def test_what_breaks_the_format_is_refused_and_nothing_written(wrong: list[Entry]) -> None:
    chunks = Chunks()
    builder = TreeBuilder(chunks.emit)
    for entry in wrong[:-1]:
        builder.add(entry)
    with pytest.raises(FormatError):
        builder.add(wrong[-1])
    assert chunks.emitted == []


def test_neighbouring_extents_are_coalesced() -> None:
    chunks, root = build([folder(b""), file(b"a", (1, 0, 5), (1, 5, 5), (2, 0, 1))])
    (_, entry) = reader(chunks, root).entries()
    assert entry.extents == (Extent(chunk(1), 0, 10), Extent(chunk(2), 0, 1))


def test_equal_input_gives_equal_chunks() -> None:
    first, second = build(many(3000)), build(many(3000))
    assert first[1] == second[1]
    assert first[0].emitted == second[0].emitted


def test_an_inserted_file_changes_the_blocks_near_it_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 4096)
    entries = many(20_000)
    before, _ = build(entries)
    after, root = build(sorted([*entries, file(b"000500x")], key=lambda entry: entry.path))
    assert root.blocks > 5
    assert len(set(after) - set(before)) <= 3


def test_levels_grow_as_they_must(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch)
    chunks, root = build(many(400))
    assert root.depth >= 3
    node = decode_node(chunks[root.id])
    assert node.level == root.depth
    assert sum(child.entries for child in node.children) == root.entries == 401
    assert chunks.emitted[-1] == chunks[root.id], "parents come after their children"


@pytest.mark.parametrize("count", range(1, 60))
def test_no_level_has_a_single_child_for_nothing(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    small_limits(monkeypatch)
    entries = many(count)
    chunks, root = build(entries)
    if root.depth:
        assert len(decode_node(chunks[root.id]).children) > 1 or root.blocks > 1
    else:
        assert root.blocks == 1
    assert list(reader(chunks, root).entries()) == entries


def test_a_tree_too_deep_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch)
    monkeypatch.setattr(limits, "TREE_DEPTH_MAX", 2)
    with pytest.raises(FormatError):
        build(many(2000))


def test_a_file_of_many_extents_is_continued() -> None:
    count = 2 * limits.ENTRY_EXTENTS_MAX + 1
    big = file(b"big", *((i, 0, 10) for i in range(count)), flags=1)
    chunks, root = build([folder(b""), big, file(b"next")])
    blocks = [child.id for child in decode_node(chunks[root.id]).children] if root.depth else [root.id]
    stored = [entry for block in blocks for entry in decode_block(chunks[block])]
    assert [(entry.kind, entry.flags, len(entry.extents)) for entry in stored] == [
        (Kind.DIR, 0, 0),
        (Kind.FILE, 5, 1024),
        (Kind.CONTINUATION, 4, 1024),
        (Kind.CONTINUATION, 0, 1),
        (Kind.FILE, 0, 0),
    ]
    assert root.entries == 3
    assert list(reader(chunks, root).entries()) == [folder(b""), big, file(b"next")]


def test_exactly_full_entries_are_not_continued() -> None:
    big = file(b"big", *((i, 0, 10) for i in range(limits.ENTRY_EXTENTS_MAX)))
    chunks, root = build([folder(b""), big])
    assert root.depth == 0
    assert decode_block(chunks[root.id])[1] == big


def test_times_that_the_format_cannot_hold_are_clamped() -> None:
    far = file(b"a", mtime_ns=16_000_000_000 * 10**9, ctime_ns=-(2**63))
    chunks, root = build([folder(b""), far])
    (_, entry) = reader(chunks, root).entries()
    assert (entry.mtime_ns, entry.ctime_ns) == (2**63 - 1, -(2**63) + 1)


def test_an_adopted_block_gives_the_same_archive(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch)
    entries = many(400)
    chunks, root = build(entries)
    builder = TreeBuilder(chunks.emit)
    adopted = 0
    rest = list(entries)
    for block in blocks_of(chunks, root):
        last = rest[block.entries - 1]
        if builder.fits(block, last.path):
            builder.adopt(block, last.path, last_is_folder=last.kind is Kind.DIR)
            adopted += 1
        else:
            for entry in rest[: block.entries]:
                builder.add(entry)
        del rest[: block.entries]
    assert builder.finish() == root
    # Only the last block was ended by the end of the archive and not by the rule.
    assert root.blocks - 1 <= adopted <= root.blocks


def test_a_block_is_not_adopted_into_an_open_one_nor_out_of_order(monkeypatch: pytest.MonkeyPatch) -> None:
    small_limits(monkeypatch)
    chunks, root = build(many(100))
    first, second, *_ = blocks_of(chunks, root)
    builder = TreeBuilder(chunks.emit)
    with pytest.raises(FormatError, match="begins with its root"):
        builder.adopt(second, b"000099", last_is_folder=False)
    builder.adopt(first, b"000001", last_is_folder=False)
    builder.add(file(b"000002"))
    assert not builder.fits(second, b"000099")
    with pytest.raises(FormatError, match="open one"):
        builder.adopt(second, b"000099", last_is_folder=False)


def blocks_of(chunks: Chunks, root: TreeRoot) -> list[Child]:
    """All blocks of an archive, in order."""
    found = [Child(b"", root.id, 1, 1)]
    for _ in range(root.depth):
        found = [child for one in found for child in decode_node(chunks.fetch(one.id)).children]
    return found
