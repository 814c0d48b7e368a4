"""Streams of file bytes: every byte in exactly one chunk, spans that add up, cuts that do not depend on segments."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from ibs.client.backup.buffers import SegmentPool
from ibs.client.backup.items import ChunkRef, Draft
from ibs.client.backup.packer import Stream
from ibs.core import limits
from ibs.core.chunker import Chunker

SEGMENT = 8 << 20


class Packed:
    """Feeds files through one stream and keeps the chunks."""

    def __init__(self, tmp_path: Path, segments: int = 3) -> None:
        self.stat = os.stat(tmp_path)
        self.pool = SegmentPool(segments, SEGMENT)
        self.chunks: list[bytes] = []
        self.refs: list[ChunkRef] = []
        self.stream = Stream(self.pool, Chunker(), self.emit, time.monotonic)

    def emit(self, ref: ChunkRef) -> None:
        assert ref.view is not None
        assert ref.segment is not None
        self.chunks.append(bytes(ref.view))
        self.refs.append(ref)
        ref.id = len(self.chunks).to_bytes(32, "big")
        self.pool.drop(ref.segment)

    def feed(self, data: bytes) -> Draft:
        draft = Draft(b"x", self.stat, b"s" * 16, 0, ())
        at = 0
        while at < len(data):
            while not self.stream.room:
                self.stream.cut(final=False)
                assert self.stream.rotate()
            step = min(self.stream.room, len(data) - at)
            self.stream.tail(step)[:] = data[at : at + step]
            self.stream.add(draft, step)
            at += step
        return draft

    def content(self, draft: Draft) -> bytes:
        assert draft.missing == 0
        by_id = {ref.id: chunk for ref, chunk in zip(self.refs, self.chunks, strict=True)}
        return b"".join(by_id[ref.id][offset : offset + length] for ref, offset, length in draft.spans)


def test_every_file_finds_its_bytes(tmp_path: Path) -> None:
    rng = random.Random(1)
    packed = Packed(tmp_path)
    files = [rng.randbytes(rng.choice([1, 10, 5000, 300_000, 3_000_000])) for _ in range(60)]
    drafts = [packed.feed(data) for data in files]
    packed.stream.cut(final=True)
    assert [packed.content(draft) for draft in drafts] == files
    assert b"".join(packed.chunks) == b"".join(files)
    assert all(len(chunk) <= limits.TREE_CHUNK_BYTES_MAX for chunk in packed.chunks)


def test_cuts_do_not_depend_on_segments(tmp_path: Path) -> None:
    data = random.Random(2).randbytes(30 << 20)
    packed = Packed(tmp_path)
    packed.feed(data)
    packed.stream.cut(final=True)
    assert [len(chunk) for chunk in packed.chunks] == Chunker().cut(data, final=True)


def test_a_file_waits_for_its_last_chunk(tmp_path: Path) -> None:
    packed = Packed(tmp_path)
    draft = packed.feed(b"x" * 100)
    assert draft.missing == 100
    packed.stream.cut(final=False)
    assert draft.missing == 100
    packed.stream.cut(final=True)
    assert draft.missing == 0
    assert packed.stream.uncut == 0


def test_without_a_free_segment_nothing_is_lost(tmp_path: Path) -> None:
    packed = Packed(tmp_path, segments=1)
    draft = packed.feed(b"a" * SEGMENT)
    packed.stream.cut(final=False)
    assert not packed.stream.rotate()
    packed.stream.cut(final=True)
    assert packed.content(draft) == b"a" * SEGMENT


def test_releasing_gives_the_segment_back(tmp_path: Path) -> None:
    packed = Packed(tmp_path, segments=1)
    packed.feed(b"x")
    packed.stream.release()
    packed.stream.release()
    assert packed.stream.room == 0
    assert packed.pool.take() is not None


def test_a_tail_needs_a_segment(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        Packed(tmp_path).stream.tail(1)
