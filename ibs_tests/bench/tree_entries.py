"""Figures of the tree builder and reader, in CPU time an entry.

Run: python -m ibs_tests.bench.tree_entries [FILES]
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator

from blake3 import blake3

from ibs.core.tree import Entry, Extent, Kind, TreeBuilder, TreeReader

FS = b"bench filesystem"


def entries(files: int) -> Iterator[Entry]:
    """Folders of 100 small files, each with one extent in a chunk shared with its neighbours."""
    yield Entry(b"", Kind.DIR, 0o755, fs=FS)
    chunk, offset, now = bytes(32), 0, 1_700_000_000_123_456_789
    for i in range(files):
        if i % 100 == 0:
            yield Entry(b"customer-%06d" % (i // 100), Kind.DIR, 0o755, 0, 0, now + i, now + i, 0, FS, i)
        if i % 256 == 0:
            chunk, offset = blake3(b"%d" % i).digest(), 0
        path = b"customer-%06d/some-file-name-%05d.txt" % (i // 100, i % 100)
        extents = (Extent(chunk, offset, 4096),)
        yield Entry(path, Kind.FILE, 0o644, 1000, 1000, now + i, now + i, 4096, FS, i, 0, (), b"", 0, extents)
        offset += 4096


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    files = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    chunks: dict[bytes, bytes] = {}

    def emit(data: bytes) -> bytes:
        chunk_id = blake3(data).digest()
        chunks[chunk_id] = data
        return chunk_id

    def build() -> None:
        for entry in entries(files):
            builder.add(entry)

    builder = TreeBuilder(emit)
    generated = seconds(lambda: sum(1 for _ in entries(files)))
    built = seconds(build) - generated
    root = builder.finish()
    tree = TreeReader(chunks.__getitem__, root.id, root.depth)
    read = seconds(lambda: sum(1 for _ in tree.entries()))
    paths = [entry.path for entry in entries(files)][:: max(1, files // 200)]
    found = seconds(lambda: [tree.find(path) for path in paths]) / len(paths)
    size = sum(map(len, chunks.values()))
    print(
        f"entries {root.entries:,}  blocks {root.blocks}  depth {root.depth}  {size / root.entries:.1f} bytes an entry"
    )
    print(
        f"build {built / root.entries * 1e6:.2f} us  read {read / root.entries * 1e6:.2f} us  find {found * 1e3:.2f} ms"
    )
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024} MiB")


if __name__ == "__main__":
    main()
