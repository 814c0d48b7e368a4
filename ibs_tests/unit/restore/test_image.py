"""Images go to files, devices and streams."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.core import limits
from ibs.errors import ConflictError, DestinationNotWritable
from ibs.restore import image
from ibs.restore.image import SUFFIX, ImageDevice, ImageFile, ImageStream, ImageTarget, open_image
from ibs.restore.tree.folders import Overwrite

MIB = limits.MIB


def opened(
    target: str | Path, *, size: int = 4 * MIB, overwrite: Overwrite = Overwrite.NEVER, fd: int = -1
) -> ImageTarget:
    return open_image(
        str(target), size=size, overwrite=overwrite, archived_ns=10**18, output_fd=fd, default_name="disk.img"
    )


def part(at: int, data: bytes) -> tuple[int, memoryview]:
    return at, memoryview(data)


def test_a_new_file_is_sparse_and_marked_until_whole(tmp_path: Path) -> None:
    target = opened(tmp_path / "disk", size=64 * MIB + 5)
    target.zero(0, 32 * MIB)
    assert target.write([part(32 * MIB, b"x" * 5000), part(40 * MIB, bytes(MIB))]) == 5000
    assert os.listdir(tmp_path) == ["disk" + SUFFIX]
    target.finish()
    assert os.listdir(tmp_path) == ["disk"]
    found = (tmp_path / "disk").stat()
    assert found.st_size == 64 * MIB + 5
    assert found.st_blocks * 512 <= 64 * 1024
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_a_failed_one_stays_under_its_marked_name(tmp_path: Path) -> None:
    target = opened(tmp_path / "disk")
    assert target.abandon() == f"what was restored is in {tmp_path}/disk{SUFFIX}"
    assert os.listdir(tmp_path) == ["disk" + SUFFIX]
    again = opened(tmp_path / "disk")
    again.finish()
    assert os.listdir(tmp_path) == ["disk"]


def test_a_folder_gets_the_image_under_the_name_of_the_archive(tmp_path: Path) -> None:
    opened(tmp_path).finish()
    assert os.listdir(tmp_path) == ["disk.img"]


def test_two_restores_do_not_share_a_file(tmp_path: Path) -> None:
    target = opened(tmp_path / "disk")
    with pytest.raises(ConflictError, match="another restore"):
        opened(tmp_path / "disk")
    target.finish()


@pytest.mark.parametrize(
    ("overwrite", "mtime_ns", "taken"),
    [
        (Overwrite.NEVER, 0, False),
        (Overwrite.IF_NEWER, 2 * 10**18, False),
        (Overwrite.IF_NEWER, 10**17, True),
        (Overwrite.ALWAYS, 2 * 10**18, True),
    ],
)
def test_existing_files_follow_the_rule(tmp_path: Path, overwrite: Overwrite, mtime_ns: int, taken: bool) -> None:
    (tmp_path / "disk").write_text("mine")
    os.utime(tmp_path / "disk", ns=(mtime_ns, mtime_ns))
    if taken:
        opened(tmp_path / "disk", overwrite=overwrite).finish()
        assert (tmp_path / "disk").stat().st_size == 4 * MIB
    else:
        with pytest.raises(ConflictError, match="exists"):
            opened(tmp_path / "disk", overwrite=overwrite)
        assert (tmp_path / "disk").read_text() == "mine"
    assert os.listdir(tmp_path) == ["disk"]


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    target = opened(tmp_path / "disk")
    (tmp_path / "disk").write_text("mine")
    with pytest.raises(ConflictError, match="appeared meanwhile"):
        target.finish()
    assert (tmp_path / "disk").read_text() == "mine"


@pytest.mark.parametrize("leads_to", ["there", "nowhere"])
def test_a_link_is_not_written_through(tmp_path: Path, leads_to: str) -> None:
    (tmp_path / "there").write_text("mine")
    (tmp_path / "disk").symlink_to(leads_to)
    with pytest.raises(DestinationNotWritable, match="symbolic link"):
        opened(tmp_path / "disk", overwrite=Overwrite.ALWAYS)
    assert (tmp_path / "there").read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(DestinationNotWritable, match="neither"):
        opened(tmp_path / "fifo", overwrite=Overwrite.ALWAYS)
    with pytest.raises(DestinationNotWritable, match="No such file"):
        opened(tmp_path / "none" / "disk")
    (tmp_path / "file").touch()
    with pytest.raises(DestinationNotWritable, match="not a folder"):
        opened(tmp_path / "file" / "disk")


def test_a_stream_takes_everything_in_order() -> None:
    read, write = os.pipe()
    os.set_blocking(read, False)
    target = opened("-", fd=write)
    assert isinstance(target, ImageStream)
    assert target.sequential
    target.write([part(0, b"abc"), part(3, b"def")])
    target.zero(6, 10)
    target.finish()
    assert os.read(read, 100) == b"abcdef" + bytes(10)
    assert target.abandon() == "the output is incomplete"
    os.close(read)
    with pytest.raises(DestinationNotWritable, match="the reader of the output has gone"):
        target.write([part(0, b"x")])
    with pytest.raises(DestinationNotWritable, match="the reader of the output has gone"):
        target.zero(0, 1)
    os.close(write)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[str]:
    """A loop device of 16 MiB filled with ones."""
    (tmp_path / "backing").write_bytes(b"\xff" * (16 * MIB))
    made = subprocess.run(
        ["losetup", "--find", "--show", tmp_path / "backing"], check=True, capture_output=True, text=True
    )
    name = made.stdout.strip()
    yield name
    subprocess.run(["losetup", "-d", name], check=True)


@pytest.mark.root
@pytest.mark.parametrize("kernel", [True, False])
def test_a_device_gets_its_zeros_too(
    device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    if not kernel:
        monkeypatch.setattr(image, "_fallocate", lambda *_: False)
    target = opened(device, size=12 * MIB, overwrite=Overwrite.ALWAYS)
    assert isinstance(target, ImageDevice)
    target.zero(0, 4 * MIB)
    target.write([part(4 * MIB, b"x" * (4 * MIB))])
    target.zero(8 * MIB, 4 * MIB)
    target.finish()
    expected = bytes(4 * MIB) + b"x" * (4 * MIB) + bytes(4 * MIB) + b"\xff" * (4 * MIB)
    assert (tmp_path / "backing").read_bytes() == expected


@pytest.mark.root
def test_a_device_is_only_overwritten_when_asked_and_large_enough(device: str, tmp_path: Path) -> None:
    with pytest.raises(ConflictError):
        opened(device)
    with pytest.raises(DestinationNotWritable, match=r"it has 16777216 bytes, the image 16777217"):
        opened(device, size=16 * MIB + 1, overwrite=Overwrite.ALWAYS)
    link = tmp_path / "link"
    link.symlink_to(device)  # as every logical volume is named
    target = opened(link, overwrite=Overwrite.ALWAYS)
    assert isinstance(target, ImageDevice)
    assert target.abandon() == f"{link} is overwritten in part"


@pytest.mark.root
def test_a_device_in_use_is_refused(device: str, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    (tmp_path / "mnt").mkdir()
    subprocess.run(["mount", device, tmp_path / "mnt"], check=True)
    try:
        with pytest.raises(DestinationNotWritable, match="in use"):
            opened(device, overwrite=Overwrite.ALWAYS)
    finally:
        subprocess.run(["umount", tmp_path / "mnt"], check=True)


@pytest.mark.root
def test_a_full_disk_is_told_before_and_during(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=True)
    try:
        target = opened(disk / "image", size=8 * MIB)
        assert isinstance(target, ImageFile)
        with pytest.raises(DestinationNotWritable, match="no space left"):
            target.write([part(0, b"x" * (2 * MIB))])
        target.abandon()
        with pytest.raises(DestinationNotWritable, match="no space left"):
            opened(disk / "other", size=8 * MIB)
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
