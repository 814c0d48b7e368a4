"""Tree archives written by version 1, kept for ever: they must stay readable, and writing must not drift.

Never regenerate these files. A change that makes this test fail is a new format version.

    tree_block.bin    a metadata block with every kind and field
    tree_node.bin     a node of level 2
    tree_wide.zst     zstd of a MessagePack array [root id, depth, [plaintext of each chunk, in order of writing]]
    tree_wide.json    the same tree for people: chunk ids, levels, lengths, first paths, entry counts
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import zstandard
from blake3 import blake3

from ibs.core.tree import Entry, Extent, Kind, TreeReader, TreeRoot, decode_block, decode_node
from ibs.core.tree.node import Child, Node
from ibs_tests.support.archives import Chunks, build, every_kind

GOLDEN = Path(__file__).parent / "golden"
NODE = Node(
    1,
    2,
    [
        Child(b"", bytes(range(32)), 1, 1),
        Child(b"etc/\xff", bytes(range(1, 33)), 4 * 1024 * 1024, 2**63 - 1),
        Child(b"etc-old", bytes(range(2, 34)), 65_536, 70_000),
    ],
)


def wide() -> list[Entry]:
    """The entries of `tree_wide`: 100 folders of 50 files, and one file with 2,500 extents, a block ending inside."""
    entries = [Entry(path=b"", kind=Kind.DIR, mode=0o755, fs=b"golden file sys1", inode=2)]
    ids = [blake3(b"golden chunk %d" % n).digest() for n in range(4)]
    for i in range(100):
        name = b"folder-%03d" % i
        entries.append(Entry(path=name, kind=Kind.DIR, mode=0o750, mtime_ns=i, fs=b"golden file sys1", inode=100 + i))
        entries += [
            Entry(
                path=name + b"/file-%04d.txt" % (j * 7),
                kind=Kind.FILE,
                mode=0o640,
                uid=1000,
                gid=i,
                mtime_ns=1_700_000_000_000_000_000 + i * 1000 + j,
                ctime_ns=1_700_000_000_500_000_000 + i * 1000 + j,
                size=1000 + j,
                fs=b"golden file sys%d" % (1 + i % 2),
                inode=1000 + i * 100 + j,
                extents=(Extent(ids[j % 4], i * 5000, 1000 + j),),
            )
            for j in range(50)
        ]
        if i in (24, 49, 74):
            # A path after which the format ends a block: after 1,300 entries there is enough in it.
            path = next(p for n in range(99_999) if zlib.crc32(p := name + b"/z-%05d" % n) % 2048 == 2047)
            entries.append(Entry(path=path, kind=Kind.SYMLINK, fs=b"golden file sys1", inode=5, link=b"target"))
    extents = tuple(Extent(ids[n % 3], n, 1000) for n in range(2500))
    entries.append(
        Entry(
            path=b"image-2100",
            kind=Kind.FILE,
            size=2_500_000,
            fs=b"golden file sys1",
            inode=9,
            flags=2,
            extents=extents,
        )
    )
    entries.append(Entry(path=b"last", kind=Kind.FIFO, fs=b"golden file sys2", inode=10))
    return entries


def describe(chunks: Chunks, root: TreeRoot) -> dict[str, Any]:
    """The shape of a tree, for people and for other implementations."""
    listed = []
    for data in chunks.emitted:
        facts: dict[str, Any] = {"id": blake3(data).hexdigest(), "bytes": len(data)}
        if data[0] == 0x94:
            entries = decode_block(data)
            facts |= {"block": entries[0].path.decode(), "entries": len(entries)}
        else:
            node = decode_node(data)
            facts |= {"node": node.level, "children": [child.first_path.decode() for child in node.children]}
        listed.append(facts)
    facts = {"root": root.id.hex(), "depth": root.depth, "entries": root.entries, "blocks": root.blocks}
    return {**facts, "chunks": listed}


def test_the_block_is_read_and_written_as_ever() -> None:
    golden = (GOLDEN / "tree_block.bin").read_bytes()
    assert decode_block(golden) == every_kind()
    chunks, root = build(every_kind())
    assert chunks[root.id] == golden


def test_the_node_is_read_as_ever() -> None:
    golden = (GOLDEN / "tree_node.bin").read_bytes()
    assert decode_node(golden) == NODE
    assert msgspec.msgpack.encode(NODE) == golden


def test_the_tree_is_read_and_written_as_ever() -> None:
    stored = zstandard.ZstdDecompressor().decompress((GOLDEN / "tree_wide.zst").read_bytes())
    root_id, depth, plaintexts = msgspec.msgpack.decode(stored)
    table = {blake3(data).digest(): data for data in plaintexts}
    tree = TreeReader(table.__getitem__, root_id, depth)
    assert list(tree.entries()) == wide()
    assert tree.find(b"image-2100") == wide()[-2]
    chunks, root = build(wide())
    assert (root.id, root.depth, chunks.emitted) == (root_id, depth, plaintexts)
    assert describe(chunks, root) == json.loads((GOLDEN / "tree_wide.json").read_text("utf-8"))
    assert depth == 1
    assert root.blocks >= 4, "boundaries are part of what is kept"
    assert any(decode_block(data)[0].kind is Kind.CONTINUATION for data in plaintexts if data[0] == 0x94)
