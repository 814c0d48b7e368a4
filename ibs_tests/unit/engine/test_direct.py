"""The transports in process obey what sessions and readers obey."""

from __future__ import annotations

import pytest

from ibs.core import manifest
from ibs.engine.datastore import Datastore
from ibs.engine.direct import DirectBackupTransport, DirectRestoreTransport
from ibs.errors import ConflictError, NotFoundError, RefusedError, SessionLost, UsageError
from ibs.ports.transport import BackupTransport, RestoreTransport
from ibs.wire.session import ArchiveClose, SessionOpen, StageReport
from ibs_tests.support.engine import OTHER, OWNER, Writer, backup, start

REQUEST = SessionOpen(store="s1", group="host/web01", archives=["etc.tree"])


class Desk:
    """Finds one datastore."""

    def __init__(self, datastore: Datastore) -> None:
        self.datastore = datastore

    async def get(self, name: str) -> Datastore:
        if name != "s1":
            raise NotFoundError(name)
        return self.datastore


async def test_a_backup_and_its_restore(datastore: Datastore) -> None:
    desk, reports = Desk(datastore), []

    class Observer:
        async def reported(self, report: StageReport) -> None:
            reports.append(report)

        async def ended(self, status: str, message: str) -> None:
            reports.append(status)

    transport: BackupTransport = DirectBackupTransport(desk.get, OWNER, upid="UPID:1", observer=Observer())
    opened = await transport.open(REQUEST)
    assert opened.upid == "UPID:1"
    helper = Writer(transport.session)  # type: ignore[attr-defined]
    await transport.send([helper.blob(b"data"), helper.blob(b"meta")])
    chunks = [b"data", b"meta"]
    await transport.append("etc.tree", 0, helper.records("etc.tree", chunks))
    closed = await transport.close_archive(
        "etc.tree", ArchiveClose(plain_bytes=8, records=2, root=helper.id(b"meta").hex())
    )
    await helper.close("etc.tree", chunks)
    assert closed.index_digest == helper.archives["etc.tree"].index_digest
    await transport.put_blob("client.log", b"log")
    helper.blobs.append(manifest.ManifestBlob(name="client.log", bytes=3, digest=helper.id(b"log").hex()))
    await transport.report(StageReport(files=1))
    result = await transport.commit(helper.request())
    assert reports == [StageReport(files=1), "OK"]

    restore: RestoreTransport = DirectRestoreTransport(desk.get, OWNER, everything=False)
    read = await restore.open("s1", "host/web01")
    assert read.snapshot == result.snapshot
    assert await restore.file("client.log") == b"log"
    assert await restore.fetch([helper.id(b"meta")]) == [helper.blob(b"meta")]
    await restore.close("WARNING", 1, "one file")
    with pytest.raises(SessionLost):
        await restore.file("client.log")


async def test_the_base_and_resumption_through_the_transport(datastore: Datastore) -> None:
    await backup(datastore, {"etc.tree": [b"data", b"meta"]})
    first = DirectBackupTransport(Desk(datastore).get, OWNER)
    await first.open(REQUEST)
    helper = Writer(first.session)
    await first.send([helper.blob(b"new")])
    await first.abort("stopped")
    second = DirectBackupTransport(Desk(datastore).get, OWNER)
    opened = await second.open(REQUEST)
    assert [base.archive for base in opened.bases] == ["etc.tree"]
    assert await second.resumed_ids() == helper.id(b"new")
    assert await second.base_available("etc.tree") == b"\x03"
    assert len(await second.base_index("etc.tree")) == 336
    assert await second.base_chunk(helper.id(b"meta")) == helper.blob(b"meta")
    await second.suspect([helper.id(b"meta")])
    assert len(datastore.store.unavailable()) == 1
    with pytest.raises(RefusedError):
        await second.append("etc.tree", 0, helper.records("etc.tree", [b"never sent"]))


async def test_what_is_discarded_is_not_offered_again(datastore: Datastore) -> None:
    first = DirectBackupTransport(Desk(datastore).get, OWNER)
    await first.open(REQUEST)
    helper = Writer(first.session)
    await first.send([helper.blob(b"new")])
    await first.discard("the datastore is full")
    await datastore.expire()
    assert list(datastore.store.iterate()) == []
    second = DirectBackupTransport(Desk(datastore).get, OWNER)
    assert (await second.open(REQUEST)).resumed_chunks == 0


async def test_order_of_use(datastore: Datastore) -> None:
    desk = Desk(datastore)
    writer, reader = DirectBackupTransport(desk.get, OWNER), DirectRestoreTransport(desk.get, OWNER, everything=True)
    with pytest.raises(UsageError):
        await writer.send([])
    with pytest.raises(UsageError):
        await reader.fetch([])
    await writer.open(REQUEST)
    with pytest.raises(ConflictError):
        await writer.open(REQUEST)
    await (await start(datastore, group="host/x")).session.abort("x")
    await backup(datastore, {"etc.tree": [b"m"]}, group="host/y")
    await reader.open("s1", "host/y")
    with pytest.raises(ConflictError):
        await reader.open("s1", "host/y")
    with pytest.raises(NotFoundError):
        await DirectRestoreTransport(desk.get, OTHER, everything=False).open("s1", "host/y")
    with pytest.raises(NotFoundError):
        await DirectRestoreTransport(desk.get, OTHER, everything=False).open("s2", "host/y")
