"""SIGKILL at every point of forget, undo and purge: a snapshot is in its place, or in the bin, whole, or gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ibs.storage.wrap.faults import KILL_AT
from ibs_tests.support.bin_child import CONTENT, OTHER
from ibs_tests.support.stores import SNAPSHOT, StoreBox

# Where the snapshot may be: what the last answer said, or what the call under way was to bring about.
POINTS = {
    "bin.record:1": {"place"},
    "bin.rename:1": {"place"},
    "bin.done:1": {"bin"},
    "undo.rename:1": {"bin"},
    "undo.done:1": {"place"},
    "bin.record:2": {"place"},
    "bin.rename:2": {"place"},
    "bin.done:2": {"bin"},
    "purge.manifest:1": {"bin"},
    "purge.files:1": {"gone"},
}


def killed(path: Path, point: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.support.bin_child", str(path)],
        env={**os.environ, KILL_AT: point},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == (-9 if point else 0), done.stderr
    return done.stdout.splitlines()


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_it_is_in_one_place_and_whole(tmp_path: Path, point: str) -> None:
    box = StoreBox(tmp_path / "store").create()
    said = killed(box.path, point)
    assert "closed" not in said
    store = box.open()
    place, entries = box.path / "ns" / SNAPSHOT, store.bin.entries()
    found = {"place"} if place.exists() else {"bin"} if entries else {"gone"}
    assert found == POINTS[point]
    if found == {"place"}:
        assert files_of(place) == CONTENT, "the bin's record is litter here"
        assert entries == []
    if found == {"bin"}:
        (entry,) = entries
        assert files_of(box.path / ".ibs/bin" / entry) == CONTENT | {"bin.json": store.bin.read(entry, "bin.json")}
        store.bin.undo(entry, SNAPSHOT)
        assert files_of(place) == CONTENT
    if found == {"gone"}:
        assert list((box.path / ".ibs/bin").iterdir()) == []
    assert files_of(box.path / "ns" / OTHER) == CONTENT
    assert list(box.path.rglob(".tmp-*")) == []
    box.close()


def test_undisturbed_it_does_what_it_says(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "store").create()
    assert killed(box.path, "") == ["published", "binned", "undone", "binned again", "purged", "closed"]
    store = box.open()
    assert store.recovered.clean
    assert store.bin.entries() == []
    assert not (box.path / "ns" / SNAPSHOT).exists()
    box.close()
