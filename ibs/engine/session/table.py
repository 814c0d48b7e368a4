"""All write sessions of one datastore: who may open one, which are alive, which can be resumed, which must go.

Used by `engine`; reached as `Datastore.sessions`. Invariants: at most one open session a group; every folder in staging
belongs to an open or an interrupted session; a session is in exactly one of `_open`, `_interrupted`, `_finished`.
"""

from __future__ import annotations

import itertools
import math
from collections import OrderedDict
from dataclasses import dataclass

import msgspec
import trio

from ibs.core import limits
from ibs.core import manifest as manifests
from ibs.core.events import EventSource, Severity
from ibs.core.ids import digest
from ibs.core.names import Group, Namespace, SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.engine.references import facts_of, of_snapshot
from ibs.engine.session.discard import Discarded, discard_received, discard_session, settle, unnamed
from ibs.engine.session.facts import Foreign, SessionFacts, SessionObserver, SessionState, is_session_id
from ibs.engine.session.opening import Prepared, Wanted, check_foreign, check_request, prepare
from ibs.engine.session.session import WriteSession
from ibs.errors import BusyError, DatastoreReadOnly, FormatError, IbsError, NoSpace, NotFoundError, SessionLost
from ibs.wire.session import CommitRequest, CommitResult, SessionOpen


@dataclass(frozen=True, slots=True)
class Interrupted:
    """An ended session whose chunks are kept. `facts` None: its record is unreadable, it can only be discarded."""

    facts: SessionFacts | None
    since: float
    reason: str


