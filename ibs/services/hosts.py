"""The hosts of this server: who can be heard, and backups that are made on them as tasks of this server.

Made by `app`; asked by the routes (of administrators, and of agents), by the worker (`run`), and by whoever shows how
hosts are. Invariants: an agent reaches a task only while that was given to it, and of a datastore only the group of
that task; one task has one write session at a time; an agent that is not heard for `grace_seconds` loses its tasks,
those of other hosts go on. Everything belongs to the trio thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Protocol

import trio

from ibs.catalog.hosts import HostRecord
from ibs.client.failures import error_from_body
from ibs.core import limits
from ibs.core.events import Event, EventSource, Severity
from ibs.core.names import format_time, parse_source
from ibs.core.tasks import TaskState
from ibs.engine.session.session import WriteSession
from ibs.errors import (
    CancelledError,
    ConflictError,
    FailedError,
    IbsError,
    NotFoundError,
    RefusedError,
    SourceUnreachable,
    UnavailableError,
    UsageError,
)
from ibs.log import get_logger
from ibs.ports.clock import Clock
from ibs.runtime.settings import Settings
from ibs.services.hosts_book import HostBook, moment
from ibs.services.hosts_link import Assignment, Link
from ibs.version import VERSION
from ibs.wire.common import ErrorBody
from ibs.wire.hosts import (
    AgentEnd,
    AgentJoin,
    AgentJoined,
    AgentOrders,
    AgentPoll,
    HostInvite,
    HostInvited,
    HostUpdate,
    HostView,
)
from ibs.wire.session import SessionOpen, SessionOpened, StageReport
from ibs.wire.system import BackupRun

if TYPE_CHECKING:
    from ibs.engine.task import Task

ONLINE, SILENT, NEVER = "online", "silent", "never joined"
_STOPPED = "stopped on request"
_log = get_logger("api")

LocalBackup = Callable[["Task", BackupRun], Awaitable[str | None]]
"""Back up files of the server itself."""


class Attaching(Protocol):
    """Opens write sessions for tasks that run already. Implemented by `services.sessions.Sessions`."""

    async def attach(
        self, task: Task, store: str, auth_id: str, request: SessionOpen, ended: Callable[[str, str], None]
    ) -> WriteSession: ...


class Hosts:
    """All hosts, the server's own first. Call `load` once before, and keep `watch` running."""

    def __init__(
        self,
        book: HostBook,
        settings: Settings,
        *,
        clock: Clock,
        fingerprint: str,
        publish: Callable[[Event], None],
        grace_seconds: float = limits.AGENT_GRACE_SECONDS,
    ) -> None:
        self._book = book
        self._settings = settings
        self._clock = clock
        self.fingerprint = fingerprint
        self._publish = publish
        self._started = clock.now()
        self._links: dict[str, Link] = {}
        self._local: LocalBackup | None = None
        self.grace_seconds = grace_seconds
        self.hold_seconds = min(limits.AGENT_POLL_SECONDS, grace_seconds / 3)
        self._gap_seconds = min(limits.AGENT_GAP_SECONDS, grace_seconds / 3)

    async def load(self) -> None:
        """Read the hosts; none of them is heard yet."""
        await self._book.load()
        for record in self._book.all():
            self._link(record.name)

    def serve_locally(self, work: LocalBackup) -> None:
        """What `run` does for the server's own node."""
        self._local = work

    # --- for administrators ---

    def list(self) -> list[HostView]:
        """The server itself, then all others by name."""
        return [self._own(), *(self._view(record) for record in self._book.all())]

    def get(self, name: str) -> HostView:
        """Raises NotFoundError."""
        return self._own() if name == self._settings.node else self._view(self._book.get(name))

    async def invite(self, by: str, request: HostInvite, port: int) -> HostInvited:
        """A one-time join token. Raises UsageError, ConflictError."""
        made = await self._book.invite(by, request)
        self._link(made.record.name)
        return HostInvited(
            name=made.record.name,
            token=made.token,
            expires=moment(made.record.invite_expires_ns),
            fingerprint=self.fingerprint,
            node=self._settings.node,
            port=port,
        )

    async def update(self, by: str, name: str, request: HostUpdate) -> HostView:
        """Change tags and project. Raises NotFoundError, UsageError."""
        self._refuse_own(name)
        return self._view(await self._book.update(by, name, request))

    async def remove(self, by: str, name: str) -> None:
        """Forget the host; its agent is refused from now on, its backups stay. Raises NotFoundError, ConflictError."""
        self._refuse_own(name)
        link = self._links.get(name)
        if link is not None and link.given:
            raise ConflictError(
                f"host {name} has {len(link.given)} tasks in hand",
                hint="stop them first: ironcore-backup task stop UPID",
            )
        await self._book.remove(by, name)
        if (link := self._links.pop(name, None)) is not None:
            link.wake()

    # --- for agents ---

    async def join(self, peer: str, request: AgentJoin) -> AgentJoined:
        """Exchange a join token for an identity. Raises NotAuthenticated."""
        joined = await self._book.join(peer, request)
        self._link(request.name).forget()  # whoever spoke for the host before has lost its identity with that
        return joined

    async def poll(self, auth_id: str, peer: str, poll: AgentPoll, stopping: trio.Event) -> AgentOrders:
        """What the agent has to begin and to stop; waits for something to tell for `hold_seconds`.

        Raises RefusedError for an identity that is no agent's, ConflictError when another agent of the host is
        connected. *Cancellation*: the connection broke; the agent is gone until it polls again.
        """
        link = self._link_of(auth_id)
        if not 1 <= len(poll.instance) <= limits.NAME_CHARS_MAX or len(poll.running) > limits.AGENT_RUNS_MAX * 2:
            raise UsageError("the poll is not valid", hint="update the agent")
        turn, first = link.enter(poll, peer)
        gone = True
        try:
            await self._book.heard(link.name, version=poll.version, system=poll.system, address=peer)
            self._show(link)
            if first:
                _log.info("an agent is connected", host=link.name, peer=peer, version=poll.version[:64])
                orders = link.now(poll.running)
            else:
                async with trio.open_nursery() as nursery:  # noqa: TID251 - a stop of the server ends the wait
                    nursery.start_soon(_wake_when, stopping, link)
                    orders = await link.orders(turn, poll.running, stopping)
                    nursery.cancel_scope.cancel()
            gone = False
        finally:
            link.leave(turn, gone=gone)
        return AgentOrders(
            start=orders.start,
            stop=orders.stop,
            again=orders.again,
            hold_seconds=self.hold_seconds,
            grace_seconds=self.grace_seconds,
        )

    async def attach(self, desk: Attaching, auth_id: str, upid: str, request: SessionOpen) -> SessionOpened:
        """Open the write session of a task that was given to this agent; an earlier one of the task ends.

        Raises NotFoundError when the task is not (or no longer) the agent's, RefusedError for another place than the
        task's, and what opening a session raises.
        """
        link = self._link_of(auth_id)
        one = self._assignment(link, upid)
        _check_place(one.run, request)
        async with one.attaching:
            if one.session is not None:
                await one.session.stop("the agent has connected again")
            one = self._assignment(link, upid)  # that session may have been committed meanwhile
            one.session = await desk.attach(one.task, one.run.store, auth_id, request, partial(_ended, link, one))
            one.lost = False
            if link.given.get(upid) is not one:
                await one.session.interrupt(_STOPPED, status="CANCELLED")
                raise _not_given(upid)
        link.note()
        return one.session.opened

    def end(self, auth_id: str, upid: str, end: AgentEnd) -> None:
        """The agent says how a task ended on its host. Said again, or too late, that changes nothing.

        Raises UsageError, RefusedError.
        """
        link = self._link_of(auth_id)
        if end.status not in (TaskState.OK, TaskState.FAILED, TaskState.CANCELLED):
            raise UsageError(f"status {end.status[:64]!r} is not known", hint="use OK, FAILED or CANCELLED")
        one = link.given.get(upid)
        if one is not None and one.end is None:
            one.end = end
            one.wake()

    async def report(self, auth_id: str, upid: str, report: StageReport) -> None:
        """Lines for the task's log that belong to no write session. Raises NotFoundError as `attach` does."""
        link = self._link_of(auth_id)
        one = self._assignment(link, upid)
        link.note()
        for line in report.lines:
            one.task.log(line.level, line.text)
        await trio.lowlevel.checkpoint()

    # --- for the worker ---

    async def run(self, task: Task, run: BackupRun) -> str | None:
        """Do the backup on `run.host` as `task`; return its closing message.

        Raises NotFoundError, SourceUnreachable, and as what the agent tells. *Cancellation*: the host is told to stop.
        """
        host = run.host or self._settings.node
        if host == self._settings.node:
            if self._local is None:
                raise UnavailableError("the server's own files cannot be backed up yet", hint="try again in a moment")
            return await self._local(task, run)
        record = self._book.get(host)
        if record.joined_ns is None:
            raise SourceUnreachable(host, _agent(record), "")
        link = self._link(host)
        one = Assignment(task, run)
        task.log("info", f"given to the agent of host {host}, {_agent(record)}")
        link.give(one)
        try:
            return await self._followed(link, one)
        finally:
            link.take_back(one)
            if one.session is not None:
                reason = _STOPPED if task.stop_wanted else "its task has ended"
                await one.session.interrupt(reason, status="CANCELLED")

    async def watch(self) -> None:
        """Tell on the bus when hosts fall silent and come back, and keep when they were last heard; until cancelled."""
        kept = self._clock.monotonic()
        while True:
            await self._clock.sleep(min(limits.AGENT_WATCH_SECONDS, self._gap_seconds / 2))
            for link in list(self._links.values()):
                self._show(link)
            if self._clock.monotonic() - kept >= limits.AGENT_CONTACT_SECONDS:
                kept = self._clock.monotonic()
                await self._keep_contacts()

    async def _keep_contacts(self) -> None:
        try:
            await self._book.keep_contacts([link.name for link in self._links.values() if link.instance])
        except IbsError as error:
            _log.warning("last contacts of hosts cannot be written", error=error.message)

    async def _followed(self, link: Link, one: Assignment) -> str:
        """Until it is over on the host, or the host was silent for the whole grace."""
        while not one.over:
            left = self.grace_seconds - link.quiet_seconds
            if left <= 0:
                record = self._book.get(link.name)
                raise SourceUnreachable(link.name, _agent(record), moment(record.last_contact_ns))
            one.task.waits_for("" if one.session is not None or one.begun else f"the agent of host {link.name}")
            with trio.move_on_after(left):
                await one.changed.wait()
        if one.committed and one.end is None:  # the snapshot is there; the agent's own words would be welcome
            with trio.move_on_after(limits.AGENT_WRAP_UP_SECONDS):
                while one.end is None:
                    await one.changed.wait()
        return _closing(link.name, one)

    # --- views ---

    def _show(self, link: Link) -> None:
        """Tell it when that agent has fallen silent, or is back."""
        if link.online == link.shown_online:
            return
        link.shown_online = link.online
        state = ONLINE if link.online else SILENT
        self._publish(
            Event(
                self._clock.now(),
                EventSource.SYSTEM,
                Severity.NOTICE if link.online else Severity.WARNING,
                f"host.{state}",
                f"the agent of host {link.name} is {state}",
                {"host": link.name, "address": link.address},
            )
        )
        _log.info(f"an agent is {state}", host=link.name)

    def _own(self) -> HostView:
        return HostView(
            name=self._settings.node,
            state=ONLINE,
            since=format_time(self._started),
            built_in=True,
            version=VERSION,
            joined=format_time(self._started),
            last_contact=format_time(self._clock.now()),
        )

    def _view(self, record: HostRecord) -> HostView:
        link = self._link(record.name)
        waits = record.invite_digest is not None and record.invite_used_ns is None
        state = NEVER if record.joined_ns is None else ONLINE if link.online else SILENT
        open_until = (
            record.invite_expires_ns if waits and (record.invite_expires_ns or 0) > self._clock.now_ns() else None
        )
        return HostView(
            name=record.name,
            state=state,
            since=link.since if link.online else moment(record.last_contact_ns),
            version=record.version,
            system=record.system,
            tags=[*record.tags],
            project=record.project,
            auth_id=record.auth_id,
            address=record.address,
            joined=moment(record.joined_ns),
            last_contact=moment(record.last_contact_ns),
            invited_until=moment(open_until),
            running=[*link.given],
        )

    # --- who is who ---

    def _link(self, name: str) -> Link:
        link = self._links.get(name)
        if link is None:
            heard = partial(self._book.note_contact, name)
            link = Link(name, self._clock, hold=self.hold_seconds, gap=self._gap_seconds, heard=heard)
            self._links[name] = link
        return link

    def _link_of(self, auth_id: str) -> Link:
        record = self._book.of_agent(auth_id)
        if record is None:
            raise RefusedError(
                f"refused: {auth_id} is not the agent of a host",
                hint="invite the host: ironcore-backup host invite NAME",
            )
        return self._link(record.name)

    def _assignment(self, link: Link, upid: str) -> Assignment:
        one = link.given.get(upid)
        if one is None or one.over or one.task.stop_wanted:
            raise _not_given(upid)
        return one

    def _refuse_own(self, name: str) -> None:
        if name == self._settings.node:
            raise ConflictError(f"{name} is the server itself", hint="it is always there, and changed by its settings")


