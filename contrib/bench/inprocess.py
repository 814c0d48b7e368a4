"""The same pipelines without TLS, HTTP and a server: one process that writes into a datastore directly.

Run by the bench as a program of its own, for the column "without TLS":

    inprocess.py backup STORE-FOLDER ARCHIVE:PATH
    inprocess.py restore STORE-FOLDER ARCHIVE TARGET

This is the way in which a server backs up its own files.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import trio

from ibs.client.backup.plan import BackupPlan
from ibs.client.backup.run import run_backup
from ibs.client.restore.plan import RestorePlan
from ibs.client.restore.run import run_restore
from ibs.engine.datastores import Datastores, Parts
from ibs.engine.direct import DirectBackupTransport, DirectRestoreTransport
from ibs.ports.catalog import DatastoreRecord
from ibs.runtime.clock import SystemClock
from ibs.runtime.pool import ThreadPool

OWNER = "bench@ibs"
SERVER = str(uuid.UUID(int=1))


class Records:
    """The one datastore, remembered beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._note = folder.with_suffix(".uuid")

    async def list(self) -> list[DatastoreRecord]:
        if not self._note.exists():
            return []
        return [DatastoreRecord("bench", str(self._folder), self._note.read_text())]

    async def add(self, record: DatastoreRecord) -> None:
        self._note.write_text(record.uuid)

    async def update(self, record: DatastoreRecord) -> None:
        self._note.write_text(record.uuid)

    async def remove(self, name: str) -> None:
        raise NotImplementedError(name)


async def main(what: str, store: Path, archive: str, target: str = "") -> None:
    """Open or make the datastore, do the one thing, close it."""
    pool, clock = ThreadPool(), SystemClock()
    parts = Parts(
        pool=pool, clock=clock, publish=lambda _event: None, server_uuid=SERVER, signing_seed=bytes(range(32))
    )
    records = Records(store)
    datastores = Datastores(records, parts)
    await datastores.open_all()
    if not await records.list():
        await datastores.create("bench", str(store))
    try:
        if what == "backup":
            name, _, path = archive.partition(":")
            plan = BackupPlan(
                store="bench", group="host/bench", sources=((name, path),), owner=OWNER, client="in process"
            )
            await run_backup(DirectBackupTransport(datastores.get, OWNER), plan, pool=pool, clock=clock)
        else:
            wish = RestorePlan(store="bench", snapshot="host/bench", archive=archive, target=target)
            transport = DirectRestoreTransport(datastores.get, OWNER, everything=True)
            await run_restore(transport, wish, pool=pool, clock=clock)
    finally:
        await datastores.close()


if __name__ == "__main__":
    trio.run(main, sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