class SessionTable:
    """One a datastore. Its methods are called from the trio thread only."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context
        self._open: dict[str, WriteSession] = {}
        self._interrupted: dict[str, Interrupted] = {}
        self._finished: OrderedDict[str, WriteSession] = OrderedDict()
        self._opening = 0
        self._epochs = itertools.count(1)
        self._closing = ""
        # Two discards at once would each spare what the other's journal names, and both journals would go.
        self._discarding = trio.Lock()

    @property
    def open_sessions(self) -> list[WriteSession]:
        return list(self._open.values())

    @property
    def interrupted_sessions(self) -> dict[str, Interrupted]:
        """Resumable or discardable sessions by id."""
        return dict(self._interrupted)

    # --- opening ---

    async def open(
        self, auth_id: str, request: SessionOpen, *, upid: str = "", observer: SessionObserver | None = None
    ) -> WriteSession:
        """Open a session for an identity that may back up to the namespace; its answer is `.opened`.

        Raises UsageError, KeyNotRegistered, RefusedError (group of another), BusyError, NoSpace, DatastoreOffline,
        Quarantined, UnderMaintenance. *Cancellation*: no session is open then; a folder already made is interrupted
        like any other.
        """
        self._context.modes.require(Use.WRITE)
        if self._closing:
            raise BusyError(self._closing)
        wanted = await check_request(self._context, auth_id, request, upid)
        return await self._admit(wanted, observer)

    async def open_foreign(
        self, auth_id: str, foreign: Foreign, *, upid: str = "", observer: SessionObserver | None = None
    ) -> WriteSession:
        """Open a session that keeps a snapshot of another datastore as it is; `commit_foreign` ends it.

        Raises what `open` raises, SignatureInvalid, ConflictError when the snapshot is there already.
        """
        self._context.modes.require(Use.WRITE)
        wanted = await self._context.pool.disk(check_foreign, self._context, auth_id, foreign, upid)
        return await self._admit(wanted, observer)

    async def _admit(self, wanted: Wanted, observer: SessionObserver | None) -> WriteSession:
        """The group's lock, no other session in it, and a place among all sessions."""
        if self._closing:
            raise BusyError(self._closing)
        async with self._context.locks.of(wanted.namespace, wanted.group):
            await self._make_way(wanted)
            if len(self._open) + self._opening >= limits.SESSIONS_PER_STORE_MAX:
                raise BusyError(
                    f"datastore {self._context.name} has {limits.SESSIONS_PER_STORE_MAX} backups running",
                    hint="wait until one of them ends",
                )
            self._opening += 1
            try:
                return await self._prepare(wanted, observer)
            finally:
                self._opening -= 1

    async def _prepare(self, wanted: Wanted, observer: SessionObserver | None) -> WriteSession:
        heirs = [
            session_id for session_id, one in self._interrupted.items() if one.facts and _may_inherit(one.facts, wanted)
        ]
        held = {session_id: self._interrupted.pop(session_id) for session_id in heirs}
        after = [
            one.facts.name.time
            for one in [*self._interrupted.values(), *held.values()]
            if one.facts and _group_of(one.facts) == (wanted.namespace, wanted.group) and one.facts.name.time
        ]
        epoch = (self._context.generation << 32) + next(self._epochs)
        try:
            ready = await self._context.pool.disk(prepare, self._context, wanted, epoch, heirs, after)
        except BaseException:
            self._interrupted.update(held)
            raise
        if self._closing:  # the datastore is being closed since; what is on disk is found at the next opening
            raise BusyError(self._closing)
        if not self._context.modes.allows(Use.WRITE):
            raise self._too_late(ready, held)
        # No await from here: a folder on disk and its entry in the table are one step for everybody else.
        self._interrupted.update({session_id: held[session_id] for session_id in ready.left})
        session = WriteSession(self._context, ready, observer=observer, ended=self._on_end)
        self._open[session.session_id] = session
        return session

    def _too_late(self, ready: Prepared, held: dict[str, Interrupted]) -> IbsError:
        """The mode changed while the session was made: it is interrupted before it began. Returns the refusal."""
        refusal = self._context.modes.record.refusal(Use.WRITE, self._context.name)
        now = self._context.clock.monotonic()
        self._interrupted[ready.facts.session_id] = Interrupted(ready.facts, now, str(refusal))
        self._interrupted.update({session_id: held[session_id] for session_id in ready.left})
        ready.pins.release()
        return refusal or BusyError(f"the mode of datastore {self._context.name} changed just now", hint="try again")

    async def _make_way(self, wanted: Wanted) -> None:
        """Leave no open session in the group. Raises BusyError naming the one that is at work."""
        for other in list(self._open.values()):
            if _group_of(other.facts) != (wanted.namespace, wanted.group):
                continue
            if other.state is SessionState.INTERRUPTED:
                await other.over.wait()
                continue
            idle = other.idle_seconds(self._context.clock.monotonic())
            same = other.facts.auth_id == wanted.auth_id
            if not same or idle < limits.SESSION_SUPERSEDE_IDLE_SECONDS:
                limit = limits.SESSION_SUPERSEDE_IDLE_SECONDS if same else limits.SESSION_IDLE_SECONDS_MAX
                # A stranger learns neither the task nor, by its name, who backs up.
                by = f" by task {other.facts.upid or other.session_id}" if same else ""
                raise BusyError(
                    f"group {wanted.group} is being backed up{by}",
                    hint="wait for that backup to end, or stop its task",
                    upid=other.facts.upid if same else "",
                    retry_after_seconds=math.ceil(max(0.0, limit - idle)),
                )
            await other.interrupt("superseded by a new backup of the same group")

    def _on_end(self, session: WriteSession) -> None:
        """A session has ended. Synchronous: called in the same step as its change of state."""
        self._open.pop(session.session_id, None)
        self._context.modes.note_end()
        now = self._context.clock.monotonic()
        if session.state is SessionState.COMMITTED:
            if session.left is not None:
                self._interrupted[session.session_id] = Interrupted(session.left, now, "it was committed")
            self._finished[session.session_id] = session
            while len(self._finished) > limits.SESSIONS_FINISHED_KEPT:
                self._finished.popitem(last=False)
        else:
            since = now if session.keep else -math.inf  # nobody wants it resumed: the next expiry discards it
            self._interrupted[session.session_id] = Interrupted(session.facts, since, session.reason)

    # --- use ---

    def get(self, session_id: str, auth_id: str) -> WriteSession:
        """The session, open or just committed, of the identity that opened it. Raises SessionLost."""
        session = self._open.get(session_id) or self._finished.get(session_id)
        if session is not None and session.facts.auth_id == auth_id:
            return session
        ended = self._interrupted.get(session_id)
        if ended is not None and ended.facts is not None and ended.facts.auth_id == auth_id:
            raise SessionLost(f"the backup session has ended: {ended.reason}")
        raise SessionLost("there is no such backup session")

    async def commit(self, session_id: str, auth_id: str, request: CommitRequest) -> CommitResult:
        """As `WriteSession.commit`; asked again after a restart of the server it finds the answer on disk.

        Raises SessionLost when the session is gone and its snapshot does not exist.
        """
        try:
            session = self.get(session_id, auth_id)
        except SessionLost:
            known = await self._context.pool.disk(self._committed_before, auth_id, request)
            if known is None:
                raise
            return known
        return await session.commit(request)

    def _committed_before(self, auth_id: str, request: CommitRequest) -> CommitResult | None:
        raw = request.manifest.encode("utf-8", "surrogatepass")
        try:
            name = SnapshotName.parse(manifests.decode(raw).snapshot)
            stored = self._context.folders.load(name)
        except (FormatError, NotFoundError):
            return None
        if stored.manifest_bytes != raw or stored.manifest.owner != auth_id:
            return None
        return CommitResult(
            snapshot=str(name),
            manifest_digest=digest(raw).hex(),
            status="WARNING" if stored.manifest.warnings or request.warnings else "OK",
            new_chunks=stored.manifest.stats.get("new_chunks", 0),
            new_bytes=stored.manifest.stats.get("new_bytes", 0),
        )

    # --- ends ---

    async def expire(self, now: float | None = None) -> None:
        """Interrupt sessions that were silent too long, discard interrupted ones kept long enough.

        Call it now and then. A discard that fails is told as an event and tried again next time.
        """
        moment = self._context.clock.monotonic() if now is None else now
        for session in list(self._open.values()):
            idle = session.idle_seconds(moment)
            if idle > limits.SESSION_IDLE_SECONDS_MAX:
                await session.interrupt(f"no sign of the client for {int(idle)} seconds")
        if not self._context.modes.allows(Use.PRUNE):
            return
        for session_id, one in list(self._interrupted.items()):
            if moment - one.since > limits.INTERRUPTED_SESSION_KEEP_SECONDS:
                await self._discard_told(session_id)

    async def _discard_told(self, session_id: str) -> None:
        try:
            await self.discard(session_id)
        except IbsError as error:
            self._context.emit(
                EventSource.DATASTORE,
                Severity.WARNING,
                "datastore.discard-failed",
                f"what an interrupted backup left behind could not be removed: {error}"[:1000],
                session=session_id,
            )

    async def discard(self, session_id: str) -> Discarded:
        """Remove an interrupted session and those of its chunks that nothing else refers to.

        Raises NotFoundError; FormatError when a reference of the store cannot be read (everything is kept then);
        Quarantined, UnderMaintenance. *Cancellation*: it stays interrupted, and can be discarded again.
        """
        self._context.modes.require(Use.PRUNE)
        one = self._interrupted.pop(session_id, None)
        if one is None:
            raise NotFoundError(f"there is no interrupted session {session_id[:64]}")
        try:
            async with self._discarding:
                return await discard_session(self._context, session_id)
        except BaseException:
            self._interrupted[session_id] = one
            raise

    async def cleanup(self) -> Discarded:
        """Discard every interrupted session, and received chunks that nothing names. Raises as `discard` does."""
        self._context.modes.require(Use.PRUNE)
        gone = Discarded()
        for session_id in list(self._interrupted):
            if session_id in self._interrupted:  # a new backup may have taken it over meanwhile
                gone += await self.discard(session_id)
        return gone + await discard_received(self._context)

    async def recover(self) -> int:
        """After the store was opened: every session on disk is interrupted, except those whose snapshot exists.

        Returns how many are interrupted.
        """
        found = await self._context.pool.disk(self._read_staging)
        now = self._context.clock.monotonic()
        for session_id, facts in found:
            self._interrupted[session_id] = Interrupted(facts, now, "the server was stopped")
        return len(found)

    def _read_staging(self) -> list[tuple[str, SessionFacts | None]]:
        store, found = self._context.store, []
        for session_id in store.staging.names():
            facts = facts_of(store.staging.folder(session_id))
            if facts is not None and (facts.session_id != session_id or facts.store_uuid != self._context.uuid):
                facts = None
            if facts is not None and not facts.leftover and self._context.folders.exists(facts.name):
                facts = self._settle(facts)
                if facts is None:
                    continue
            found.append((session_id, facts if is_session_id(session_id) else None))
        return found

    def _settle(self, facts: SessionFacts) -> SessionFacts | None:
        """Killed between manifest and tidying: tidy up now. Returns what is left of it."""
        try:
            # The manifest's name may not have reached the disk: writing the state anew flushes the folder, and only
            # then may the journal go (PROTOCOLS 10).
            self._context.folders.change_state(facts.name, lambda state: state)
            store, used = self._context.store, (part.ids for part in of_snapshot(self._context, facts.name))
            return settle(store, facts, unnamed(store, facts.session_id, used))
        except (DatastoreReadOnly, FormatError, NoSpace):
            return msgspec.structs.replace(facts, leftover=True)  # on disk it is settled at a later opening

    async def close(self, reason: str = "the server stops") -> None:
        """Interrupt every session and take no new ones. Call before the store is closed."""
        self._closing = f"datastore {self._context.name} takes no backups: {reason}"
        await self.interrupt_all(reason)

    async def interrupt_all(self, reason: str) -> None:
        """Interrupt every session, each after a commit in progress; they can be resumed, new ones may be opened."""
        for session in list(self._open.values()):
            await session.stop(reason)


def _group_of(facts: SessionFacts) -> tuple[Namespace, Group]:
    name = facts.name
    return name.namespace, name.group


def _may_inherit(facts: SessionFacts, wanted: Wanted) -> bool:
    """Only the same identity, in the same group, with the same key."""
    return (
        not facts.leftover
        and _group_of(facts) == (wanted.namespace, wanted.group)
        and facts.auth_id == wanted.auth_id
        and facts.domain_bytes == wanted.domain
        and bool(facts.foreign) == (wanted.foreign is not None)  # what was only found here is no client's to name
    )