def _ended(link: Link, one: Assignment, status: str, message: str) -> None:
    """A write session of the task has ended. The task ends only with a snapshot, or by what the agent says."""
    if status == TaskState.FAILED:  # by the server, for silence or a quarantine; an agent gives up with CANCELLED
        one.lost = True
        link.wake()
    if status in (TaskState.OK, TaskState.WARNING):
        one.committed = message
        one.warned = status == TaskState.WARNING
    one.wake()


async def _wake_when(stopping: trio.Event, link: Link) -> None:
    await stopping.wait()
    link.wake()


def _not_given(upid: str) -> NotFoundError:
    return NotFoundError(
        f"task {upid[:200]} is not given to this agent", hint="it has ended, or was stopped", given=False
    )


def _agent(record: HostRecord) -> str:
    return f"{record.name} {record.version}".strip()


def _check_place(run: BackupRun, request: SessionOpen) -> None:
    """An agent writes where its task says and nowhere else."""
    wanted = (run.store, run.namespace, f"{run.backup_type}/{run.backup_id}")
    archives = {parse_source(source)[0] for source in run.sources}
    if (request.store, request.namespace, request.group) != wanted or set(request.archives) != archives:
        raise RefusedError("refused: this is not the place that the task names", hint="update the agent")


def _closing(host: str, one: Assignment) -> str:
    """The task's message, or the error it ends with."""
    end = one.end
    if one.committed:
        if one.warned and not one.task.warnings:
            one.task.warn(f"the backup on host {host} ended with warnings")
        return end.message if end is not None and end.status == TaskState.OK and end.message else one.committed
    if end is None:
        raise FailedError(
            f"the agent of host {host} was started anew {one.losses} times during this backup",
            hint=f"look at its log on {host}: journalctl -u ironcore-backup-agent",
        )
    message = end.message or f"the backup on host {host} ended without a snapshot"
    if end.status == TaskState.CANCELLED:
        raise CancelledError(message, hint=end.hint)
    raise error_from_body(ErrorBody(code=end.code, message=message, hint=end.hint))
