"""Where links lead, asked without following them anywhere that could block."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.sources.tree.links import LinkProbe


@pytest.fixture
def probe() -> Iterator[LinkProbe]:
    made = LinkProbe()
    yield made
    made.close()
    made.close()


@pytest.mark.parametrize(
    ("target", "unreachable"),
    [
        ("file", False),
        ("folder/../file", False),
        ("none", True),
        ("file/below", True),
        ("self", True),
        ("/", False),
        ("/no/such/place", True),
        ("/proc/version", False),  # on another mount: cannot be told, so it counts as reachable
        ("/proc/no-such-file", False),
    ],
)
def test_targets(probe: LinkProbe, tmp_path: Path, target: str, unreachable: bool) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "link").symlink_to(target)
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert probe.unreachable(folder, b"link", os.fsencode(target)) is unreachable
    finally:
        os.close(folder)


def test_a_fifo_behind_a_link_does_not_block(probe: LinkProbe, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    folder = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    before = len(os.listdir("/proc/self/fd"))
    assert not probe.unreachable(folder, b"link", b"fifo")
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(folder)
