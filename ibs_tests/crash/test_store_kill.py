"""SIGKILL of a process at every named point of the local store; then the store is opened and held to its promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ibs.ports.chunkstore import ChunkState
from ibs.storage.local import LocalStore
from ibs.storage.wrap.faults import KILL_AT
from ibs_tests.support.store_child import CHUNKS_A_ROUND, ROUNDS, chunks_of, folder_of, index_of
from ibs_tests.support.stores import StoreBox, make_blob

POINTS = [
    *[f"put.write:{n}" for n in (1, 9)],
    *[f"put.temp:{n}" for n in (1, 9)],
    *[f"put.rename:{n}" for n in (1, 9)],
    *[f"barrier.sync:{n}" for n in (1, 2, 4)],
    *[f"barrier.promote:{n}" for n in (1, 4, 9)],
    *[f"barrier.record:{n}" for n in (1, 3)],
    *[f"publish.index:{n}" for n in (1, 2, 3)],
    *[f"publish.sync:{n}" for n in (1, 3)],
    *[f"publish.manifest.temp:{n}" for n in (1, 2, 4)],
    *[f"publish.manifest.rename:{n}" for n in (1, 2, 4)],
    *[f"publish.manifest.done:{n}" for n in (1, 2, 4)],
    *[f"discard.row:{n}" for n in (1, 3)],
    *[f"discard.file:{n}" for n in (1, 3)],
    *[f"retire.row:{n}" for n in (1, 2)],
    "retire.free:1",
    *[f"retire.file:{n}" for n in (1, 3, 5)],
    *[f"revive.file:{n}" for n in (1, 2)],
    *[f"revive.row:{n}" for n in (1, 2)],
    "reclaim.row:1",
    *[f"reclaim.file:{n}" for n in (1, 3)],
    "remove.manifest:1",
    "remove.files:1",
]
RECOVERY_POINTS = ["recover.promote:1", "recover.promote:3", "recover.rebuild:1", "recover.sweep:1", "barrier.sync:1"]


def child(path: Path, kill_at: str = "", first: int = 0) -> tuple[int, list[dict[str, Any]]]:
    """Run the worker; its exit status and what it said."""
    environment = {**os.environ, KILL_AT: kill_at}
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.support.store_child", str(path), str(first)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines() if line.endswith("}")]


def check_promises(box: StoreBox, store: LocalStore, said: list[dict[str, Any]]) -> None:
    """Nothing durable lost, nothing torn served, snapshots whole or invisible, no litter."""
    durable = {n for line in said if line["what"] == "durable" for n in range(line["since"], line["upto"] + 1)}
    published = {line["round"] for line in said if line["what"] == "published"}
    for round_ in published:
        durable.update(chunks_of(round_))
    may_be_gone = {line["n"] for line in said if line["what"] == "will discard"}
    may_be_removed = {line["round"] for line in said if line["what"] == "will remove"}
    for n in durable - may_be_gone:
        assert store.get(make_blob(n)[0]) == make_blob(n)[1], f"durable chunk {n}"
    for line in said:
        if line["what"] == "discarded":
            assert store.info([make_blob(line["n"])[0]])[0].state is ChunkState.ABSENT
        if line["what"] == "removed":
            assert not (box.path / "ns" / folder_of(line["round"])).exists()
    for info in store.iterate():
        assert info.state in (ChunkState.DURABLE, ChunkState.RETIRED)
        store.get_range(info.address, 0, 1)  # raises when there is no file; a retired one comes back by it
        store.get(info.address)  # raises when torn
    for round_ in range(ROUNDS * 2):
        folder = box.path / "ns" / folder_of(round_)
        if not folder.exists():
            assert round_ not in published or round_ in may_be_removed
            continue
        assert store.snapshots.names(folder_of(round_)) == ["a.tree.idx", "log", "manifest.json", "manifest.sig"]
        assert store.snapshots.read(folder_of(round_), "a.tree.idx") == index_of(round_)
        for n in chunks_of(round_):
            assert store.get(make_blob(n)[0]) == make_blob(n)[1], "a visible manifest has all its chunks"
    assert store.unavailable() == frozenset()
    check_no_litter(box, store)


def check_no_litter(box: StoreBox, store: LocalStore) -> None:
    assert box.incoming() == []
    assert os.listdir(box.path / "chunks" / "incoming") == [str(store.epoch)]
    assert list(box.path.rglob(".tmp-*")) == []
    assert list(box.path.rglob("*.bad")) == []
    on_disk = {path.name for path in (box.path / "chunks").glob("????/*")}
    assert on_disk == {info.address.id.hex() for info in store.iterate()}


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_every_promise_holds_and_the_work_can_be_done_again(tmp_path: Path, point: str) -> None:
    box = StoreBox(tmp_path / "store").create()
    status, said = child(box.path, point)
    assert status == -9, f"{point} was never reached"
    store = box.open()
    assert not store.recovered.clean
    check_promises(box, store, said)
    store.close()
    status, again = child(box.path)
    assert (status, again[-1]["what"]) == (0, "closed")
    store = box.open()
    assert store.recovered.clean
    check_promises(box, store, again)
    store.close()


@pytest.mark.parametrize("point", RECOVERY_POINTS)
def test_killed_while_recovering_the_next_open_recovers(tmp_path: Path, point: str) -> None:
    box = StoreBox(tmp_path / "store").create()
    # The second publication is half made, and its round's chunks are only received.
    first_kill = "publish.manifest.temp:3" if point.startswith("recover.sweep") else f"put.rename:{CHUNKS_A_ROUND + 5}"
    status, said = child(box.path, first_kill)
    assert status == -9
    for _ in range(2):
        status, nothing = child(box.path, point)
        assert (status, nothing) == (-9, [])
        if point.startswith(("recover.promote", "barrier.sync")):
            break  # what was moved stays moved: the point may not be reached again
    store = box.open()
    check_promises(box, store, said)
    store.close()


def test_an_undisturbed_worker_keeps_every_promise(tmp_path: Path) -> None:
    box = StoreBox(tmp_path / "store").create()
    for first in (0, ROUNDS):
        status, said = child(box.path, first=first)
        assert status == 0
        store = box.open()
        assert store.recovered.clean
        check_promises(box, store, said)
        store.close()
    assert [n for n in range(ROUNDS * CHUNKS_A_ROUND) if n in chunks_of(0)] == chunks_of(0)
