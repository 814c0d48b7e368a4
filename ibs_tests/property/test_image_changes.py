"""Any map of changes over any edits: the archive is the one that a full read makes, and only what changed is read."""

from __future__ import annotations

import json
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ibs.client.backup import changed, imagejob
from ibs.client.backup.plan import Changes
from ibs.core import limits
from ibs.errors import UsageError
from ibs.runtime.pool import InlinePool
from ibs.sources.changes import MapForm, parse_map
from ibs_tests.support.backups import MemoryServer, back_up

CHUNK = 4096

edits = st.lists(
    st.tuples(st.integers(0, 40 * CHUNK), st.integers(1, 3 * CHUNK), st.sampled_from(["data", "zero", "hole", "same"])),
    max_size=8,
)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks even for small images."""
    monkeypatch.setattr(limits, "IMAGE_CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(changed, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(imagejob, "CHUNK_BYTES", CHUNK)


def apply(path: Path, size: int, changes: list[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Edit the image; what a bitmap would say of that."""
    marked = []
    with path.open("r+b") as file:
        for start, length, what in changes:
            length = min(length, size - start)
            if length <= 0:
                continue
            file.seek(start)
            if what == "data":
                file.write(random.Random(start * length).randbytes(length))
            elif what == "zero":
                file.write(bytes(length))
            elif what == "same":
                before = os.pread(file.fileno(), length, start)
                file.write(before)
            else:
                os.posix_fallocate(file.fileno(), 0, size)
                _punch(path, start, length)
            marked.append((start, length))
    return marked


def _punch(path: Path, start: int, length: int) -> None:
    """A hole by way of a copy without it: what lies before and after stays."""
    content = bytearray(path.read_bytes())
    content[start : start + length] = bytes(length)
    with path.open("r+b") as file:
        size = len(content)
        file.truncate(0)
        file.truncate(size)
        for at in range(0, size, CHUNK):
            piece = content[at : at + CHUNK]
            if any(piece):
                file.seek(at)
                file.write(piece)


def as_map(form: str, size: int, marked: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """The same changes in the words of one tool."""
    if form == "bare":
        return [{"start": start, "length": length} for start, length in marked]
    dirty = bytearray(size)
    for start, length in marked:
        dirty[start : start + length] = b"\1" * length
    extents = []
    at = 0
    while at < size:
        end = dirty.find(not dirty[at], at)
        end = size if end < 0 else end
        extents.append((at, end - at, bool(dirty[at])))
        at = end
    if form == "nbdinfo":
        return [{"offset": s, "length": n, "type": int(d), "description": ["clean", "dirty"][d]} for s, n, d in extents]
    if form == "qemu":
        return [{"start": s, "length": n, "depth": 0, "data": not d, "zero": False} for s, n, d in extents]
    return [{"start": s, "length": n, "dirty": d} for s, n, d in extents]


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    st.integers(0, 40 * CHUNK),
    edits,
    st.lists(edits, min_size=1, max_size=3),
    st.sampled_from(["bare", "nbdinfo", "qemu", "dirty"]),
    st.sampled_from([None, 0, 30, 100]),
)
def test_with_a_true_map_the_archive_is_what_a_full_read_makes(
    size: int, first: list[tuple[int, int, str]], later: list[list[tuple[int, int, str]]], form: str, percent: float
) -> None:
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")))
    try:
        path = folder / "disk"
        path.touch()
        os.truncate(path, size)
        apply(path, size, first)
        server = MemoryServer()
        outcome, _ = trio.run(lambda: back_up(server, path, "disk.img", pool=InlinePool()))
        for generation in later:
            marked = apply(path, size, generation)
            (folder / "map").write_text(json.dumps(as_map(form, size, marked)))
            changes = Changes.parse(
                [f"disk.img={folder / 'map'}"],
                outcome.manifest_digest,
                group="host/test",
                form=MapForm.QEMU_BITMAP if form == "qemu" else MapForm.EXTENTS,
                percent=percent,
            )
            outcome, _ = trio.run(
                lambda changes=changes: back_up(server, path, "disk.img", pool=InlinePool(), changes=changes)
            )
            touched = {chunk for s, n in marked for chunk in range(s // CHUNK, (s + n - 1) // CHUNK + 1)}
            if percent == 0:
                assert outcome.bytes_read <= len(touched) * CHUNK
            whole = MemoryServer()
            trio.run(lambda whole=whole: back_up(whole, path, "disk.img", pool=InlinePool()))
            assert server.snapshots[-1].indexes == whole.snapshots[-1].indexes
    finally:
        shutil.rmtree(folder)


numbers = st.one_of(st.integers(-5, 100), st.integers(-(1 << 70), 1 << 70), st.floats(), st.none(), st.booleans())
hostile = st.lists(
    st.one_of(
        numbers,
        st.dictionaries(
            st.sampled_from(["start", "offset", "length", "dirty", "data", "zero", "description", "type"]),
            st.one_of(numbers, st.sampled_from(["dirty", "clean", "data", "x" * 50])),
            max_size=5,
        ),
    ),
    max_size=6,
)


@settings(max_examples=300)
@given(st.one_of(st.binary(max_size=60), hostile.map(lambda one: json.dumps(one).encode())), st.sampled_from(MapForm))
def test_no_map_crashes_or_reaches_outside(content: bytes, form: MapForm) -> None:
    try:
        flags = parse_map(content, "m", form).unchanged(1000, 64)
    except UsageError:
        return
    assert len(flags) == 16
    # Whatever an accepted map says changed is not among what is unchanged.
    for extent in json.loads(content):
        if extent.get("dirty", True) and extent.get("description", "dirty") == "dirty" and not extent.get("data"):
            start = extent["start"] if extent.get("start") is not None else extent["offset"]
            for byte in range(start, min(start + extent["length"], 1000)):
                assert not flags[byte // 64]
