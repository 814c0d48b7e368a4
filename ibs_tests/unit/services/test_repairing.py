"""A repair of a whole side: each snapshot is verified in full, mended where it can be, and counted truly."""

from __future__ import annotations

from typing import Any

import pytest

from ibs.core.tasks import TaskType
from ibs.engine.task import Task
from ibs.errors import ConflictError, FailedError, NotFoundError, ServerUnreachable
from ibs.ports.chunkstore import PLAIN_DOMAIN, Address
from ibs.runtime.pool import InlinePool
from ibs.services import repairing
from ibs.services.mending import Mended, Origin
from ibs.services.repairing import Repair, rebuild
from ibs_tests.support.engine import address_of, backup, snapshot_of
from ibs_tests.unit.services.conftest import House

ORIGIN: Any = Origin(None, "site-b", "replica", bytes(32))  # type: ignore[arg-type]


async def started(house: House) -> Task:
    return await house.tasks.start(TaskType.REPAIR, "s1:sync", "root@ibs")


async def test_sound_mended_and_lost_are_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore = await house.make_store()
    names = []
    for group in ("sound", "hurt", "lost", "far"):
        content = {"a.tree": [group.encode(), b"m" + group.encode()]}
        names.append(snapshot_of(await backup(datastore, content, group=f"host/{group}")))
    blobs = {}
    for group in ("hurt", "lost", "far"):
        address = address_of(group.encode())
        blobs[address] = datastore.store.get(address)
        datastore.store.mark_bad(address)

    async def mend(_store: Any, name: Any, *_rest: Any) -> Mended:
        if name == names[2]:
            raise ConflictError("another one there", hint="look")
        address = address_of(b"hurt")
        datastore.store.put(address, blobs[address])
        return Mended(chunks=1, bytes=len(blobs[address]))

    monkeypatch.setattr(repairing, "mend", mend)
    task = await started(house)
    repair = Repair(task, datastore, ORIGIN, InlinePool())
    for name in names:
        await repair.compare(name, there=name != names[3])
    assert repair.mended == 1
    with pytest.raises(FailedError) as caught:
        repair.conclude()
    assert "4 snapshots compared: 1 sound, 1 mended (0 files and 1 chunks" in caught.value.message
    assert f"2 are damaged still, first {names[2]}" in caught.value.message


async def test_one_that_is_still_bad_afterwards_is_not_called_mended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    datastore = await house.make_store()
    name = snapshot_of(await backup(datastore, {"a.tree": [b"x", b"m"]}))
    datastore.store.mark_bad(address_of(b"x"))

    async def mend(*_: Any) -> Mended:
        return Mended(left=[Address(PLAIN_DOMAIN, bytes(32))])

    monkeypatch.setattr(repairing, "mend", mend)
    repair = Repair(await started(house), datastore, ORIGIN, InlinePool())
    assert not await repair.mend(name)
    assert repair.mended == 0
    with pytest.raises(FailedError):
        repair.conclude()


async def test_what_concerns_all_ends_it(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    datastore = await house.make_store()
    name = snapshot_of(await backup(datastore, {"a.tree": [b"x", b"m"]}))
    datastore.store.mark_bad(address_of(b"x"))

    async def mend(*_: Any) -> Mended:
        raise ServerUnreachable("gone", hint="wait")

    monkeypatch.setattr(repairing, "mend", mend)
    with pytest.raises(ServerUnreachable):
        await Repair(await started(house), datastore, ORIGIN, InlinePool()).compare(name, there=True)


async def test_nothing_wrong_is_said_so(house: House) -> None:
    datastore = await house.make_store()
    name = snapshot_of(await backup(datastore, {"a.tree": [b"x", b"m"]}))
    task = await started(house)
    await rebuild(task, house.datastores, "s1")
    repair = Repair(task, datastore, ORIGIN, InlinePool())
    await repair.compare(name, there=True)
    assert repair.conclude().startswith("1 snapshots compared: 1 sound, 0 mended")
    await datastore.bin.put(name, "root@ibs", "")
    with pytest.raises(NotFoundError):
        await datastore.snapshots.resolve(name)
    await repair.compare(name, there=True)  # removed meanwhile: nobody's trouble
    assert repair.conclude().startswith("1 snapshots compared")
