"""Verifications are queued tasks; damage ends them FAILED and names everything; events as the request wants them."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from ibs.core.names import SnapshotName
from ibs.engine.datastore import Datastore
from ibs.errors import DatastoreOffline, IbsError, NotFoundError, ServerUnreachable, UsageError
from ibs.runtime.mailbox import Handle
from ibs.services import verifier
from ibs.services.mending import Mended
from ibs.services.outlook import reports, situation
from ibs.services.taskqueue import TaskQueue
from ibs.services.verifier import StartVerify, Verifier
from ibs.storage.local.layout import chunk_name
from ibs.wire.datastore import VerifyReport, VerifyStart
from ibs_tests.support.engine import address_of, backup
from ibs_tests.unit.services.conftest import House


def furnish(house: House) -> Handle:
    queue = TaskQueue("verifier slot", slots=1)
    return house.add(
        "verifier",
        lambda seat: Verifier(seat, queue, house.tasks, house.datastores, clock=house.clock, publish=house.publish),
    )


async def verify(house: House, handle: Handle, **wanted: Any) -> str:
    """Start and wait for the end."""
    upid = await handle.ask(StartVerify("root@ibs", "s1", VerifyStart(**wanted)))
    while not (await house.tasks.get(upid)).ended:
        await trio.sleep(1)
    return upid


async def last_verifications(house: House) -> list[VerifyReport]:
    return await reports(house.datastores, await situation(house.tasks, None, house.clock.now(), None))


def spoil(house: House, data: bytes) -> None:
    name = chunk_name(address_of(data))
    path = Path(house.catalog.state.parent) / "s1" / "chunks" / name[:4] / name
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)


async def furnished(house: House) -> tuple[Datastore, Handle]:
    store = await house.make_store()
    await backup(store, {"etc.tree": [b"shared", b"one", b"root1"]})
    await backup(store, {"etc.tree": [b"shared", b"two", b"root2"]}, group="host/web02")
    return store, furnish(house)


async def test_a_sound_datastore_is_told_only_when_wanted(house: House, autojump_clock: MockClock) -> None:
    _, handle = await furnished(house)
    async with house.running():
        upid = await verify(house, handle)
        task = await house.tasks.get(upid)
        assert (task.state, task.type, task.id) == ("OK", "verify", "s1")
        assert task.message.startswith("2 snapshots in s1 verified OK: 6 chunks")
        assert task.stages["verify"].items == 6
        log = await house.log(upid)
        assert sum("OK, 3 chunks" in line for line in log) == 2
        assert "proven: presence, stored digest, content id, signature" in log[0]
        assert not [kind for kind in house.kinds() if kind.startswith("verify.")]
        await verify(house, handle, notification_mode="always")
        assert [kind for kind in house.kinds() if kind.startswith("verify.")] == ["verify.ok"]


async def test_damage_names_every_affected_snapshot_and_fails_the_task(house: House, autojump_clock: MockClock) -> None:
    _, handle = await furnished(house)
    spoil(house, b"shared")
    async with house.running():
        upid = await verify(house, handle)
        task = await house.tasks.get(upid)
        assert task.state == "FAILED"
        assert task.message.startswith("2 of 2 snapshots in s1 are damaged; the first is host/web01/")
        log = "\n".join(await house.log(upid))
        assert address_of(b"shared").id.hex() in log
        assert "snapshot affected: host/web01/" in log
        assert "snapshot affected: host/web02/" in log
        assert "verify.damaged" in house.kinds()
        found = await last_verifications(house)
        assert [report.result for report in found] == ["CORRUPT", "CORRUPT"]
        assert {report.upid for report in found} == {upid}


async def test_mode_never_tells_nothing_of_its_own(house: House, autojump_clock: MockClock) -> None:
    _, handle = await furnished(house)
    spoil(house, b"two")
    async with house.running():
        upid = await verify(house, handle, notification_mode="never", snapshot="host/web02")
        assert (await house.tasks.get(upid)).message.startswith("1 of 1 snapshots")
        assert "verify.damaged" not in house.kinds()


async def test_one_snapshot_or_one_namespace(house: House, autojump_clock: MockClock) -> None:
    store, handle = await furnished(house)
    await backup(store, {"etc.tree": [b"three", b"root3"]}, namespace="a/b")
    async with house.running():
        one = await house.tasks.get(await verify(house, handle, snapshot="host/web02"))
        assert one.message.startswith("1 snapshots in s1")
        assert one.id.startswith("s1:host/web02/20")
        space = await house.tasks.get(await verify(house, handle, namespace="a/b"))
        assert (space.id, space.message[:11]) == ("s1:ns:a/b", "1 snapshots")
        assert len(await last_verifications(house)) == 2


async def test_requests_that_make_no_sense_start_nothing(house: House, autojump_clock: MockClock) -> None:
    _, handle = await furnished(house)
    async with house.running():
        with pytest.raises(UsageError, match="notification mode 'loud'"):
            await handle.ask(StartVerify("root@ibs", "s1", VerifyStart(notification_mode="loud")))
        with pytest.raises(NotFoundError):
            await handle.ask(StartVerify("root@ibs", "s1", VerifyStart(snapshot="host/nobody")))
        with pytest.raises(NotFoundError):
            await handle.ask(StartVerify("root@ibs", "s9", VerifyStart()))
    assert await house.tasks.list() == []


async def test_a_datastore_that_goes_away_fails_the_task_and_says_nothing_of_the_data(
    house: House, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, handle = await furnished(house)

    async def unplugged(*_args: Any, **_more: Any) -> None:
        raise DatastoreOffline("s1", "unplugged")

    monkeypatch.setattr(verifier, "verify_snapshot", unplugged)
    async with house.running():
        upid = await verify(house, handle)
        assert (await house.tasks.get(upid)).state == "FAILED"
        assert "verify.aborted" in house.kinds()
        assert "verify.damaged" not in house.kinds()


async def test_killing_the_verifier_leaves_the_rest_of_the_house_alone(house: House, autojump_clock: MockClock) -> None:
    _, handle = await furnished(house)
    async with house.running():
        await house.kill("verifier")
        assert (await house.tasks.get(await verify(house, handle))).state == "OK"


class Elsewhere:
    """A remote that mends what it has, or cannot be reached."""

    def __init__(self, whole: dict[bytes, bytes], error: IbsError | None = None) -> None:
        self.whole, self.error = whole, error
        self.asked: list[str] = []

    async def each(self, datastore: Datastore, repair_from: str, auth_id: str, stack: AsyncExitStack) -> Any:
        assert (repair_from, auth_id) == ("site-b:replica", "root@ibs")
        if self.error is not None:
            raise self.error

        async def mend_one(name: SnapshotName) -> Mended:
            self.asked.append(str(name))
            for data, blob in self.whole.items():
                datastore.store.put(address_of(data), blob)
            return Mended(chunks=len(self.whole))

        return mend_one


def furnish_with(house: House, mending: Any) -> Handle:
    queue = TaskQueue("verifier slot", slots=1)
    clock, publish = house.clock, house.publish
    return house.add(
        "verifier",
        lambda seat: Verifier(
            seat, queue, house.tasks, house.datastores, clock=clock, publish=publish, mending=mending
        ),
    )


async def test_what_is_found_is_mended_and_verified_again(house: House, autojump_clock: MockClock) -> None:
    datastore = await house.make_store()
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    other = await backup(datastore, {"etc.tree": [b"data", b"m2"]}, group="host/other")
    elsewhere = Elsewhere({b"data": datastore.store.get(address_of(b"data"))})
    handle = furnish_with(house, elsewhere)
    async with house.running():
        spoil(house, b"data")
        upid = await verify(house, handle, snapshot=other.snapshot, verify_window_days=0, repair_from="site-b:replica")
        assert (await house.tasks.get(upid)).state == "OK"
        assert len(elsewhere.asked) == 2, "whom else it hurts is mended, too"
        assert [report.result for report in await last_verifications(house)] == ["OK", "OK"]
        assert "verify.damaged" not in house.kinds()


async def test_damage_is_told_also_when_nothing_can_be_mended(house: House, autojump_clock: MockClock) -> None:
    datastore = await house.make_store()
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    handle = furnish_with(house, Elsewhere({}, ServerUnreachable("site-b cannot be reached", hint="is it on?")))
    async with house.running():
        spoil(house, b"data")
        upid = await verify(house, handle, verify_window_days=0, repair_from="site-b:replica")
        task = await house.tasks.get(upid)
        assert task.state == "FAILED"
        assert "1 of 1 snapshots in s1 are damaged" in task.message
        assert "verify.damaged" in house.kinds()
        assert "site-b cannot be reached" in str(await house.log(upid))
