"""Chunks that are hardly used: counted exactly, chosen by the rule, packed anew, and told."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ibs.client.backup.base import BaseIndex, ChunkWanted
from ibs.client.backup.repack import Repack, Survey, worth_a_look
from ibs.core import index, limits
from ibs.core.ids import digest
from ibs.core.index import IndexHeader, tree_record
from ibs.core.tree import Entry, Extent, Kind, TreeBuilder
from ibs.errors import FormatError
from ibs_tests.support.backups import CountingFiles, MemoryServer, back_up, differences

LENGTH = 1000


def an_id(number: int) -> bytes:
    return digest(b"chunk %d" % number)


def archive(
    *files: list[tuple[int, int, int]], chunks: int, size: int | None = None
) -> tuple[BaseIndex, Callable[[bytes], bytes]]:
    """A tree with these files, each a list of (chunk, offset, length), over so many data chunks of LENGTH bytes."""
    blocks: dict[bytes, bytes] = {}

    def emit(plain: bytes) -> bytes:
        blocks[digest(plain)] = plain
        return digest(plain)

    builder = TreeBuilder(emit)
    root = Entry(b"", Kind.DIR, 0o755, 0, 0, 1, 1, 0, bytes(16), 1, 0, (), b"", 0, (), ())
    builder.add(root)
    for number, extents in enumerate(files):
        spans = tuple(Extent(an_id(chunk), offset, length) for chunk, offset, length in extents)
        total = sum(length for _, _, length in extents)
        path = b"f%06d" % number
        builder.add(Entry(path, Kind.FILE, 0o644, 0, 0, 1, 1, total, bytes(16), 2, 0, (), b"", 0, spans, ()))
    made = builder.finish()
    rows = [tree_record(an_id(number), LENGTH, index.KIND_DATA) for number in range(chunks)]
    rows += [tree_record(one, len(plain), index.KIND_METADATA) for one, plain in blocks.items()]
    records = b"".join(rows)
    plain_bytes = sum(length for extents in files for _, _, length in extents) if size is None else size
    header = IndexHeader(
        index.TREE, 40, len(rows), plain_bytes, 0, made.depth, bytes(32), made.id, digest(records)
    )  # fmt: skip
    bitmap = np.packbits(np.ones(len(rows), np.bool_), bitorder="little").tobytes()
    return BaseIndex(index.encode_header(header) + records, bitmap, domain=bytes(32)), blocks.__getitem__


def survey(base: BaseIndex, fetch: Callable[[bytes], bytes]) -> Repack:
    one = Survey(base, fetch)
    while one.step():
        pass
    return one.plan()


def test_bytes_in_use_are_counted_once() -> None:
    base, fetch = archive(
        [(0, 0, 100), (0, 50, 100)],  # overlapping: 150
        [(0, 0, 100)],  # the same again
        [(1, 900, 100), (2, 0, 1000)],
        chunks=4,
    )
    found = survey(base, fetch)
    assert (found.archive_bytes, found.waste_bytes) == (4000, 850 + 900 + 0 + 1000)


@pytest.mark.parametrize("kept", [1, 7, 1000])
def test_counting_in_parts_never_counts_less(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    files = [[(number % 7, 100 * (number % 9), 100)] for number in range(200)]
    base, fetch = archive(*files, chunks=7)
    exact = survey(base, fetch).waste_bytes
    monkeypatch.setattr(limits, "SURVEY_EXTENTS_MAX", kept)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 300)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 600)
    base, fetch = archive(*files, chunks=7)
    assert survey(base, fetch).waste_bytes <= exact


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    full = [[(number, 0, LENGTH)] for number in range(60)]
    poor = [[(60 + number, 0, 100 + 10 * number)] for number in range(40)]
    base, fetch = archive(*full, *poor, chunks=100)
    found = survey(base, fetch)
    # Chunks 60 to 79 are below 30 %, the poorest first, and together they would be read for 3,900 of 100,000 bytes.
    assert found.chunks == {an_id(number) for number in range(60, 80)}
    assert (found.chunk_bytes, found.live_bytes) == (20_000, sum(100 + 10 * number for number in range(20)))
    monkeypatch.setattr(limits, "REPACK_READ_PERCENT", 1)
    assert survey(base, fetch).chunks == {an_id(number) for number in range(60, 67)}  # 910 bytes; 170 more are over
    monkeypatch.undo()
    # Under 10 % of waste nothing is touched: here 1,800 of 22,000 bytes.
    few = [[(20, 0, 100)], [(21, 0, 100)]]
    base, fetch = archive(*full[:20], *few, chunks=22)
    assert survey(base, fetch).chunks == frozenset()
    more = [[(20 + number, 0, 100)] for number in range(4)]
    base, fetch = archive(*full[:20], *more, chunks=24)
    assert len(survey(base, fetch).chunks) == 2  # 3,600 of 24,000; 1,800 of 22,100 is under 10 %


def test_when_it_is_worth_a_look() -> None:
    base, _ = archive([(0, 0, 1000)], [(1, 0, 850)], chunks=2)
    assert not worth_a_look(base, 1)
    assert worth_a_look(base, limits.REPACK_LOOK_EVERY_RUNS)
    assert not worth_a_look(base, limits.REPACK_LOOK_EVERY_RUNS + 1)
    base, _ = archive([(0, 0, 1000)], [(1, 0, 700)], chunks=2)
    assert worth_a_look(base, 1)


def test_a_step_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 300)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 600)
    files = [[(number % 50, 0, 10 + number)] for number in range(300)]
    base, fetch = archive(*files, chunks=50)
    calls = itertools.count()

    def reluctant(chunk_id: bytes) -> bytes:
        if next(calls) % 3:
            raise ChunkWanted(chunk_id)
        return fetch(chunk_id)

    one = Survey(base, reluctant)
    steps = 0
    more = True
    while more:
        try:
            more = one.step()
            steps += 1
        except ChunkWanted:
            continue
    assert steps > 5
    assert one.plan() == survey(base, fetch)


def test_what_is_not_sound_is_refused() -> None:
    base, fetch = archive([(7, 0, 10)], chunks=2)
    with pytest.raises(FormatError, match="does not list"):
        survey(base, fetch)


def shrink(tree: Path, keep: Callable[[int], bool]) -> None:
    for number, path in enumerate(sorted(tree.iterdir())):
        if not keep(number):
            path.unlink()


@pytest.fixture
def small_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test's tree is small beside a chunk of 1 MiB; so that one chunk is affordable."""
    monkeypatch.setattr(limits, "REPACK_READ_PERCENT", 50)


