"""What is locked stays until its time, whoever asks and whichever way it would leave."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from ibs.core import limits_access
from ibs.core.names import Group, Namespace, SnapshotName, format_time
from ibs.core.retention import Policy
from ibs.engine.datastore import Datastore
from ibs.engine.moving import move_group
from ibs.engine.prune import Scope, execute, plan
from ibs.engine.retained import Retained
from ibs.errors import FormatError, RefusedError, UsageError
from ibs.runtime.clock import START, ManualClock
from ibs_tests.support.engine import Box, backup, read, snapshot_of

DAY = 86_400
ROOT, LAW = Namespace(), Namespace.parse("law")


async def made(box: Box, datastore: Datastore, count: int = 1, **options: object) -> list[SnapshotName]:
    names = []
    for number in range(count):
        box.clock.advance(60)
        names.append(snapshot_of(await backup(datastore, {"etc.tree": [b"%d" % number, b"meta"]}, **options)))
    return names


def lock(box: Box, datastore: Datastore, name: SnapshotName, seconds: int) -> None:
    now = box.clock.now()
    datastore.context.retained.lock(name, now + timedelta(seconds=seconds), "root@ibs", now)


async def every_way_out(datastore: Datastore, name: SnapshotName) -> list[str]:
    """What each way of removing a snapshot says; a way that works makes it fail."""
    said = []
    with pytest.raises(RefusedError) as caught:
        await datastore.bin.put(name, "root@ibs")
    said.append(str(caught.value))
    group, away = SnapshotName(name.namespace, name.group), Namespace.parse("away")
    with pytest.raises(RefusedError) as caught:
        await move_group(datastore.context, datastore.bin, group, away, "root@ibs", busy=lambda *_: False)
    said.append(str(caught.value))
    if name.namespace.parts:
        with pytest.raises(RefusedError) as caught:
            await datastore.namespaces.remove(name.namespace, "root@ibs", recursive=True)
        said.append(str(caught.value))
    assert name in await datastore.snapshots.every()
    return said


async def test_a_locked_snapshot_stays_until_its_time(box: Box, datastore: Datastore) -> None:
    (name,) = await made(box, datastore, namespace="law")
    lock(box, datastore, name, 10 * DAY)
    view = await datastore.snapshots.snapshot_view(name)
    assert (view.locked_until, view.locked_by) == (format_time(box.clock.now() + timedelta(days=10)), "root@ibs")
    for said in await every_way_out(datastore, name):
        assert f"snapshot {name} is locked until {view.locked_until} by root@ibs" in said
    datastore = await box.kill(datastore)
    box.clock.advance(10 * DAY - 1)
    await every_way_out(datastore, name)
    box.clock.advance(1)
    assert (await datastore.snapshots.snapshot_view(name)).locked_until == ""
    await datastore.bin.put(name, "root@ibs")


async def test_neither_its_protection_nor_a_lost_state_file_unlocks_it(box: Box, datastore: Datastore) -> None:
    (name,) = await made(box, datastore)
    lock(box, datastore, name, DAY)
    await datastore.snapshots.annotate(name, protected=True)
    await datastore.snapshots.annotate(name, protected=False)
    for state in Path(box.path).rglob("state.json"):
        state.write_bytes(b"torn")
    datastore.context.folders.forget(name)
    await datastore.snapshots.annotate(name, protected=False)
    await every_way_out(datastore, name)


async def test_a_lock_is_made_longer_and_never_shorter(box: Box, datastore: Datastore) -> None:
    (name,) = await made(box, datastore)
    lock(box, datastore, name, DAY)
    with pytest.raises(RefusedError, match=r"is locked until .* already"):
        lock(box, datastore, name, DAY - 1)
    lock(box, datastore, name, 2 * DAY)
    box.clock.advance(DAY + 1)
    await every_way_out(datastore, name)
    for seconds in (0, -1, limits_access.LOCK_SECONDS_MAX + 1):
        with pytest.raises(UsageError, match="not possible"):
            lock(box, datastore, name, seconds)


async def test_prune_leaves_locked_ones_beside_what_its_rules_keep(box: Box, datastore: Datastore) -> None:
    names = await made(box, datastore, 4)
    lock(box, datastore, names[0], DAY)
    await datastore.retention.set(ROOT, Policy(keep_last=2), "root@ibs", more_than_half=True)
    found = await plan(datastore.context, datastore.retention, Scope())
    (group,) = found.groups
    assert [one.rule for one in group.decisions] == ["keep-last", "keep-last", "", "locked"]
    await execute(datastore.context, datastore.bin, found, "root@ibs", lambda *_: None, retention=datastore.retention)
    assert await datastore.snapshots.every() == [names[0], *names[2:]]


async def test_compliance_mode_locks_old_and_new_and_its_end_unlocks_neither(box: Box, datastore: Datastore) -> None:
    (old,) = await made(box, datastore, namespace="law/2026")
    (other,) = await made(box, datastore, group="host/other")
    retained = datastore.context.retained
    retained.set_period(LAW, 10 * DAY, "root@ibs", box.clock.now())
    (new,) = await made(box, datastore, namespace="law/2026")
    for name in (old, new):
        assert "by compliance mode of namespace law" in (await every_way_out(datastore, name))[0]
    box.clock.advance(DAY)
    retained.set_period(LAW, 0, "root@ibs", box.clock.now())
    for name in (old, new):
        await every_way_out(datastore, name)
    (free,) = await made(box, datastore, namespace="law/2026")
    for name in (free, other):
        await datastore.bin.put(name, "root@ibs")
    box.clock.advance(10 * DAY)
    for name in (old, new):
        await datastore.bin.put(name, "root@ibs")


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
async def test_setting_the_clock_does_not_unlock(box: Box, datastore: Datastore, jump: int) -> None:
    (name,) = await made(box, datastore)
    datastore.context.retained.set_period(ROOT, 10 * DAY, "root@ibs", box.clock.now())
    datastore.store.close(clean=True)
    box.clock = ManualClock(START + timedelta(seconds=jump))
    datastore = await box.open()
    assert "the clock of s1 stands still" in (await every_way_out(datastore, name))[0]
    box.clock.advance(11 * DAY)  # nothing expires while it stands still
    await every_way_out(datastore, name)
    assert await read(datastore, str(name), "etc.tree") == [b"0", b"meta"]


async def test_a_record_that_cannot_be_read_locks_everything(box: Box, datastore: Datastore) -> None:
    (name,) = await made(box, datastore)
    lock(box, datastore, name, DAY)
    (Path(box.path) / ".ibs" / "locks.json").write_bytes(b"{torn")
    datastore = await box.kill(datastore)
    with pytest.raises(FormatError, match="locks of datastore s1 cannot be read"):
        await datastore.bin.put(name, "root@ibs")
    assert datastore.context.retained.locked(name)
    assert (await datastore.snapshots.snapshot_view(name)).locked_until == "unknown"
    with pytest.raises(FormatError):
        lock(box, datastore, name, 2 * DAY)


async def test_it_is_made_of_the_stores_own_records_and_clock(datastore: Datastore) -> None:
    assert isinstance(datastore.context.retained, Retained)
    assert datastore.context.retained.record().snapshots == {}
    assert datastore.context.retained.until(SnapshotName(ROOT, Group.parse("host/a"))) is None
