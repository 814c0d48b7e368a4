"""The server's SQLite database on trio: one writing connection, a few readers, each transaction one function.

Used by `catalog` only (its repositories and `Catalog`). aiosqlite gives the worker thread and the queue; it is made for
asyncio, so `TrioConnection` replaces the three methods that touch a loop with ones whose futures are trio's. Those
methods and two names are private in aiosqlite: its version is pinned to 0.22 and `test_database.py` checks them.

Invariants: a transaction is one function that runs whole in the connection's thread, so no task can slip a statement
into another's transaction; a started one is never abandoned: a cancelled task waits for its end first.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import aiosqlite
import aiosqlite.core
import outcome
import trio

from ibs.core import limits
from ibs.errors import BusyError, FailedError, IbsError, NoSpace, UnavailableError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], T]


class TrioFuture:
    """What aiosqlite's worker thread needs of a future, with a trio task waiting on it."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._task: trio.lowlevel.Task | None = None
        self._outcome: outcome.Outcome[Any] | None = None

    def get_loop(self) -> TrioFuture:
        """aiosqlite calls `future.get_loop().call_soon_threadsafe(…)`."""
        return self

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: object) -> None:
        """From the worker thread: run `callback` in trio's."""
        with suppress(trio.RunFinishedError):  # nobody is left to wait: the connection was collected after the run
            self._token.run_sync_soon(callback, *args)

    def done(self) -> bool:
        return self._outcome is not None

    def set_result(self, result: Any) -> None:
        self._settle(outcome.Value(result))

    def set_exception(self, error: BaseException) -> None:
        self._settle(outcome.Error(error))

    def _settle(self, result: outcome.Outcome[Any]) -> None:
        self._outcome = result
        if self._task is not None:
            task, self._task = self._task, None
            trio.lowlevel.reschedule(task)

    async def wait(self) -> Any:
        """The result. *Cancellation*: not here; a running statement is never abandoned."""
        if self._outcome is None:
            self._task = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(lambda _raise_cancel: trio.lowlevel.Abort.FAILED)
        assert self._outcome is not None  # noqa: S101 - only `_settle` reschedules
        return self._outcome.unwrap()

    def __await__(self) -> Generator[Any, None, Any]:
        return self.wait().__await__()