@pytest.mark.usefixtures("small_rules")
async def test_the_last_files_of_a_chunk_are_packed_anew(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(300):
        (tree / f"f{number:04}").write_bytes(os.urandom(50_000))
    server = MemoryServer()
    await back_up(server, tree)
    shrink(tree, lambda number: not number % 10)
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert (files.opened, transport.sent) == ([], transport.sent)  # the base did not know yet
    assert outcome.chunks_repacked == 0
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert len(files.opened) == outcome.files_repacked > 20
    assert outcome.bytes_repacked == outcome.files_repacked * 50_000
    assert outcome.chunks_repacked > 8
    assert differences(server, tree) == []
    assert any("packed anew" in line.text and "no longer used" in line.text for line in transport.lines)
    assert any("packed anew" in one for one in outcome.remarks)
    assert server.snapshots[-1].manifest.stats["bytes_repacked"] == outcome.bytes_repacked
    header = index.parse_header(server.snapshots[-1].indexes["data.tree"])
    content = server.snapshots[-1].indexes["data.tree"][index.HEADER_BYTES :]
    rows = index.tree_records(content)
    assert rows["plain_length"][rows["kind"] == index.KIND_DATA].sum() <= header.plain_bytes * 1.1
    files = CountingFiles()
    outcome, transport = await back_up(server, tree, files=files)
    assert (files.opened, transport.sent, outcome.chunks_repacked) == ([], [], 0)


@pytest.mark.usefixtures("small_rules")
async def test_a_lost_block_stops_the_look_and_nothing_else(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(100):
        (tree / f"f{number:04}").write_bytes(os.urandom(50_000))
    server = MemoryServer()
    await back_up(server, tree)
    shrink(tree, lambda number: not number % 10)
    await back_up(server, tree)
    header = index.parse_header(server.snapshots[-1].indexes["data.tree"])
    server.unavailable.add(header.root)
    outcome, transport = await back_up(server, tree)
    assert (outcome.status, outcome.chunks_repacked) == ("OK", 0)
    assert differences(server, tree) == []
    assert any("cannot be built on" in line.text for line in transport.lines)
