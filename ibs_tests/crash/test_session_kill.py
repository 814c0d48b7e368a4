"""SIGKILL of a server process at random steps of its sessions: nothing acknowledged is lost, nothing is left over."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.errors import NotFoundError
from ibs.runtime.pool import InlinePool
from ibs.wire.reader import ReaderOpen
from ibs_tests.support.engine import Box, close, read, start
from ibs_tests.support.session_child import chunks_of, group_of

ROUNDS = min(int(os.environ.get("IBS_CRASH_ROUNDS", "20")), 80)
BACKUPS_A_ROUND = 6


def child(path: Path, first: int, kill_at: int) -> tuple[bool, list[list[str]]]:
    """Whether it was killed, and what it said."""
    words = [str(path), str(first), str(BACKUPS_A_ROUND), str(kill_at)]
    done = subprocess.run(
        [sys.executable, "-m", "ibs_tests.support.session_child", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -9), done.stderr
    return done.returncode == -9, [line.split() for line in done.stdout.splitlines()]


async def number_in(datastore: Datastore, name: SnapshotName) -> int:
    reader = await datastore.readers.open("root@ibs", ReaderOpen(snapshot=str(name)), everything=True)
    number = int(await reader.file("number"))
    await close(datastore, reader)
    return number


async def check_promises(datastore: Datastore, acknowledged: dict[str, int]) -> None:
    """What was acknowledged is there; what is there is whole, and somebody's backup."""
    visible = {str(name): name for name in await datastore.snapshots.every()}
    assert set(acknowledged) <= set(visible)
    for written, name in visible.items():
        number = await number_in(datastore, name)
        assert acknowledged.setdefault(written, number) == number
        assert str(name.group) == group_of(number)
        assert await read(datastore, written, "etc.tree") == chunks_of(number)
    for info in datastore.store.iterate():
        datastore.store.get(info.address)  # raises when torn
    assert await datastore.find_unreferenced() == []
    assert datastore.store.leases.names() == []
    assert datastore.store.unavailable() == frozenset()


@pytest.mark.slow
async def test_killed_at_random_steps_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    steps = random.Random(20261122)
    box = Box(str(tmp_path / "store"), pool=InlinePool(), entropy=os.urandom).create()
    acknowledged: dict[str, int] = {}
    total, killed = 0, 0
    for round_ in range(ROUNDS):
        first = round_ * BACKUPS_A_ROUND
        kill_at = steps.randrange(1, total + 1) if total else 0
        was_killed, said = child(tmp_path / "store", first, kill_at)
        killed += was_killed
        for words in said:
            if words[0] == "committed":
                acknowledged[words[2]] = int(words[1])
            if words[0] == "done":
                total = int(words[1])
        datastore = await box.open()
        await check_promises(datastore, acknowledged)
        if round_ % 4 == 3:
            await datastore.cleanup()
            assert datastore.store.staging.names() == []
            await check_promises(datastore, acknowledged)
        await datastore.close("checked")
    assert killed > ROUNDS // 2
    datastore = await box.open()
    await datastore.cleanup()
    needed = {address for name in acknowledged for address in chunks_of(acknowledged[name])}
    assert len(list(datastore.store.iterate())) == len(needed)
    await datastore.close("checked")


@pytest.mark.parametrize("send_again", [False, True])
async def test_a_killed_backup_sends_only_what_is_missing(tmp_path: Path, send_again: bool) -> None:
    box = Box(str(tmp_path / "store"), entropy=os.urandom).create()
    found = 0
    for kill_at in range(8, 60, 6):
        was_killed, said = child(tmp_path / "store", 0, kill_at)
        assert was_killed
        if any(words[0] == "committed" for words in said):
            break
        datastore = await box.open()
        writer = await start(datastore, group=group_of(0), auth_id="root@ibs", use_base=False)
        resumed = writer.session.opened.resumed_chunks
        assert resumed >= found  # what one run delivered, the next ones have
        found = resumed
        if send_again:
            await writer.send(chunks_of(0)[0])
            assert writer.session._ingest.new_chunks == (0 if found else 1)
            found = max(found, 1)
        await datastore.close("killed again")
    assert found > 3
    datastore = await box.open()
    with pytest.raises(NotFoundError):
        await datastore.snapshots.resolve(SnapshotName.parse("host/none"))
    await datastore.close("checked")
