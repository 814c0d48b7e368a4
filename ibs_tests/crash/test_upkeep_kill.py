"""SIGKILL in the middle of verifying and pruning, at random steps of their work, on a store that is damaged meanwhile.

After each kill: what was acknowledged is in its place or, if a prune was to take it, in the bin, and the newest are in
their place whatever happened; a result that was noted stays noted and was true; the next run finishes the work.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.engine.verify import verify_snapshot
from ibs.runtime.pool import InlinePool
from ibs_tests.crash.test_session_kill import number_in
from ibs_tests.support.engine import Box, address_of, read
from ibs_tests.support.session_child import chunks_of
from ibs_tests.support.stores import flip
from ibs_tests.support.upkeep_child import KEPT

ROUNDS = min(int(os.environ.get("IBS_CRASH_ROUNDS", "16")), 40)
BACKUPS_A_ROUND = 4


def child(path: Path, first: int, kill_at: int) -> tuple[bool, list[list[str]]]:
    """Whether it was killed, and what it said."""
    words = [str(path), str(first), str(BACKUPS_A_ROUND), str(kill_at)]
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.support.upkeep_child", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9, [line.split() for line in done.stdout.splitlines()]


async def results(datastore: Datastore) -> dict[str, str]:
    """What the store itself says of each visible snapshot's last verification."""
    found = {}
    for name in await datastore.snapshots.every():
        state = datastore.context.folders.load(name).state.verify
        found[str(name)] = state.result if state is not None else ""
    return found


async def places(datastore: Datastore) -> tuple[set[str], set[str]]:
    visible = {str(name) for name in await datastore.snapshots.every()}
    return visible, {str(entry.snapshot) for entry in await datastore.bin.entries()}


def newest(names: set[str]) -> set[str]:
    """The last KEPT of each group."""
    seen: Counter[str] = Counter()
    kept = set()
    for name in sorted(names, key=lambda text: str(SnapshotName.parse(text).time), reverse=True):
        group = str(SnapshotName.parse(name).group)
        seen[group] += 1
        if seen[group] <= KEPT:
            kept.add(name)
    return kept


async def test_killed_while_verifying_and_pruning_nothing_is_lost_and_nothing_is_claimed(tmp_path: Path) -> None:
    steps = random.Random(20261124)
    path = tmp_path / "store"
    box = Box(str(path), pool=InlinePool(), entropy=os.urandom).create()
    promised: set[str] = set()
    leaving: set[str] = set()
    damaged: set[str] = set()
    total = killed = pruned = found_bad = 0
    for round_ in range(ROUNDS):
        kill_at = steps.randrange(total // 8, total + 1) if total else 0
        was_killed, said = child(path, round_ * BACKUPS_A_ROUND, kill_at)
        killed += was_killed
        verified: dict[str, str] = {}
        for words in said:
            if words[0] == "committed":
                promised.add(words[2])
            elif words[0] == "will-prune":
                leaving.update(words[1:])
            elif words[0] == "pruned":
                pruned += len(words) - 1
            elif words[0] == "verified":
                verified[words[1]] = words[2]
            elif words[0] == "done":
                total = int(words[1])
        datastore = await box.open()
        visible, binned = await places(datastore)
        assert not visible & binned
        assert promised <= visible | binned
        assert promised - leaving <= visible
        assert newest(visible | binned) <= visible, "a prune took one of those that it was to keep"
        noted = await results(datastore)
        for name, result in verified.items():
            assert (result == "OK") == (name not in damaged), name
            assert noted.get(name, result) == result, f"{name}: what was acknowledged was not kept"
            found_bad += result != "OK"
        for name in visible - damaged:
            assert await read(datastore, name, "etc.tree") == chunks_of(
                await number_in(datastore, SnapshotName.parse(name))
            )
        whole = sorted(newest(visible) - damaged)  # damaging a chunk twice would heal it
        if round_ % 4 == 2 and whole:  # from now on every verification has to say so
            victim = steps.choice(whole)
            number = await number_in(datastore, SnapshotName.parse(victim))
            flip(box.chunk_path(address_of(b"root of %d" % number)))
            damaged.add(victim)
        await datastore.close("checked")
    assert killed > ROUNDS // 3
    assert pruned > 0
    assert found_bad > 0, "no damage was found by a child: the rounds prove little"
    datastore = await box.open()
    for name in await datastore.snapshots.every():
        report = await verify_snapshot(datastore, name)
        assert (report.result == "OK") == (str(name) not in damaged)
    await datastore.close("checked")