class TrioConnection(aiosqlite.Connection):
    """aiosqlite's connection without an asyncio loop."""

    def __init__(self, connector: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connector, 64)
        # A program that dies without closing must not hang at exit; SQLite survives being cut off.
        self._thread.daemon = True

    async def _execute(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._running or self._connection is None:
            raise ValueError("the database is closed")
        future = TrioFuture()
        self._enqueue(future, partial(fn, *args, **kwargs))
        return await future

    async def _connect(self) -> TrioConnection:
        if self._connection is None:
            future = TrioFuture()
            self._enqueue(future, self._connector)
            try:
                self._connection = await future
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> Any:
        """End the worker thread after what is queued."""
        self._running = False
        try:
            future = TrioFuture()
        except RuntimeError:
            future = None  # collected outside of a trio run
        self._enqueue(future, self._close_and_stop)
        return future

    def _close_and_stop(self) -> object:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        return aiosqlite.core._STOP_RUNNING_SENTINEL  # noqa: SLF001 - pinned and tested, see the module's docstring

    def _enqueue(self, future: TrioFuture | None, work: Callable[[], Any]) -> None:
        cast("Any", self._tx).put_nowait((future, work))

    async def run(self, work: Work[T]) -> T:
        """Call `work` with the raw connection, in the connection's thread: one hop for any number of statements."""
        return cast("T", await self._execute(lambda: work(self._conn)))


class _Lane(Protocol):
    """One connection: threaded in the server, inline in the simulator."""

    async def run(self, work: Work[T]) -> T: ...

    async def close(self) -> None: ...


class _InlineLane:
    """A connection used in the calling thread, so that simulated runs repeat exactly."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def run(self, work: Work[T]) -> T:
        await trio.lowlevel.checkpoint()
        return work(self._connection)

    async def close(self) -> None:
        self._connection.close()


class Database:
    """One SQLite file with a single writer and `STATE_READERS` readers. Make it with `open_database`."""

    def __init__(self, path: Path, writer: _Lane, readers: list[_Lane]) -> None:
        self.path = path
        self._writer = writer
        self._writing = trio.Lock()
        self._idle, self._readers = list(readers), readers
        self._free = trio.Semaphore(len(readers))
        self._closed = False

    async def write(self, work: Work[T]) -> T:
        """Run `work` as one transaction and return its result.

        *Durability*: committed and on disk when this returns; rolled back when `work` raises. *Cancellation*: while
        waiting for the turn nothing has happened; once started it finishes, and the cancellation follows.
        Raises NoSpace, BusyError (another process holds the file), FailedError.
        """
        async with self._writing:
            self._refuse_closed()
            return await self._writer.run(partial(_in_transaction, self.path, "IMMEDIATE", work))

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent state of the database. Raises BusyError, FailedError."""
        async with self._free:
            self._refuse_closed()
            lane = self._idle.pop()
            try:
                return await lane.run(partial(_in_transaction, self.path, "DEFERRED", work))
            finally:
                self._idle.append(lane)

    async def close(self) -> None:
        """Finish what runs and close the file. *Cancellation*: shielded."""
        with trio.CancelScope(shield=True):
            async with self._writing:
                self._closed = True
                for lane in self._readers:
                    await lane.close()
                await self._writer.close()

    def _refuse_closed(self) -> None:
        if self._closed:
            raise UnavailableError("the server is stopping", hint="try again when it is up")


@asynccontextmanager
async def open_database(path: Path, *, inline: bool = False) -> AsyncIterator[Database]:
    """Open (or create, mode 0600) the database at `path`; `inline` runs without threads, for the simulator.

    Raises FailedError when the file is no database, NoSpace, BusyError.
    """
    _create_private(path)
    lanes: list[_Lane] = []
    try:
        with translated(path):
            for writing in (True, *(False for _ in range(limits.STATE_READERS))):
                lanes.append(await _open_lane(path, writing=writing, inline=inline))
        database = Database(path, lanes[0], lanes[1:])
    except BaseException:
        with trio.CancelScope(shield=True):
            for lane in lanes:
                await lane.close()
        raise
    try:
        yield database
    finally:
        await database.close()


async def _open_lane(path: Path, *, writing: bool, inline: bool) -> _Lane:
    connector = partial(_connect, path, writing=writing)
    if inline:
        return _InlineLane(connector())
    return cast("_Lane", await TrioConnection(connector))


def _connect(path: Path, *, writing: bool) -> sqlite3.Connection:
    """One connection, in the thread that will use it. Transactions are ours: Python's implicit ones are off."""
    connection = sqlite3.connect(path, timeout=limits.STATE_BUSY_SECONDS_MAX, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        if not writing:
            connection.execute("PRAGMA query_only = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _create_private(path: Path) -> None:
    """The file exists and only its owner may read it; SQLite gives its journal files the same mode."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        path.chmod(0o600)
    except OSError as error:
        raise FailedError(f"cannot open {path}: {error.strerror}", hint="check the state folder's owner") from error


def _in_transaction(path: Path, mode: str, work: Work[T], connection: sqlite3.Connection) -> T:
    with translated(path):
        connection.execute(f"BEGIN {mode}")
        try:
            result = work(connection)
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return result


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _translate(path, error) from error


def _translate(path: Path, error: sqlite3.Error) -> IbsError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return NoSpace(str(path.parent), "bytes")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BusyError(f"the database {path} is in use by another program", hint="try again in a moment")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return FailedError(
            f"the database {path} is damaged: {error}",
            hint="stop the server and bring the file back from a backup of the state folder",
        )
    return FailedError(f"the database {path} failed: {error}", hint="see the api log; check the disk below it")
