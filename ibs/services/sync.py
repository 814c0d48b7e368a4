"""The sync actor: keeps what the server believes about its datastores in step with the disks below them.

It probes every datastore (one that went away goes offline, one that came back is opened), and compares the snapshots on
disk with those it knew: any that vanished or appeared without the server's doing are told as events, and so is space
that becomes scarce.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio

from ibs.core import limits
from ibs.core.events import Event, EventSource, JsonScalar, Severity
from ibs.engine.datastore import Datastore
from ibs.engine.datastores import Datastores
from ibs.errors import IbsError, NotFoundError
from ibs.log import get_logger
from ibs.ports.catalog import DatastoreRecords
from ibs.ports.clock import Clock
from ibs.runtime.actor import Actor, Seat
from ibs.runtime.mailbox import Message
from ibs.services.fullness import KINDS, Fullness, look

_log = get_logger("sync")


@dataclass(frozen=True, slots=True)
class Probe(Message[None]):
    """Look at every datastore. One that is still being looked at is left out."""


@dataclass(frozen=True, slots=True)
class Reconcile(Message[None]):
    """Compare the snapshots of every open datastore with those known."""


@dataclass
class _Known:
    """Snapshots of one datastore: seen on disk, made or taken away by us since, and new ones that nobody made."""

    seen: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    strange: set[str] = field(default_factory=set)


class KnownSnapshots:
    """What is known of each datastore's snapshots. Made by `app`; outlives the actor."""

    def __init__(self) -> None:
        self._stores: dict[str, _Known] = {}

    def note_commit(self, uuid: str, snapshot: str) -> None:
        """The server itself made this snapshot."""
        known = self._stores.get(uuid)
        if known is not None:
            known.made.add(snapshot)
            known.gone.discard(snapshot)

    def note_moved(self, uuid: str, snapshot: str, appeared: bool) -> None:
        """The server itself takes this snapshot away (told before), or brought it back (told after)."""
        if appeared:
            self.note_commit(uuid, snapshot)
            return
        known = self._stores.get(uuid)
        if known is not None:
            known.gone.add(snapshot)
            known.made.discard(snapshot)

    def compare(self, uuid: str, found: set[str]) -> tuple[list[str], list[str]]:
        """Take `found` over as what is there; return who vanished and who appeared without our doing.

        A strange one is told at the second sight: a commit is visible on disk a moment before it is noted.
        """
        known = self._stores.get(uuid)
        if known is None:
            self._stores[uuid] = _Known(seen=found)
            return [], []
        vanished = sorted((known.seen | known.made) - found - known.gone)
        strange = found - known.seen - known.made
        appeared = sorted(strange & known.strange)
        self._stores[uuid] = _Known(
            seen=found - (strange - known.strange),
            # What is on its way is still found: it must not be missed the next time.
            gone=known.gone & found,
            strange=strange - known.strange,
        )
        return vanished, appeared


class Sync(Actor):
    """Probes datastores and reconciles their snapshots."""

    role: ClassVar[str] = "sync"
    duty: ClassVar[str] = "probes datastores and compares their snapshots with the disk"

    def __init__(
        self,
        seat: Seat,
        records: DatastoreRecords,
        datastores: Datastores,
        known: KnownSnapshots,
        *,
        clock: Clock,
        publish: Callable[[Event], None],
    ) -> None:
        super().__init__(seat)
        self._records = records
        self._datastores = datastores
        self._known = known
        self._clock = clock
        self._publish = publish
        self._busy: set[tuple[str, str]] = set()
        self._fullness: dict[str, Fullness] = {}
        self._background: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:  # noqa: TID251 - owner of mailbox and looks
            self._background = nursery
            task_status.started()
            await self.serve()

    async def handle(self, message: Message[Any]) -> Any:
        if isinstance(message, Probe):
            for record in await self._records.list():
                self._look("probe", record.name, self._probe)
        elif isinstance(message, Reconcile):
            for datastore in self._datastores.opened():
                self._look("reconcile", datastore.name, self._reconcile)
        else:
            raise NotImplementedError(type(message).__name__)

    def _look(self, what: str, name: str, look: Callable[[str], Awaitable[None]]) -> None:
        """In the background and one of a kind a datastore: a disk that hangs holds up nobody else."""
        if (what, name) in self._busy or self._background is None:
            return
        self._busy.add((what, name))

        async def work() -> None:
            try:
                await look(name)
            except NotFoundError:
                pass  # removed meanwhile
            except IbsError as error:
                _log.warning(f"{what} failed", datastore=name, error=error.message)
            finally:
                self._busy.discard((what, name))

        self._background.start_soon(work, name=f"{what} {name}")

    async def _probe(self, name: str) -> None:
        result = await self._datastores.probe(name)
        level = _log.debug if result.status == "online" else _log.warning
        level("datastore probed", datastore=name, status=result.status, reason=result.reason)
        for datastore in self._datastores.opened():
            if datastore.name == name:
                await self._look_at_space(datastore)

    async def _look_at_space(self, datastore: Datastore) -> None:
        """Told once a step, and when all is well again; a new actor tells it again."""
        space = await datastore.context.pool.disk(datastore.store.space)
        before = self._fullness.get(datastore.uuid, Fullness.FINE)
        now, words = look(space, before)
        self._fullness[datastore.uuid] = now
        if now > before or (now is Fullness.FINE and before is not Fullness.FINE):
            kind, severity = KINDS[now]
            text = f"datastore {datastore.name}: {words}" + (
                "; backups are about to be refused" if now is Fullness.OUT else ""
            )
            fields: dict[str, JsonScalar] = {
                "datastore": datastore.name,
                "bytes_free": space.bytes_free,
                "inodes_free": space.inodes_free,
            }
            tell = _log.info if now is Fullness.FINE else _log.warning
            tell(text, kind=kind, **fields)
            self._publish(Event(self._clock.now(), EventSource.DATASTORE, severity, kind, text, fields))

    async def _reconcile(self, name: str) -> None:
        datastore = await self._datastores.get(name)
        snapshots = await datastore.snapshots.every()
        vanished, appeared = self._known.compare(datastore.uuid, {str(snapshot) for snapshot in snapshots})
        groups = {(snapshot.namespace, snapshot.group) for snapshot in snapshots}
        _log.info("snapshots counted", datastore=name, groups=len(groups), snapshots=len(snapshots))
        if vanished:
            self._tell(datastore, Severity.ERROR, "datastore.snapshots-vanished", "vanished", vanished)
        if appeared:
            self._tell(datastore, Severity.NOTICE, "datastore.snapshots-appeared", "appeared", appeared)

    def _tell(self, datastore: Datastore, severity: Severity, kind: str, what: str, names: Sequence[str]) -> None:
        _log.warning(f"snapshots {what} without the server's doing", datastore=datastore.name, snapshots=names[:100])
        text = f"{len(names)} snapshots of {datastore.name} {what} without the server's doing, the first is {names[0]}"
        fields: dict[str, JsonScalar] = {"datastore": datastore.name, "snapshots": len(names), "first": names[0]}
        text = text[: limits.EVENT_TEXT_CHARS_MAX]
        self._publish(Event(self._clock.now(), EventSource.DATASTORE, severity, kind, text, fields))
