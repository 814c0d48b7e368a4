"""The chunk index's SQLite on the simulated disk: the real library in memory, its content kept by a file of the disk.

What a kill leaves is every commit; what a power cut leaves is the last durable commit or the last one. A full disk
refuses commits as SQLite does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

from ibs_tests.sim.disk import File
from ibs_tests.sim.face import Overlay, SimOs

ROOM_BYTES = 1024
"""What a commit needs."""


class Connection(sqlite3.Connection):
    """A connection whose commits reach the file. `machine` None: an index without a file."""

    file: File | None = None
    path = ""
    machine: SimOs | None = None
    durably = False

    def execute(self, sql: str, *args: Any) -> Any:  # type: ignore[override]
        if self.file is None:
            return super().execute(sql, *args)
        if sql == "PRAGMA database_list":
            return super().execute("SELECT 0, 'main', ?", (self.path,))
        if sql == "PRAGMA synchronous=FULL":
            self.durably = True
        elif sql == "PRAGMA synchronous=NORMAL":
            self.durably = False
        elif sql == "COMMIT":
            return self._commit()
        elif sql.startswith("BEGIN"):
            assert self.machine is not None
            self.machine.step("begin", "chunks.db")
        return super().execute(sql, *args)

    def _commit(self) -> Any:
        assert self.machine is not None
        assert self.file is not None
        self.machine.step("commit", "chunks.db")
        if self.machine.disk.free < ROOM_BYTES:
            self.machine.disk.faults["ENOSPC in the index"] += 1
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            full.sqlite_errorname = "SQLITE_FULL"
            raise full
        done = super().execute("COMMIT")
        if self.durably:
            self.file.image = self.file.image_synced = self.serialize()
        return done

    def leave(self) -> None:
        """The process dies: what was committed is in the page cache."""
        if self.file is not None:
            if self.in_transaction:
                super().execute("ROLLBACK")
            self.file.image = self.serialize()
            if self.machine is not None:
                self.machine.disk.image_changed(self.file)
            self.file = None
        super().close()

    def close(self) -> None:
        if self.file is not None and self.machine is not None:
            self.machine.step("close", "chunks.db")
        self.leave()


def sqlite_on(machine: SimOs, opened: list[Connection]) -> Any:
    """What `chunkdb` sees as `sqlite3`. Connections are added to `opened`, for whoever kills the process."""

    def connect(path: str, **options: Any) -> Connection:
        connection = sqlite3.connect(":memory:", factory=Connection, isolation_level=None, check_same_thread=False)
        if path:
            folder, name = machine.place(path)
            node = folder.entries.get(name)
            if node is None:
                machine.step("open", "chunks.db")
                node = machine.disk.new_file()
                machine.disk.change((folder, name, node))
            assert isinstance(node, File)
            if node.image:
                connection.deserialize(node.image)
            connection.file, connection.path, connection.machine = node, path, machine
            opened.append(connection)
        return connection

    return Overlay(sqlite3, connect=connect)


Connector = Callable[..., Connection]
