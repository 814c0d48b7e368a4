"""The product broken on purpose, one promise at a time: what the simulator must find, or it proves nothing.

Each mutant is a context manager that patches the product and puts it back. `LATER` seeds bound how long it may live.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from ibs.core.ids import ID_BYTES
from ibs.engine import modes, moving, namespaces, prune, references, storetime
from ibs.engine.gc import marker, trash
from ibs.engine.session import commit as committing
from ibs.engine.session import discard as discarding
from ibs.engine.session import opening, pins
from ibs.engine.session.journal import id_array
from ibs.engine.session.pins import PinGate, PinSet
from ibs.storage.local import LocalStore, durable, files, ownership, publish, reader, receive, recover
from ibs.storage.local import barrier as barriers
from ibs.storage.local import ledger as ledgers
from ibs.storage.local.layout import snapshot_folder
from ibs.storage.local.reindex import Reindexed, Reindexer


@dataclasses.dataclass(frozen=True)
class Mutant:
    """`breaking` patches the product for as long as it is entered."""

    breaking: Callable[[], AbstractContextManager[None]]
    among: tuple[str, ...]


MUTANTS: dict[str, Mutant] = {}


def _replacing(name: str, *changes: tuple[Any, str, Callable[[Any], Any]], among: Sequence[str] = ()) -> None:
    """A mutant that puts something else in each place: (module or class, name, from the old one make the new one).

    `among`: the errands in whose company it does its harm; the worlds it is looked for in hold little else.
    """

    @contextlib.contextmanager
    def broken() -> Iterator[None]:
        before = [place.__dict__[attribute] for place, attribute, _ in changes]
        for (place, attribute, make), old in zip(changes, before, strict=True):
            setattr(place, attribute, make(old))
        try:
            yield
        finally:
            for (place, attribute, _), old in zip(changes, before, strict=True):
                setattr(place, attribute, old)

    MUTANTS[name] = Mutant(broken, tuple(among))


def _no_journal(before: Any) -> Any:
    def pin(self: PinSet, ids: Any) -> None:
        with self._lock:
            new = self._journal.new(ids)
            if new:
                self._journal.add(new, self._journal.append(bytes(ID_BYTES * len(new))))
                self._gate.announce(self.domain, id_array(b"".join(new)))

    return pin


_replacing("pin journal skipped", (PinSet, "pin", _no_journal))


def _silent(before: Any) -> Any:
    def announce(self: PinGate, domain: bytes, ids: Any) -> None:
        return None

    return announce


_replacing("gate not announced", (PinGate, "announce", _silent), among=("cleanup", "gc"))


class _NoSnapshots:
    """Stands for the folders of a store that has none."""

    def every(self) -> Iterator[Any]:
        return iter(())


def _manifests_first(before: Any) -> Any:
    def protected(context: Any, *, skip: Any = ()) -> Any:
        yield from [part for name in context.folders.every() for part in references.of_snapshot(context, name)]
        yield from before(dataclasses.replace(context, folders=_NoSnapshots()), skip=skip)

    return protected


_replacing("manifests read before journals", (discarding, "protected_ids", _manifests_first), among=("cleanup",))


def _no_mark(before: Any) -> Any:
    return lambda context, domain, candidates, lookup, skip: np.zeros(len(candidates), dtype=np.bool_)


_replacing("sweep without a mark", (discarding, "_mark", _no_mark))


def _no_flush(before: Any) -> Any:
    def flush(self: Any, point: str) -> None:
        self._hook(point)

    return flush


_replacing("answer before the barrier", (durable.Flusher, "flush", _no_flush))


def _promote_first(before: Any) -> Any:
    def round_(self: Any) -> int:
        waiting = self.ledger.received_all()
        promoted = [entry for entry in waiting if self._promote(entry)]
        self._flush_or_condemn("barrier.sync")
        return int(self.ledger.record(promoted))

    return round_


_replacing("promoted before the barrier", (barriers.Barrier, "_round", _promote_first))


def _no_second_barrier(before: Any) -> Any:
    return lambda self: None


_replacing("no barrier before the manifest", (barriers.Barrier, "sync", _no_second_barrier))


def _rename_only(before: Any) -> Any:
    def replace(name: str, data: Any, *, dir_fd: int, step: Any = lambda point: None) -> None:
        temporary = files.temporary_name(name)
        step("temp")
        files.write_new(temporary, data, dir_fd=dir_fd, durable=False)
        step("rename")
        files.os.rename(temporary, name, src_dir_fd=dir_fd, dst_dir_fd=dir_fd)
        step("done")

    return replace


_replacing("manifest not flushed", (files, "replace", _rename_only))


def _present(before: Any) -> Any:
    return lambda store, known, ids, delivered: np.ones(len(ids), dtype=np.bool_)


_replacing("presence not checked", (committing, "still_usable", _present), among=("flip", "verify"))


def _all_known(before: Any) -> Any:
    def unusable(self: Any, address: Any, name: str, size: int) -> Any:
        if self.ledger.received(address) is not None:
            return None
        if self.ledger.mark_of(address) is not None or self.held.prefixes.there(name[:4]):
            return None if self.ledger.info([address])[0].stored_bytes or self.ledger.mark_of(address) else False
        return False

    return unusable


_replacing("known answer for a bad chunk", (receive.Receiver, "_unusable", _all_known), among=("flip", "verify"))

_replacing("wrong bytes served", (reader, "wrong", lambda before: lambda data, address: ""), among=("flip", "restore"))
_replacing(
    "owner record not read again",
    (ownership, "check_fence", lambda before: lambda meta, store, mine: None),
    among=("takeover",),
)
_replacing("group owner not checked", (opening, "check_owner", lambda before: lambda context, wanted: None))
_replacing(
    "received chunks trusted after a crash",
    (recover, "whole_on_disk", lambda before: lambda dir_fd, path, address: True),
)


def _journal_first_away(before: Any) -> Any:
    def publish_(context: Any, staged: Any, *rest: Any) -> Any:
        discarding.remove_staging(context.store, "x")
        folder = context.store.staging.folder(staged.facts.session_id)
        with contextlib.suppress(Exception):
            folder.unlink("pins.journal")
        return before(context, staged, *rest)

    return publish_


_replacing(
    "journal removed before the manifest", (committing, "_publish", _journal_first_away), among=("cleanup", "gc")
)


def _manifest_first(before: Any) -> Any:
    def fill(self: Any, name: str, parent: int, contents: Any, last: Any) -> None:
        order = {each: contents[each] for each in [*last, *(one for one in contents if one not in last)]}
        with files.opened([name], dir_fd=parent) as fd:
            for each, content in order.items():
                if each in last:
                    self._place_last(each, content, fd)
                else:
                    self._place(each, content, fd)
            self.barrier.sync()
            files.os.fsync(parent)

    return fill


_replacing("manifest before indexes", (publish.Publisher, "_fill", _manifest_first))


# --- garbage collection ---


def _nobody_promised(before: Any) -> Any:
    return lambda self, ids: np.zeros(len(ids), dtype=np.bool_)


def _any_epoch(before: Any) -> Any:
    def retirable(self: Any, addresses: Any, epoch: int) -> Any:
        return [row for row in self._db.lookup(addresses).values() if row.state.value in (0, 1, 2)]

    return retirable


def _all_collectable(before: Any) -> Any:
    def scan(self: Any, first: bytes, last: bytes, epoch: int) -> Any:
        return before(self, first, last, 1 << 62)

    return scan


# Each alone is made good by the other: what was promised since the run began is in the watch and in a new epoch.
_replacing(
    "gc heeds neither promises nor epochs",
    (pins.WideWatch, "promised", _nobody_promised),
    (ledgers.Ledger, "retirable", _any_epoch),
    (ledgers.Ledger, "scan", _all_collectable),
    among=("gc",),
)


def _without(kind: str | tuple[str, ...]) -> Callable[[Any], Any]:
    def make(before: Any) -> Any:
        def protected(context: Any, **options: Any) -> Iterator[Any]:
            return (each for each in before(context, **options) if not each.by.startswith(kind))

        return protected

    return make


_replacing("gc reads no sessions", (marker, "protected_ids", _without("staging/")))
_replacing(
    "gc reads no leases",
    (marker, "protected_ids", _without((".ibs/leases", "reader "))),
    among=("restore", "gc", "purge", "forget"),
)
_replacing("gc reads no bin", (references, "of_bin_entry", lambda before: lambda context, entry: iter(())))
_replacing("gc reads manifests before journals", (marker, "protected_ids", _manifests_first), among=("gc",))
_replacing("gc sweeps before it marks", (marker.Marker, "_mark", lambda before: lambda self, table, first: iter((1,))))
_replacing(
    "trash has no grace",
    (trash.TrashKeeper, "until", lambda before: lambda self, found: found.since),
    among=("gc", "expire", "purge"),
)
_replacing(
    "a retired chunk is answered for where it lies",
    (receive, "take_back", lambda before: lambda *about: None),
    among=("gc", "purge", "forget"),
)


def _unannounced(before: Any) -> Any:
    @contextlib.contextmanager
    def moving(self: PinGate, ids: Any) -> Iterator[None]:
        yield

    return moving


_replacing(
    "moves to and from the bin are not announced", (PinGate, "moving", _unannounced), among=("gc", "undo", "forget")
)


def _by_the_wall(before: Any) -> Any:
    def advance(record: Any, moment: Any) -> Any:
        return storetime.ClockRecord(
            seconds=max(record.seconds, moment.wall), boot=moment.boot, monotonic=moment.monotonic
        )

    return advance


_replacing("grace is counted by the wall clock", (storetime, "advance", _by_the_wall), among=("clock jump", "grace"))


# --- upkeep ---


def _as_planned(before: Any) -> Any:
    async def decided(context: Any, retention: Any, planned: Any) -> Any:
        return planned

    return decided


_replacing(
    "prune does what was planned, whatever happened since",
    (prune, "_decided_anew", _as_planned),
    among=("prune", "undo"),
)


def _anything_goes(before: Any) -> Any:
    return lambda self, use: None


_replacing(
    "a quarantine forbids nothing",
    (modes.Modes, "require", _anything_goes),
    among=("quarantine", "gc", "prune"),
)


def _not_noted(before: Any) -> Any:
    return lambda self, record: None


_replacing("a quarantine is not noted", (LocalStore, "write_mode", _not_noted), among=("quarantine",))


def _removed_at_once(before: Any) -> Any:
    async def remove(self: Any, namespace: Any, by: str, *, recursive: bool = False) -> Any:
        below, names = self._within(namespace)
        for name in names:
            self._context.store.snapshots.remove(snapshot_folder(name))
        return namespaces.Removed(list(reversed(below)), names)

    return remove


_replacing(
    "a namespace takes its snapshots with it",
    (namespaces.Namespaces, "remove", _removed_at_once),
    among=("namespace",),
)


def _no_source_left(before: Any) -> Any:
    def issue(context: Any, stored: Any, target: Any, previous: str) -> Any:
        made = before(context, stored, target, previous)
        context.store.snapshots.remove(snapshot_folder(stored.name))
        return made

    return issue


_replacing("a move leaves nothing in the bin", (moving, "_issue", _no_source_left), among=("move",))


def _all_bad(before: Any) -> Any:
    def settle(self: Any, address: Any, row: Any, size: int, *, bad: bool) -> Any:
        with self.held.shards.holding([address.id]):
            self.reader.put_aside(address)
        return Reindexed(bad=1)

    return settle


_replacing("reindexing calls bad what it does not know", (Reindexer, "_settle", _all_bad), among=("reindex",))
