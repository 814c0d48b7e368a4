"""The server's state: `state.db` behind small tables, and the lock that keeps it with one server.

Opened by `app` (and by tests); `engine`, `security` and `services` get its tables handed in.
"""

from __future__ import annotations

import fcntl
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ibs.catalog.access import AccessTable
from ibs.catalog.database import Database, open_database
from ibs.catalog.datastores import DatastoreTable
from ibs.catalog.hosts import HostTable
from ibs.catalog.inbox import InboxTable
from ibs.catalog.jobs import JobTable
from ibs.catalog.keys import KeyTable
from ibs.catalog.migrations import migrate
from ibs.catalog.notifications import NotificationTable
from ibs.catalog.queue import QueueTable
from ibs.catalog.remotes import RemoteTable
from ibs.catalog.settings import Settings
from ibs.catalog.syncjobs import SyncJobTable
from ibs.catalog.tasks import TaskTable
from ibs.catalog.timetable import TimetableTable
from ibs.errors import BusyError, FailedError


@dataclass(frozen=True, slots=True)
class Catalog:
    """All tables of the state in the folder `state`. `server_uuid` was drawn when the state was made."""

    state: Path
    server_uuid: str
    database: Database
    settings: Settings
    datastores: DatastoreTable
    tasks: TaskTable
    access: AccessTable
    inbox: InboxTable
    timetable: TimetableTable
    hosts: HostTable
    jobs: JobTable
    queue: QueueTable
    notifications: NotificationTable
    keys: KeyTable
    remotes: RemoteTable
    sync_jobs: SyncJobTable


@asynccontextmanager
async def open_catalog(state: Path, *, inline: bool = False) -> AsyncIterator[Catalog]:
    """Open the state folder, making it (0700) and its schema where needed; `inline` for the simulator.

    Raises BusyError when another server has it, ConflictError when a newer program wrote it, FailedError, NoSpace.
    """
    with _held(state):
        async with open_database(state / "state.db", inline=inline) as database:
            await database.write(migrate)
            settings = Settings(database)
            yield Catalog(
                state=state,
                server_uuid=await settings.ensure("server-uuid", str(uuid.uuid4())),
                database=database,
                settings=settings,
                datastores=DatastoreTable(database),
                tasks=TaskTable(database),
                access=AccessTable(database),
                inbox=InboxTable(database),
                timetable=TimetableTable(database),
                hosts=HostTable(database),
                jobs=JobTable(database),
                queue=QueueTable(database),
                notifications=NotificationTable(database),
                keys=KeyTable(database),
                remotes=RemoteTable(database),
                sync_jobs=SyncJobTable(database),
            )


@contextmanager
def _held(state: Path) -> Iterator[None]:
    """The state folder, locked. The lock ends with the process, however that ends."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(state / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        hint = "check the folder's owner and its file system, or give another with --state-dir"
        raise FailedError(f"cannot use the state folder {state}: {error.strerror}", hint=hint) from error
    try:
        _lock(descriptor, state)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, state: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise BusyError(
            f"the state folder {state} is in use by another server (pid {holder})",
            hint="stop that server, or give this one its own --state-dir",
        ) from error
    with suppress(OSError):  # only for people to read; a full disk must not keep the server from starting
        os.pwrite(descriptor, f"{os.getpid():<15}\n".encode(), 0)
