"""The disk's part: what is written is read, bounded by size and space, and nothing is left behind."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ibs.client.benchmark import disk
from ibs.client.benchmark.disk import measure_disk
from ibs.core import limits
from ibs.runtime.clock import ManualClock, SystemClock
from ibs.runtime.pool import InlinePool, ThreadPool

SIZE = 16 * limits.MIB


async def test_writes_and_reads_so_much_and_leaves_nothing(tmp_path: Path) -> None:
    figures, notes = await measure_disk(ThreadPool(), SystemClock(), str(tmp_path), SIZE + 5, 60.0)
    assert notes == []
    assert [(one.part, one.bytes) for one in figures] == [("disk write", SIZE + 5), ("disk read", SIZE + 5)]
    assert list(tmp_path.iterdir()) == []


async def test_file_systems_without_nameless_files_do_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def refuse(path: str, flags: int, *rest: int) -> int:
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "not here")
        return real(path, flags, *rest)

    monkeypatch.setattr(os, "open", refuse)
    figures, notes = await measure_disk(InlinePool(), SystemClock(), str(tmp_path), SIZE, 60.0)
    assert (len(figures), notes, list(tmp_path.iterdir())) == (2, [], [])


async def test_time_bounds_what_is_written(tmp_path: Path) -> None:
    class Slow(ManualClock):
        def monotonic(self) -> float:
            self.advance(1.0)
            return super().monotonic()

    figures, _ = await measure_disk(InlinePool(), Slow(), str(tmp_path), 1 << 40, 2.5)
    assert figures[0].bytes == 2 * 32 * limits.MIB
    assert figures[1].bytes <= figures[0].bytes


async def test_what_cannot_be_measured_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, notes = await measure_disk(InlinePool(), SystemClock(), str(tmp_path / "none"), SIZE, 1.0)
    assert figures == []
    assert "No such file or directory" in notes[0]
    monkeypatch.setattr(disk, "_free_bytes", lambda _folder: SIZE)
    figures, notes = await measure_disk(InlinePool(), SystemClock(), str(tmp_path), SIZE, 1.0)
    assert figures == []
    assert "too little free space" in notes[0]
    monkeypatch.setattr(disk, "_free_bytes", lambda _folder: 1 << 40)

    def full(*_arguments: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk, "_write_turn", full)
    figures, notes = await measure_disk(InlinePool(), SystemClock(), str(tmp_path), SIZE, 1.0)
    assert (figures, list(tmp_path.iterdir())) == ([], [])
    assert "No space left" in notes[0]
