"""One tree from source to closed index: bounded memory, deep and wide trees, old metadata over a slow line."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core import index, limits
from ibs.core.blob import BlobDecoder, BlobEncoder, parse_header
from ibs.core.ids import PLAIN_DOMAIN, Address
from ibs.core.keys import DataKeys
from ibs.errors import ServerUnreachable
from ibs_tests.support.backups import CountingFiles, MemoryServer, back_up, differences
from ibs_tests.support.trees import many_files


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """Folders one in the other, far beyond PATH_MAX, a file in each."""
    root = tmp_path / "deep"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for number in range(2000):
        os.mkdir("folder", dir_fd=fd)
        inner = os.open("folder", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
        if not number % 100:
            file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
            os.write(file, str(number).encode())
            os.close(file)
    os.close(fd)
    yield root
    subprocess.run(["rm", "-rf", root], check=True)


async def test_a_very_deep_tree(deep: Path) -> None:
    server = MemoryServer()
    outcome, _ = await back_up(server, deep)
    assert outcome.entries == 2001 + 20
    assert outcome.warnings == 0
    files = server.files("data.tree")
    assert files[b"folder/" * 1901 + b"file"] == b"1900"
    again, transport = await back_up(server, deep)
    assert (again.files_reused, transport.sent) == (20, [])


async def test_a_wide_folder_is_kept_and_taken_over(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for number in range(6000):
        os.close(os.open(f"file-with-a-longer-name-{number}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    server = MemoryServer()
    await back_up(server, tmp_path)
    assert len(server.entries("data.tree")) == 6001
    outcome, transport = await back_up(server, tmp_path)
    assert outcome.files_reused == 6000
    assert transport.sent == []
    assert server.snapshots[0].indexes == server.snapshots[1].indexes


async def test_old_metadata_is_fetched_ahead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MIN", 2000)
    monkeypatch.setattr(limits, "METADATA_BLOCK_BYTES_MAX", 4000)
    many_files(tmp_path, seed=1, count=600)
    server = MemoryServer()
    await back_up(server, tmp_path)
    outcome, transport = await back_up(server, tmp_path)
    assert outcome.files_reused == 600
    assert transport.sent == []
    assert transport.fetched >= 10
    # Changes in several places: blocks between them are still taken over, and everything is right.
    for path in sorted(tmp_path.rglob("f*"))[::97]:
        path.write_bytes(b"changed")
    files = CountingFiles()
    await back_up(server, tmp_path, files=files)
    assert len(files.opened) == 7
    assert differences(server, tmp_path) == []


async def test_a_server_that_goes_away_ends_the_backup_and_is_not_taken_for_loss(tmp_path: Path) -> None:
    many_files(tmp_path, seed=2, count=20)
    server = MemoryServer()
    await back_up(server, tmp_path)

    def away(_chunk: bytes) -> None:
        raise ServerUnreachable("gone")

    files = CountingFiles()
    with pytest.raises(ServerUnreachable):
        await back_up(server, tmp_path, files=files, transport=server.transport(base_chunk=away))
    assert files.opened == []


@pytest.mark.root
@pytest.mark.parametrize("everything", [False, True])
async def test_views_of_the_kernel_cost_nothing_and_do_not_block(everything: bool) -> None:
    server = MemoryServer()
    outcome, _ = await back_up(server, "/sys/kernel", all_file_systems=everything)
    assert outcome.bytes_read == 0
    assert outcome.files > 0


@pytest.mark.parametrize("keys", [None, DataKeys.from_root(b"k" * 32)], ids=["plain", "encrypted"])
async def test_a_block_that_does_not_authenticate_is_reported_and_sent_again(
    tmp_path: Path, keys: DataKeys | None
) -> None:
    many_files(tmp_path, seed=8, count=50)
    server = MemoryServer()
    await back_up(server, tmp_path, keys=keys)
    root = index.parse_header(server.snapshots[-1].indexes["data.tree"]).root
    address = Address(keys.fingerprint if keys else PLAIN_DOMAIN, root)
    # Another chunk's payload in its place, whole by its digest: only the tag, or the id, tells.
    whole = server.chunks[address]
    encoder = BlobEncoder(keys=keys)
    server.chunks[address] = bytes(encoder.encode(b"something else" * 100, root))
    assert parse_header(server.chunks[address]).id == root
    outcome, transport = await back_up(server, tmp_path, keys=keys)
    assert transport.suspects == [root]
    assert root in transport.sent
    assert not server.unavailable
    assert outcome.status == "WARNING"
    assert any("not what it should be" in line.text for line in transport.lines)
    assert differences(server, tmp_path, keys=keys) == []
    assert BlobDecoder(keys=keys).decode(server.chunks[address], want=address) == BlobDecoder(keys=keys).decode(
        whole, want=address
    )
    again, transport = await back_up(server, tmp_path, keys=keys)
    assert (again.status, transport.suspects, transport.sent) == ("OK", [], [])
