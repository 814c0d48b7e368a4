"""Bodies about garbage collection: what is asked for, how far it is, what it did, what waits in trash."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ibs.core import limits
from ibs.wire.common import Count, Seconds, Wire


class GcStart(Wire, frozen=True, kw_only=True):
    """`io_limit` in bytes a second, 0 for none. `allow_share`: of all chunks, how many percent may go."""

    dry_run: bool = False
    reclaim_now: bool = False
    empty_bin: bool = False
    accept_missing: bool = False
    allow_share: Annotated[int, msgspec.Meta(ge=1, le=100)] = limits.GC_SHARE_PERCENT
    io_limit: Count = 0


class GcUndo(Wire, frozen=True, kw_only=True):
    """`everything`: all that is in trash, instead of what the last run put there."""

    everything: bool = False


class GcRunView(Wire, frozen=True, kw_only=True):
    """One run. `result`: OK, refused, stopped, failed; "" while it runs, or when it was cut off."""

    upid: str
    by: str
    started: str
    ended: str = ""
    result: str = ""
    text: str = ""
    snapshots: Count = 0
    references: Count = 0
    chunks: Count = 0
    bytes: Count = 0
    retired_chunks: Count = 0
    retired_bytes: Count = 0
    freed_chunks: Count = 0
    freed_bytes: Count = 0


class GcTrashView(Wire, frozen=True, kw_only=True):
    """What one run put into trash. `until`: when it goes for good, as the store's clock looks now; "" if not known."""

    epoch: Count
    since: str
    until: str
    chunks: Count
    bytes: Count


class GcStatus(Wire, frozen=True, kw_only=True):
    """Garbage collection of one datastore. `state`: running, paused, idle, or interrupted (cut off, none since).

    `unit` is what `done`, `total` (0: not known) and `rate` (a second) count. `waits` says why nothing expires, if so.
    """

    store: str
    state: str
    phase: str = ""
    unit: str = ""
    done: Count = 0
    total: Count = 0
    rate: float = 0.0
    eta_seconds: Seconds | None = None
    references: Count = 0
    running: GcRunView | None = None
    last: GcRunView | None = None
    trash: list[GcTrashView] = []
    bin_snapshots: Count = 0
    bin_until: str = ""
    waits: str = ""
