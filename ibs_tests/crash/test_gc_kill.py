"""SIGKILL in the middle of garbage collection, undo and the emptying of trash, at random steps of their work.

After each kill every snapshot that was acknowledged, and not about to be forgotten, is there and whole; the next run
collects everything that is garbage, and not a chunk more.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ibs.engine.datastore import Datastore
from ibs.engine.gc.plan import Options
from ibs.ports.chunkstore import ChunkState
from ibs.runtime.pool import InlinePool
from ibs_tests.crash.test_session_kill import number_in
from ibs_tests.support.engine import Box, address_of, read
from ibs_tests.support.session_child import chunks_of

ROUNDS = min(int(os.environ.get("IBS_CRASH_ROUNDS", "24")), 80)
BACKUPS_A_ROUND = 5


def child(path: Path, first: int, kill_at: int) -> tuple[bool, list[list[str]]]:
    """Whether it was killed, and what it said."""
    words = [str(path), str(first), str(BACKUPS_A_ROUND), str(kill_at)]
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.support.gc_child", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9, [line.split() for line in done.stdout.splitlines()]


async def check(datastore: Datastore, promised: set[str], may_be_gone: set[str]) -> set[str]:
    """All that was promised is there and whole; returns what is visible."""
    names = await datastore.snapshots.every()
    visible = {str(name) for name in names}
    assert promised - may_be_gone <= visible
    for name in names:
        assert await read(datastore, str(name), "etc.tree") == chunks_of(await number_in(datastore, name))
    for info in datastore.store.iterate():
        assert info.state in (ChunkState.DURABLE, ChunkState.RETIRED)
    assert datastore.store.unavailable() == frozenset()
    return visible


@pytest.mark.slow
async def test_killed_while_collecting_nothing_is_lost_and_nothing_stays(tmp_path: Path) -> None:
    steps = random.Random(20261123)
    box = Box(str(tmp_path / "store"), pool=InlinePool(), entropy=os.urandom).create()
    promised: set[str] = set()
    going: set[str] = set()
    total = killed = collected = cut_off = 0
    for round_ in range(ROUNDS):
        kill_at = steps.randrange(total // 8, total + 1) if total else 0
        was_killed, said = child(tmp_path / "store", round_ * BACKUPS_A_ROUND, kill_at)
        killed += was_killed
        for words in said:
            if words[0] == "committed":
                promised.add(words[2])
            elif words[0] == "will-forget":
                going.add(words[1])
            elif words[0] == "collected":
                collected += 1
            elif words[0] == "done":
                total = int(words[1])
        datastore = await box.open()
        promised = await check(datastore, promised, going)
        going -= promised & going  # it was killed before it went
        cut_off += (await datastore.gc.record()).running is not None
        await datastore.close("checked")
    assert killed > ROUNDS // 2
    assert collected > ROUNDS // 2
    assert cut_off > 0, "no run was killed in its middle: the rounds prove little"
    datastore = await box.open()
    await datastore.cleanup()
    # The last child may have been killed between a snapshot's way to the bin and its end.
    await datastore.gc.run(Options(share_percent=100, reclaim_now=True, empty_bin=True))
    await check(datastore, promised, set())
    names = await datastore.snapshots.every()
    needed = {address_of(data) for name in names for data in chunks_of(await number_in(datastore, name))}
    assert {info.address for info in datastore.store.iterate()} == needed
    assert await datastore.gc.trash.list() == []
    on_disk = {path.name for path in (tmp_path / "store" / "chunks").rglob("*") if path.is_file()}
    assert on_disk == {address.id.hex() for address in needed}
    await datastore.close("checked")
