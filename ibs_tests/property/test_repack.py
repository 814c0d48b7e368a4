"""Many generations of random edits: what is backed up stays right, and the chunks do not fill with waste."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections import defaultdict
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ibs.core import index, limits
from ibs.runtime.pool import InlinePool
from ibs_tests.support.backups import MemoryServer, back_up, differences


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred chunks, several metadata blocks, out of a small tree."""
    monkeypatch.setattr(limits, "TREE_CHUNK_BYTES_MIN", 4096)
    monkeypatch.setattr(limits, "TREE_CHUNK_BYTES_AVG", 16_384)
    monkeypatch.setattr(limits, "TREE_CHUNK_BYTES_MAX", 65_536)
    monkeypatch.setattr(limits, "SMALL_FILE_BYTES_MAX", 65_536)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 2000)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 4000)


def usage(server: MemoryServer) -> dict[bytes, tuple[int, int]]:
    """(bytes in use, length) of each data chunk of the newest snapshot, counted byte by byte."""
    content = server.snapshots[-1].indexes["data.tree"][index.HEADER_BYTES :]
    used: dict[bytes, set[tuple[int, int]]] = defaultdict(set)
    for entry in server.entries("data.tree"):
        for extent in entry.extents:
            used[extent.id].add((extent.offset, extent.offset + extent.length))
    found = {}
    for chunk_id, length, kind in index.iter_tree_records(content):
        if kind == index.KIND_DATA:
            covered = bytearray(length)
            for start, end in used[chunk_id]:
                covered[start:end] = b"\1" * (end - start)
            found[chunk_id] = (sum(covered), length)
    return found


def spill(server: MemoryServer) -> dict[bytes, int]:
    """What else would be read of the files in each chunk."""
    found: dict[bytes, int] = defaultdict(int)
    for entry in server.entries("data.tree"):
        for extent in entry.extents:
            found[extent.id] += entry.size - extent.length
    return found


def edit(tree: Path, rng: random.Random, share: float, *, thin_out: bool) -> None:
    """Change, remove and add some files; `thin_out` mostly removes."""
    for path in sorted(tree.iterdir()):
        if rng.random() < share:
            what = rng.random()
            if thin_out or what < 0.4:
                path.unlink()
            else:
                path.write_bytes(rng.randbytes(rng.randrange(1, 9000)))
    for _ in range(0 if thin_out else int(400 * share * 0.4)):
        (tree / f"f{rng.randrange(10_000):05}").write_bytes(rng.randbytes(rng.randrange(1, 9000)))


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(st.integers(0, 1 << 30), st.lists(st.tuples(st.sampled_from([0.02, 0.1, 0.5, 0.85]), st.booleans()), max_size=8))
def test_waste_converges_and_content_stays_right(seed: int, generations: list[tuple[float, bool]]) -> None:
    rng = random.Random(seed)
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    tree = folder / "tree"
    tree.mkdir()
    try:
        for number in range(400):
            (tree / f"f{number:05}").write_bytes(rng.randbytes(rng.randrange(1, 9000)))
        server = MemoryServer()
        trio.run(lambda: back_up(server, tree, pool=InlinePool()))
        for share, thin_out in generations:
            edit(tree, rng, share, thin_out=thin_out)
            trio.run(lambda: back_up(server, tree, pool=InlinePool(), reread_every=0))
            assert differences(server, tree) == []
        for _ in range(100):
            before = usage(server)
            total = sum(length for _, length in before.values())
            outcome, _ = trio.run(lambda: back_up(server, tree, pool=InlinePool(), reread_every=0))
            if not outcome.files_repacked:
                break
            assert outcome.bytes_repacked <= total * limits.REPACK_READ_PERCENT / 100
            after = usage(server)
            waste_before = total - sum(live for live, _ in before.values())
            waste_after = sum(length for _, length in after.values()) - sum(live for live, _ in after.values())
            assert waste_after < waste_before
        else:
            pytest.fail("it never ends")
        assert differences(server, tree) == []
        found = usage(server)
        total = sum(length for _, length in found.values())
        waste = total - sum(live for live, _ in found.values())
        beside = spill(server)
        left = {
            one: live + beside[one]
            for one, (live, length) in found.items()
            if 100 * live < limits.REPACK_LIVE_PERCENT * length and live + beside[one] < length
        }
        enough = waste * 100 < total * limits.REPACK_WASTE_PERCENT
        assert enough or not left or min(left.values()) * 100 > total * limits.REPACK_READ_PERCENT
    finally:
        shutil.rmtree(folder)
