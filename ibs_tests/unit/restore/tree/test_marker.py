"""The file that says a target is incomplete."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ibs.errors import ConflictError
from ibs.restore.tree.marker import MARKER_BYTES, MARKER_NAME, Marker, MarkerState

NONCE = "0123456789abcdef"


@pytest.fixture
def folder_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def begin(folder_fd: int, **changes: object) -> Marker:
    marker = Marker.create(folder_fd, "/target")
    facts: dict[str, object] = {"snapshot": "host/a/T", "archive": "a.tree", "nonce": NONCE, "began_empty": True}
    marker.begin(**{**facts, "started": "2026-01-01T00:00:00Z", **changes})  # type: ignore[arg-type]
    return marker


def content(tmp_path: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((tmp_path / os.fsdecode(MARKER_NAME)).read_bytes())
    return found


def test_it_is_there_from_the_start_with_its_space_taken(folder_fd: int, tmp_path: Path) -> None:
    marker = begin(folder_fd)
    assert (tmp_path / os.fsdecode(MARKER_NAME)).stat().st_size == MARKER_BYTES
    assert content(tmp_path)["state"] == "running"
    marker.close()


def test_it_lists_what_is_missing_within_its_size(folder_fd: int, tmp_path: Path) -> None:
    marker = begin(folder_fd)
    missing = [{"path": "x" * 200, "reason": "not restored yet"}] * 5000
    marker.incomplete(state="failed", why="no space", missing=missing, count=5000, after="etc/fstab")
    found = content(tmp_path)
    assert (found["state"], found["message"], found["missing_count"]) == ("failed", "no space", 5000)
    assert found["everything_after"] == "etc/fstab"
    assert isinstance(found["missing"], list)
    assert 100 < len(found["missing"]) <= 1000
    assert (tmp_path / os.fsdecode(MARKER_NAME)).stat().st_size == MARKER_BYTES
    marker.close()


def test_two_restores_do_not_share_a_target(folder_fd: int) -> None:
    marker = begin(folder_fd)
    with pytest.raises(ConflictError, match="another restore is writing into /target"):
        Marker.create(folder_fd, "/target")
    marker.close()
    Marker.create(folder_fd, "/target").close()


def test_a_later_run_knows_the_earlier_one(folder_fd: int) -> None:
    begin(folder_fd).close()
    later = Marker.create(folder_fd, "/target")
    assert later.earlier == MarkerState("host/a/T", "a.tree", NONCE, began_empty=True)
    later.close()


@pytest.mark.parametrize("nonce", ["*", "../../etc", "0123456789ABCDEF", "0123"])
def test_a_foreign_nonce_is_never_used_for_deleting(folder_fd: int, nonce: str) -> None:
    begin(folder_fd, nonce=nonce).close()
    later = Marker.create(folder_fd, "/target")
    assert later.earlier is not None
    assert later.earlier.nonce == ""
    later.close()


@pytest.mark.parametrize("junk", [b"{", b"[]", b"{}", b"\xff" * 100, b'{"snapshot": 1}', b"   "])
def test_an_unreadable_marker_tells_nothing(folder_fd: int, tmp_path: Path, junk: bytes) -> None:
    (tmp_path / os.fsdecode(MARKER_NAME)).write_bytes(junk)
    marker = Marker.create(folder_fd, "/target")
    assert marker.earlier in (None, MarkerState())
    marker.close()


def test_it_never_writes_through_a_link(folder_fd: int, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("mine")
    (tmp_path / os.fsdecode(MARKER_NAME)).symlink_to("victim")
    with pytest.raises(OSError, match="symbolic"):
        Marker.create(folder_fd, "/target")
    assert (tmp_path / "victim").read_text() == "mine"


def test_removal(folder_fd: int, tmp_path: Path) -> None:
    marker = begin(folder_fd)
    marker.remove()
    marker.remove()
    marker.close()
    marker.close()
    assert os.listdir(tmp_path) == []
