"""Desks: how the control plane reaches the write sessions and readers of all datastores, each shown as a task.

Made by `app`, used through `ServerContext`. The rules are those of the engine's tables; here a session is only found
among the datastores, and its life is told as a task: started before it opens, ended with it, stopped through it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from ibs.core import limits
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.core.tasks import TaskState, TaskType
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.engine.readers import Reader
from ibs.engine.session.session import WriteSession
from ibs.engine.task import Task
from ibs.engine.tasks import TaskRegistry
from ibs.errors import IbsError, SessionLost, UsageError
from ibs.wire.reader import ReaderClose, ReaderOpen, ReaderOpened
from ibs.wire.session import CommitRequest, CommitResult, SessionOpen, SessionOpened, StageReport

Spawn = Callable[[Callable[[], Awaitable[object]]], None]
"""Run this in the background, for as long as the server lives."""
Admit = Callable[[], None]
"""Raises UnavailableError when the server takes nothing new."""
NoteCommit = Callable[[str, str], None]
"""uuid of a datastore, name of a snapshot that was made in it."""
S = TypeVar("S")

_CANCELLED = "cancelled"
_STOPPED = "stopped on request"


class _Places(Generic[S]):
    """In which datastore a session was opened. A hint only: a miss is looked for everywhere."""

    def __init__(self, datastores: Datastores, find: Callable[[Datastore, str, str], S]) -> None:
        self._datastores = datastores
        self._find = find
        self._hints: OrderedDict[str, Datastore] = OrderedDict()

    def note(self, number: str, datastore: Datastore) -> None:
        self._hints[number] = datastore
        while len(self._hints) > limits.SESSION_HINTS_MAX:
            self._hints.popitem(last=False)

    def get(self, number: str, auth_id: str) -> S:
        """Raises SessionLost with the exact reason where there is one."""
        hint = self._hints.get(number)
        if hint is not None:
            return self._find(hint, number, auth_id)
        lost = SessionLost("there is no such session")
        for datastore in self._datastores.opened():
            try:
                return self._find(datastore, number, auth_id)
            except SessionLost as error:
                lost = error
        raise lost


class Sessions:
    """Write sessions of all datastores. Implements `services.context.SessionDesk`."""

    def __init__(
        self, datastores: Datastores, tasks: TaskRegistry, *, admit: Admit, spawn: Spawn, note_commit: NoteCommit
    ) -> None:
        self._admit = admit
        self._datastores = datastores
        self._tasks = tasks
        self._spawn = spawn
        self._note_commit = note_commit
        self._places: _Places[WriteSession] = _Places(datastores, _find_session)

    async def open(self, store: str, auth_id: str, request: SessionOpen) -> SessionOpened:
        """Open a session and its task. The caller has checked Datastore.Backup on the namespace.

        Raises what `SessionTable.open` does; the task then ends FAILED with the reason.
        """
        self._admit()
        if request.store != store:
            raise UsageError(f"the request is for datastore {request.store!r}, its path names {store!r}")
        datastore = await self._datastores.get(store)
        name = SnapshotName(Namespace.parse(request.namespace), Group.parse(request.group))
        task = await self._tasks.start(TaskType.BACKUP, f"{store}:{name}", auth_id, state=TaskState.STARTING)
        observer = _Observed(task, lambda snapshot: self._note_commit(datastore.uuid, snapshot))
        try:
            session = await datastore.sessions.open(auth_id, request, upid=task.upid, observer=observer)
        except BaseException as error:
            await _fail(task, error)
            raise
        task.advance(TaskState.RUNNING)
        _describe(task, session, request)
        self._places.note(session.session_id, datastore)
        task.on_stop(lambda: self._spawn(lambda: session.interrupt(_STOPPED, status="CANCELLED")))
        return session.opened

    async def attach(
        self, task: Task, store: str, auth_id: str, request: SessionOpen, ended: Callable[[str, str], None]
    ) -> WriteSession:
        """Open a session for a task that runs already and ends by other means; `ended` is told the session's end.

        The caller has checked that `auth_id` may. Raises what `SessionTable.open` does.
        """
        self._admit()
        datastore = await self._datastores.get(store)
        observer = _Attached(task, lambda snapshot: self._note_commit(datastore.uuid, snapshot), ended)
        session = await datastore.sessions.open(auth_id, request, upid=task.upid, observer=observer)
        _describe(task, session, request)
        self._places.note(session.session_id, datastore)
        return session

    def get(self, session_id: str, auth_id: str) -> WriteSession:
        """Raises SessionLost for one that ended, never was, or belongs to somebody else."""
        return self._places.get(session_id, auth_id)

    async def commit(self, session_id: str, auth_id: str, request: CommitRequest) -> CommitResult:
        """Durable when it returns; a repetition gets the same answer, also after a restart of the server.

        Raises SessionLost and what `WriteSession.commit` does.
        """
        try:
            session = self.get(session_id, auth_id)
        except SessionLost as lost:
            for datastore in self._datastores.opened():
                try:
                    return await datastore.sessions.commit(session_id, auth_id, request)
                except SessionLost:
                    continue
            raise lost from None
        return await session.commit(request)


class _Observed:
    """A write session seen as its task (engine.session.facts.SessionObserver)."""

    def __init__(self, task: Task, committed: Callable[[str], None]) -> None:
        self._task = task
        self._committed = committed

    async def reported(self, report: StageReport) -> None:
        await self._task.reported(report)

    async def ended(self, status: str, message: str) -> None:
        state = TaskState(status)
        if state in (TaskState.OK, TaskState.WARNING):
            self._committed(message.removeprefix("snapshot "))
        elif state is TaskState.CANCELLED and message not in (_STOPPED, _CANCELLED):
            # A client gives up for a reason it states; only a person's wish is a cancellation.
            state = TaskState.FAILED
        await self._task.finish(state, message)


class _Attached:
    """A write session whose figures and lines are the task's, and whose end is somebody else's to judge."""

    def __init__(self, task: Task, committed: Callable[[str], None], ended: Callable[[str, str], None]) -> None:
        self._task = task
        self._committed = committed
        self._ended = ended

    async def reported(self, report: StageReport) -> None:
        await self._task.reported(report)

    async def ended(self, status: str, message: str) -> None:
        if TaskState(status) in (TaskState.OK, TaskState.WARNING):
            self._committed(message.removeprefix("snapshot "))
        self._ended(status, message)


class Readers:
    """Readers of all datastores. Implements `services.context.ReaderDesk`."""

    def __init__(self, datastores: Datastores, tasks: TaskRegistry, *, admit: Admit, spawn: Spawn) -> None:
        self._admit = admit
        self._datastores = datastores
        self._tasks = tasks
        self._spawn = spawn
        self._places: _Places[Reader] = _Places(datastores, _find_reader)

    async def open(self, store: str, auth_id: str, request: ReaderOpen, *, everything: bool) -> ReaderOpened:
        """Open a reader and its task; without `everything` only on groups the identity owns.

        Raises what `ReaderTable.open` does; the task then ends FAILED with the reason.
        """
        self._admit()
        datastore = await self._datastores.get(store)
        name = SnapshotName.parse(request.snapshot, Namespace.parse(request.namespace))
        task = await self._tasks.start(TaskType.RESTORE, f"{store}:{name}", auth_id, state=TaskState.STARTING)
        try:
            reader = await datastore.readers.open(
                auth_id, request, everything=everything, upid=task.upid, observer=_Read(task)
            )
        except BaseException as error:
            await _fail(task, error)
            raise
        task.advance(TaskState.RUNNING)
        task.log("info", f"reading snapshot {reader.opened.snapshot} ({request.purpose})")
        self._places.note(reader.reader_id, datastore)
        stopped = ReaderClose(status="CANCELLED", message=_STOPPED)
        task.on_stop(lambda: self._spawn(lambda: datastore.readers.close_reader(reader.reader_id, auth_id, stopped)))
        return reader.opened

    def get(self, reader_id: str, auth_id: str) -> Reader:
        """Raises SessionLost for one that ended, never was, or belongs to somebody else."""
        return self._places.get(reader_id, auth_id)

    async def close(self, reader_id: str, auth_id: str, request: ReaderClose) -> None:
        """End the read lease and the task. Raises UsageError, SessionLost."""
        if request.status not in {state.value for state in TaskState if state.ended}:
            raise UsageError(f"status {request.status!r} is not known", hint="use OK, WARNING, FAILED or CANCELLED")
        upid = self.get(reader_id, auth_id).opened.upid
        for task in self._tasks.open_tasks():
            if task.upid == upid:
                task.note_stages(request.stages)
        for datastore in self._datastores.opened():
            try:
                await datastore.readers.close_reader(reader_id, auth_id, request)
            except SessionLost:
                continue
            return


class _Read:
    """A reader seen as its task (engine.readers.ReaderObserver)."""

    def __init__(self, task: Task) -> None:
        self._task = task

    async def fetched(self, chunks: int, stored_bytes: int) -> None:  # noqa: ARG002 - the observer's interface
        self._task.progress(done_bytes=self._task.record.figures.done_bytes + stored_bytes)

    async def ended(self, status: str, warnings: int, message: str) -> None:
        await self._task.finish(TaskState(status), message, warnings=warnings)


def _find_session(datastore: Datastore, session_id: str, auth_id: str) -> WriteSession:
    return datastore.sessions.get(session_id, auth_id)


def _find_reader(datastore: Datastore, reader_id: str, auth_id: str) -> Reader:
    return datastore.readers.get(reader_id, auth_id)


def _describe(task: Task, session: WriteSession, request: SessionOpen) -> None:
    opened = session.opened
    task.log("info", f"backup to {opened.snapshot} by {request.client_version or 'an unnamed client'}")
    for base in opened.bases:
        task.log("info", f"{base.archive}: builds on {base.snapshot}, {base.records} chunks known")
    if opened.resumed_chunks:
        task.log("info", f"an interrupted backup left {opened.resumed_chunks} chunks that need not be sent again")


async def _fail(task: Task, error: BaseException) -> None:
    """The session could not be opened: its task says why. A cancelled request leaves a cancelled task."""
    if isinstance(error, IbsError):
        await task.finish(TaskState.FAILED, error.message)
    elif isinstance(error, Exception):
        await task.finish(TaskState.FAILED, f"internal error ({type(error).__name__}); the api log has the details")
    else:
        await task.finish(TaskState.CANCELLED, "the client went away")
