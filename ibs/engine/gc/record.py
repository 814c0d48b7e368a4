"""What a datastore remembers of its garbage collections: `.ibs/gc.json`. For people, and to tell that one was cut off.

Used by `engine.gc` only. Nothing depends on it being right: a run finds its work in the store itself, so one that was
cut off at any point is not resumed but followed by another, which does what the first left undone.
"""

from __future__ import annotations

import contextlib

import msgspec

from ibs.engine.context import StoreContext
from ibs.errors import DatastoreReadOnly, FormatError, NoSpace
from ibs.storage.local.records import GC


class RunRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One run. `phase` is where it was last heard of; times are RFC 3339. `result`: OK, refused, stopped or failed."""

    epoch: int
    started: str
    by: str = ""
    upid: str = ""
    phase: str = ""
    ended: str = ""
    result: str = ""
    text: str = ""
    references: int = 0
    snapshots: int = 0
    chunks: int = 0
    bytes: int = 0
    retired_chunks: int = 0
    retired_bytes: int = 0
    freed_chunks: int = 0
    freed_bytes: int = 0


class Seen(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the last marking, a dry run's too, left in its place though nothing referred to it; `time` of that."""

    time: str
    chunks: int = 0
    bytes: int = 0

    def less(self, chunks: int, size: int) -> Seen:
        """Without so many chunks and bytes of them; negative ones come back."""
        return Seen(time=self.time, chunks=max(0, self.chunks - chunks), bytes=max(0, self.bytes - size))


class GcRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`.ibs/gc.json` (contrib/docs/formats.md)."""

    format: int = 1
    running: RunRecord | None = None
    last: RunRecord | None = None
    seen: Seen | None = None


def read(context: StoreContext) -> GcRecord:
    """The record; an empty one where there is none, or none that can be read."""
    try:
        data = context.store.records.read(GC)
        return msgspec.json.decode(data, type=GcRecord) if data else GcRecord()
    except (FormatError, msgspec.MsgspecError):
        return GcRecord()


def write(context: StoreContext, record: GcRecord) -> None:
    """Replace it. A disk too full, or too ill, even for this keeps no collection from its work."""
    with contextlib.suppress(NoSpace, DatastoreReadOnly):
        context.store.records.write(GC, msgspec.json.encode(record) + b"\n")
