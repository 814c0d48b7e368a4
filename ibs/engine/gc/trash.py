"""The trash of one datastore over time: how long chunks stay in it, bringing them back, and the end.

Used by `engine.gc` only. What a chunk goes through is the store's (`ChunkStore.retire` and on); when, is decided here,
by the store's own clock. Nothing leaves the trash for good while that clock is frozen or the mode forbids pruning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice

from ibs.core import limits
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.errors import NotFoundError
from ibs.ports.chunkstore import ChunkInfo, Retired, Trash


class TrashKeeper:
    """One a datastore. *Cancellation* of every method: between batches; what is left can be done by another call."""

    def __init__(self, context: StoreContext) -> None:
        self._context = context

    async def list(self) -> Sequence[Trash]:
        """What is in trash, oldest first."""
        return await self._context.pool.disk(self._context.store.trash)

    async def require_some(self) -> Sequence[Trash]:
        """As `list`; raises NotFoundError when trash is empty."""
        found = await self.list()
        if not found:
            raise NotFoundError(f"the trash of {self._context.name} is empty", hint="there is nothing to undo")
        return found

    def until(self, trash: Trash) -> int | None:
        """When the grace of some trash ends, in seconds of the store's clock; None: when it came is lost."""
        return None if trash.since is None else trash.since + limits.GC_TRASH_GRACE_SECONDS

    async def revive(self, *, everything: bool) -> Retired:
        """Bring back the chunks of the last run's trash, or of all. Raises NotFoundError when trash is empty."""
        found = await self.require_some()
        done = Retired()
        for trash in found if everything else found[-1:]:
            chunks = self._context.store.trashed(trash.epoch)
            while (some := await self._context.pool.disk(self._revive_some, chunks)) is not None:
                done += some
        return done

    def _revive_some(self, chunks: Iterator[ChunkInfo]) -> Retired | None:
        batch = [info.address for info in islice(chunks, limits.GC_BATCH_CHUNKS)]
        return self._context.store.revive(batch) if batch else None

    async def expire(self, step: Callable[[Retired], object] | None = None) -> Retired:
        """Delete what has been in trash for its grace. Nothing while the clock or the mode forbids it."""
        time = self._context.time
        done = Retired()
        if time.frozen or not self._context.modes.allows(Use.PRUNE):
            return done
        for trash in await self.list():
            until, now = self.until(trash), time.now()
            if until is None:
                # When it came is lost: its grace begins now.
                await self._context.pool.disk(self._begin_grace, trash.epoch)
            elif until <= now:
                done += await self.empty(trash.epoch, step)
        return done

    def _begin_grace(self, epoch: int) -> None:
        self._context.store.retire([], epoch, since=self._context.time.keep())

    async def empty(self, epoch: int, step: Callable[[Retired], object] | None = None) -> Retired:
        """Delete the trash of an epoch for good; `step` is told what every batch freed."""
        done = Retired()
        while True:
            self._context.modes.require(Use.PRUNE)
            some = await self._context.pool.disk(self._reclaim, epoch)
            if not some.freed_chunks:
                return done
            done += some
            if step is not None:
                step(some)

    def _reclaim(self, epoch: int) -> Retired:
        return self._context.store.reclaim(epoch, limit=limits.GC_RECLAIM_CHUNKS)
