"""What groups or namespaces take of a datastore: how much is theirs alone, how much they share, and how full it gets.

Used by `services`. Reads every index, once a pass; a pass looks at USAGE_PASS_CHUNKS chunks at most, so memory stays
flat and passes grow with the store. Chunks are told apart by the first 64 bits of their ids: two that agree in those
would only be counted as one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import pairwise

import msgspec
import numpy as np
from numpy.typing import NDArray

from ibs.core import limits
from ibs.core.index import IdArray
from ibs.core.names import SnapshotName
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.engine.references import of_snapshot
from ibs.errors import DatastoreReadOnly, FormatError, NoSpace, NotFoundError, UsageError
from ibs.wire.datastore import GrowthDay, UsageRow

BY: dict[str, Callable[[SnapshotName], str]] = {
    "group": lambda name: f"ns:{name.namespace}/{name.group}" if name.namespace.parts else str(name.group),
    "namespace": lambda name: str(name.namespace) or "/",
}
HISTORY = "history.json"
_SHARED = -2
_NOBODY = -1


@dataclass
class _Share:
    """One group or namespace; `number` is its place in the owners' column."""

    number: int
    snapshots: int = 0
    plain: int = 0
    referenced: int = 0
    unique: int = 0
    names: list[SnapshotName] = field(default_factory=list)


def usage(context: StoreContext, by: str) -> list[UsageRow]:
    """One row a group or namespace, the largest first. Blocks. Raises UsageError, DatastoreOffline."""
    key = BY.get(by)
    if key is None:
        raise UsageError(f"figures by {by[:64]!r} are not kept", hint=f"use {' or '.join(BY)}")
    shares: dict[str, _Share] = {}
    for name in context.folders.every():
        share = shares.setdefault(key(name), _Share(len(shares)))
        share.names.append(name)
        share.snapshots += 1
        with contextlib.suppress(FormatError, NotFoundError):
            share.plain += sum(archive.plain_bytes for archive in context.folders.load(name).manifest.archives)
    for first, last in _passes(context.store.counts().chunks):
        _count(context, shares, first, last)
    rows = [
        UsageRow(
            name=name,
            snapshots=share.snapshots,
            plain_bytes=share.plain,
            stored_bytes=share.referenced,
            unique_bytes=share.unique,
            shared_bytes=share.referenced - share.unique,
        )
        for name, share in shares.items()
    ]
    return sorted(rows, key=lambda row: (-row.stored_bytes, row.name))


def _passes(chunks: int) -> Iterator[tuple[int, int]]:
    """Ranges of the first 16 bits of an id, both ends included."""
    count = max(1, -(-chunks // limits.USAGE_PASS_CHUNKS))
    edges = [round(at * 65_536 / count) for at in range(count + 1)]
    return ((first, last - 1) for first, last in pairwise(edges))


def _count(context: StoreContext, shares: dict[str, _Share], first: int, last: int) -> None:
    keys, sizes = _table(context, first, last)
    owner = np.full(len(keys), _NOBODY, dtype=np.int32)
    for share in shares.values():
        mine = np.zeros(len(keys), dtype=np.bool_)
        for name in share.names:
            with contextlib.suppress(FormatError, NotFoundError):
                for part in of_snapshot(context, name):
                    mine[_places(keys, part.ids, first, last)] = True
        share.referenced += int(sizes[mine].sum())
        fresh = mine & (owner == _NOBODY)
        owner[mine & ~fresh] = _SHARED
        owner[fresh] = share.number
    for share in shares.values():
        share.unique += int(sizes[owner == share.number].sum())


def _table(context: StoreContext, first: int, last: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Keys, ascending, and stored bytes of the chunks in the range."""
    low, high = first.to_bytes(2, "big") + bytes(30), last.to_bytes(2, "big") + b"\xff" * 30
    keys, sizes = [np.zeros(0, dtype=np.uint64)], [np.zeros(0, dtype=np.int64)]
    for rows in context.store.scan(low, high, context.store.epoch):
        keys.append(_keys(rows.ids[~rows.retired]))
        sizes.append(rows.stored_bytes[~rows.retired])
    return np.concatenate(keys), np.concatenate(sizes)


def _keys(ids: IdArray) -> NDArray[np.uint64]:
    return np.ascontiguousarray(ids[:, :8]).view(">u8").ravel().astype(np.uint64)


def _places(keys: NDArray[np.uint64], ids: IdArray, first: int, last: int) -> NDArray[np.intp]:
    """Where the ids of the range stand among `keys`; those that are not there (missing chunks) are left out."""
    wanted = _keys(ids)
    head = wanted >> np.uint64(48)
    wanted = wanted[(head >= first) & (head <= last)]
    at = np.searchsorted(keys, wanted)
    at = at[at < len(keys)] if len(keys) == 0 else np.minimum(at, len(keys) - 1)
    return at[keys[at] == wanted] if len(at) else at


# --- growth ---


def note_day(context: StoreContext) -> list[GrowthDay]:
    """Add today's sample if there is none; the history, oldest first. Blocks.

    A store that takes no writes, or may not be changed now, keeps none.
    """
    days = history(context)
    today = context.clock.now().date().isoformat()
    if days and days[-1].day >= today:
        return days
    space, counts = context.store.space(), context.store.counts()
    days.append(
        GrowthDay(day=today, chunks=counts.chunks, chunk_bytes=counts.stored_bytes, free_bytes=space.bytes_free)
    )
    days = days[-limits.GROWTH_DAYS_KEPT :]
    if not context.modes.allows(Use.REPAIR):
        return days
    with contextlib.suppress(DatastoreReadOnly, NoSpace):
        context.store.records.write(HISTORY, msgspec.json.encode(days) + b"\n")
    return days


def history(context: StoreContext) -> list[GrowthDay]:
    """One sample a day; a record that cannot be read is begun anew."""
    try:
        return msgspec.json.decode(context.store.records.read(HISTORY) or b"[]", type=list[GrowthDay])
    except (FormatError, msgspec.MsgspecError):
        return []


def fills_on(days: list[GrowthDay]) -> tuple[int, str]:
    """Bytes by which free space shrinks a day, over the last month, and the day it will be used up; "" when it is not.

    By least squares, so that one big backup does not foretell the end.
    """
    recent = days[-limits.GROWTH_DAYS_FITTED :]
    if len(recent) < limits.GROWTH_DAYS_MIN:
        return 0, ""
    at = np.array([date.fromisoformat(one.day).toordinal() for one in recent], dtype=np.float64)
    slope = float(np.polyfit(at - at[-1], [one.free_bytes for one in recent], 1)[0])
    if slope >= 0:
        return 0, ""
    left = recent[-1].free_bytes / -slope
    if left > limits.GROWTH_DAYS_FORETOLD:
        return round(-slope), ""
    return round(-slope), (date.fromisoformat(recent[-1].day) + timedelta(days=round(left))).isoformat()
