"""Image sources: whole or not at all, holes passed over, nothing waited for."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest

from ibs.errors import SourceUnreadable, UsageError
from ibs.sources.image import ImageSource

CHUNK = 1 << 16


def sparse(path: Path, size: int, *pieces: tuple[int, int]) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
        for offset, length in pieces:
            file.seek(offset)
            file.write(os.urandom(length))
    return path


def source(path: Path) -> ImageSource:
    return ImageSource(os.fsencode(path))


def test_all_of_a_file_is_read(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 300_000, (0, 300_000))
    image = source(path)
    buffer = bytearray(300_000)
    image.read(memoryview(buffer), 0)
    assert bytes(buffer) == path.read_bytes()
    assert image.size == 300_000
    assert image.check()
    image.close()
    image.close()


def test_holes_are_passed_over(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 100 * CHUNK, (3 * CHUNK + 10, 5), (50 * CHUNK - 1, 2), (99 * CHUNK, CHUNK))
    image = source(path)
    runs = list(image.data_chunks(CHUNK))
    image.close()
    covered = {number for first, count in runs for number in range(first, first + count)}
    assert {3, 49, 50, 99} <= covered
    assert len(covered) < 20
    assert [first for first, _ in runs] == sorted({first for first, _ in runs})
    assert all(a + n <= b for (a, n), (b, _) in itertools.pairwise(runs))


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_sizes_at_the_edges(tmp_path: Path, size: int) -> None:
    image = source(sparse(tmp_path / "disk", size, (0, size)))
    assert list(image.data_chunks(CHUNK)) == ([(0, -(-size // CHUNK))] if size else [])
    image.close()
    hole = source(sparse(tmp_path / "hole", size))
    assert list(hole.data_chunks(CHUNK)) == []
    hole.close()


def test_a_shorter_or_longer_image_is_a_failure(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", 3 * CHUNK, (0, 3 * CHUNK))
    image = source(path)
    os.truncate(path, CHUNK)
    with pytest.raises(SourceUnreadable, match=f"changed its size.*{3 * CHUNK} bytes before, {CHUNK} now"):
        image.read(memoryview(bytearray(2 * CHUNK)), 0)
    os.truncate(path, 4 * CHUNK)
    with pytest.raises(SourceUnreadable, match="changed its size"):
        image.check()
    image.close()


def test_a_write_meanwhile_is_noticed(tmp_path: Path) -> None:
    path = sparse(tmp_path / "disk", CHUNK, (0, CHUNK))
    image = source(path)
    os.utime(path, ns=(1, 1))
    assert not image.check()
    image.close()


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="neither a file nor a block device"):
        source(tmp_path / "fifo")
    with pytest.raises(UsageError, match="neither a file nor a block device"):
        source(tmp_path)
    with pytest.raises(SourceUnreadable, match="No such file"):
        source(tmp_path / "none")


def test_a_read_error_names_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = source(sparse(tmp_path / "disk", CHUNK, (0, CHUNK)))

    def fail(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceUnreadable, match="at byte 100: Input/output error"):
        image.read(memoryview(bytearray(10)), 100)
    image.close()


@pytest.mark.root
def test_a_block_device_has_its_size_and_content(tmp_path: Path, loop_device: str) -> None:
    image = ImageSource(loop_device.encode())
    assert image.size == 8 * CHUNK
    assert list(image.data_chunks(CHUNK)) == [(0, 8)]
    buffer = bytearray(CHUNK)
    image.read(memoryview(buffer), CHUNK)
    assert bytes(buffer) == bytes([7]) * CHUNK
    assert image.check()
    image.close()
