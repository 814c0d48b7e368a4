"""Holding an open datastore to a mode: noted in the store, in force at once, what it forbids ended in good order.

Used by `engine.datastores` only, which owns the entry of the datastore and its lock.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from ibs.core import limits
from ibs.core.modes import Quarantine, decode, encode
from ibs.engine.datastore import Datastore
from ibs.engine.modes import ModeRecord, Use
from ibs.errors import DatastoreReadOnly, FailedError, FormatError, NoSpace
from ibs.storage.local import peek_mode

UNREADABLE = "the record of its mode cannot be read"


def peek(path: str, uuid: str, store: str, now: str) -> ModeRecord:
    """The mode of a store that is not open. Blocks. One whose record is damaged counts as quarantined.

    Raises DatastoreOffline when the store is not there.
    """
    try:
        return decode(peek_mode(path, uuid, store))
    except FormatError as error:
        reason = f"{UNREADABLE}: {error.message}"[: limits.COMMENT_CHARS_MAX]
        return ModeRecord(quarantine=Quarantine(reason=reason, since=now, by="the server"))


async def tighten(datastore: Datastore, record: ModeRecord) -> str:
    """Hold it to more: in force before it is noted. Returns what its owner should know when it cannot be noted."""
    context = datastore.context
    context.modes.set(record)
    try:
        await context.pool.disk(datastore.store.write_mode, encode(record))
    except (DatastoreReadOnly, NoSpace, FailedError) as error:
        return f"the mode holds until the server stops only, it could not be noted in the store: {error.message}"
    return ""


async def loosen(datastore: Datastore, record: ModeRecord) -> None:
    """Hold it to less: noted before it is in force. Raises what writing the store does, and nothing has changed."""
    context = datastore.context
    await context.pool.disk(datastore.store.write_mode, encode(record))
    context.modes.set(record)


def under_way(datastore: Datastore) -> list[str]:
    """What is at work that the mode forbids, in words; empty when nothing is."""
    modes = datastore.context.modes
    sessions = 0 if modes.allows(Use.WRITE) else len(datastore.sessions.open_sessions)
    readers = 0 if modes.allows(Use.READ) else len(datastore.readers.readers)
    others = sorted({use.value for use in modes.at_work()})
    counted = ((sessions, "backup"), (readers, "reader"))
    return [f"{count} {what}{'s' * (count != 1)}" for count, what in counted if count] + others


async def drain(datastore: Datastore, seconds: float, tell: Callable[[str], None]) -> bool:
    """Wait until nothing is under way that the mode forbids; False when `seconds` went by before that."""
    modes = datastore.context.modes
    with trio.move_on_after(seconds):
        while busy := under_way(datastore):
            tell(f"waiting for {', '.join(busy)}")
            await modes.progress()
        return True
    return not under_way(datastore)


async def end_forbidden(datastore: Datastore, reason: str) -> None:
    """End whatever the mode forbids. Backups can be resumed once it is over. *Cancellation*: finished first.

    Work in a thread ends at its next step; it is waited for MODE_END_SECONDS at most, and does nothing forbidden then.
    """
    modes = datastore.context.modes
    with trio.CancelScope(shield=True):
        modes.interrupt()
        if not modes.allows(Use.WRITE):
            await datastore.sessions.interrupt_all(reason)
        if not modes.allows(Use.READ):
            await datastore.readers.end_all(reason)
        with trio.move_on_after(limits.MODE_END_SECONDS):
            while modes.at_work():
                await modes.progress()
