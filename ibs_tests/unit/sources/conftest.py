"""A block device for tests that run as root where loop devices exist."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def loop_device(tmp_path: Path) -> Iterator[str]:
    """A loop device of 512 KiB, each byte 7."""
    backing = tmp_path / "backing"
    backing.write_bytes(bytes([7]) * (8 << 16))
    made = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    device = made.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)
