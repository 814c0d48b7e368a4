"""Images: fixed chunks in order, zeros and holes for nothing, whole or not at all."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from ibs.core import index, limits
from ibs.core.keys import DataKeys
from ibs.errors import SourceUnreadable
from ibs.sources.image import ImageSource
from ibs_tests.support.backups import MemoryServer, back_up

CHUNK = limits.IMAGE_CHUNK_BYTES


def content_of(server: MemoryServer, size: int, keys: DataKeys | None = None) -> bytes:
    whole = b"".join(chunk or bytes(CHUNK) for chunk in server.image("disk.img", keys))
    assert len(whole) >= size
    return whole[:size]


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"k" * 32)])
async def test_an_image_with_data_zeros_and_holes(tmp_path: Path, keys: DataKeys | None) -> None:
    path = tmp_path / "disk"
    rng = random.Random(1)
    size = 12 * CHUNK + 12345
    with path.open("wb") as file:
        file.truncate(size)
        for number in (0, 5, 12):
            file.seek(number * CHUNK + 100)
            file.write(rng.randbytes(1000))
        file.seek(3 * CHUNK)
        file.write(bytes(CHUNK))  # zeros that take room
    server = MemoryServer()
    outcome, transport = await back_up(server, path, "disk.img", keys=keys)
    assert content_of(server, size, keys) == path.read_bytes()
    assert len(transport.sent) == 3
    assert outcome.bytes_seen == size
    assert outcome.bytes_read <= 5 * CHUNK
    (archive,) = outcome.archives
    assert (archive.kind, archive.plain_bytes, archive.records, archive.entries) == ("img", size, 13, 0)
    with path.open("r+b") as file:
        file.seek(5 * CHUNK)
        file.write(b"changed")
    _, again = await back_up(server, path, "disk.img", keys=keys)
    assert len(again.sent) == 1
    assert content_of(server, size, keys) == path.read_bytes()


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 6 * CHUNK])
@pytest.mark.parametrize("zero", [True, False])
async def test_sizes_at_the_edges(tmp_path: Path, size: int, zero: bool) -> None:
    path = tmp_path / "disk"
    path.write_bytes(bytes(size) if zero else b"\1" * size)
    server = MemoryServer()
    outcome, transport = await back_up(server, path, "disk.img")
    assert content_of(server, size) == path.read_bytes()
    assert outcome.archives[0].records == -(-size // CHUNK)
    if zero:
        assert transport.sent == []
    else:
        assert len(transport.sent) <= 2  # equal chunks are sent once


async def test_equal_chunks_in_one_image_are_sent_once(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(os.urandom(CHUNK) * 9)
    server = MemoryServer()
    _, transport = await back_up(server, path, "disk.img")
    assert len(transport.sent) == 1
    assert content_of(server, 9 * CHUNK) == path.read_bytes()


async def test_a_huge_thin_disk_costs_nearly_nothing(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    size = 3 << 40
    with path.open("wb") as file:
        file.truncate(size)
        file.seek(2 << 40)
        file.write(b"data")
    server = MemoryServer()
    outcome, transport = await back_up(server, path, "disk.img")
    assert len(transport.sent) == 1
    assert outcome.archives[0].records == size // CHUNK
    records = index.record_ids(server.snapshots[0].indexes["disk.img"][index.HEADER_BYTES :], 32)
    assert [int(one) for one in records.any(axis=1).nonzero()[0]] == [(2 << 40) // CHUNK]


async def test_a_write_meanwhile_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * 1000)
    real = ImageSource.read

    def read(self: ImageSource, view: memoryview, offset: int) -> None:
        real(self, view, offset)
        os.utime(path, ns=(1, 1))

    monkeypatch.setattr(ImageSource, "read", read)
    outcome, transport = await back_up(MemoryServer(), path, "disk.img")
    assert outcome.status == "WARNING"
    assert "changed while it was read" in transport.lines[0].text


async def test_an_image_that_cannot_be_read_whole_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"x" * (3 * CHUNK))
    real = ImageSource.read

    def read(self: ImageSource, view: memoryview, offset: int) -> None:
        real(self, view, offset)
        os.truncate(path, CHUNK + 5)

    monkeypatch.setattr(ImageSource, "read", read)
    before = len(os.listdir("/proc/self/fd"))
    server = MemoryServer()
    transport = server.transport()
    with pytest.raises(SourceUnreadable, match="changed its size"):
        await back_up(server, path, "disk.img", transport=transport)
    assert transport.aborted
    assert server.snapshots == []
    assert len(os.listdir("/proc/self/fd")) == before
