"""Killed at any step of rebuilding the index: nothing is lost, and the next one finishes the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import LocalStore
from ibs.storage.local.layout import chunk_name
from ibs_tests.support.stores import CREATED, SERVER, UUID, make_blob

CHUNKS = 12
CHILD = """
import os, signal, sys
from ibs.storage.local import LocalStore, Options
path, uuid, server, left = sys.argv[1], sys.argv[2], sys.argv[3], [int(sys.argv[4])]
def hook(point):
    if point == "reindex.row":
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
store = LocalStore.open(path, uuid, server, name="s1", options=Options(hook=hook))
store.reindex(0, 65536)
store.close()
"""


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 99])
def test_killed_while_it_rebuilds(tmp_path: Path, steps: int) -> None:
    path = tmp_path / "s"
    LocalStore.create(str(path), "s1", UUID, created=CREATED)
    store = LocalStore.open(str(path), UUID, SERVER, name="s1")
    blobs = [make_blob(number) for number in range(CHUNKS)]
    for address, blob in blobs:
        store.put(address, blob)
    store.barrier()
    store._db.remove([address for address, _ in blobs[:4]])
    for address, _ in blobs[4:6]:
        name = chunk_name(address)
        (path / "chunks" / name[:4] / name).unlink()
    store.close()
    child = subprocess.run([sys.executable, "-c", CHILD, path, UUID, SERVER, str(steps)], check=False, timeout=60)
    assert child.returncode == (-signal.SIGKILL if steps < 6 else 0)
    again = LocalStore.open(str(path), UUID, SERVER, name="s1")
    again.reindex(0, 65_536)
    states = [info.state for info in again.info([address for address, _ in blobs])]
    gone, there = ChunkState.ABSENT, ChunkState.DURABLE
    assert states == [there] * 4 + [gone] * 2 + [there] * (CHUNKS - 6)
    for address, blob in [*blobs[:4], *blobs[6:]]:
        assert again.get(address) == blob
    assert again.reindex(0, 65_536).fixed == 0
    again.close()
