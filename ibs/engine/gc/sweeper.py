"""Taking away what marking left unmarked, and bringing back what it marked in trash: batch by batch, under the gate.

Used by `engine.gc` only. Each step blocks for one batch; what it begins it finishes. Why nothing that is referred to,
or promised, can go: contrib/docs/concurrency.md §4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from ibs.core import limits
from ibs.core.marking import WHOLE, Prefixes, contains, prefixes_of
from ibs.engine.context import StoreContext
from ibs.engine.modes import Use
from ibs.engine.session.pins import WideWatch
from ibs.errors import NoSpace
from ibs.ports.chunkstore import Address, ChunkRows, Retired


@dataclass(slots=True)
class Sweeper:
    """With `keep` chunks go to trash, else for good."""

    context: StoreContext
    watch: WideWatch
    epoch: int
    keep: bool
    _held_back: list[Address] = field(default_factory=list)

    def candidates(self, unmarked: Prefixes) -> Iterator[Address]:
        """Chunks that may go, by id."""
        return self._matching(lambda rows: rows.collectable & contains(unmarked, prefixes_of(rows.ids)))

    def retired(self, wanted: Prefixes) -> Iterator[Address]:
        """Chunks in trash that are referred to."""
        return self._matching(lambda rows: rows.retired & contains(wanted, prefixes_of(rows.ids)))

    def _matching(self, chosen: Callable[[ChunkRows], object]) -> Iterator[Address]:
        for rows in self.context.store.scan(WHOLE.first, WHOLE.last, self.epoch):
            for at, wanted in enumerate(chosen(rows).tolist()):  # type: ignore[attr-defined]
                if wanted:
                    yield Address(rows.domains[at], rows.ids[at].tobytes())

    def sweep(self, candidates: Iterator[Address]) -> Retired | None:
        """The next batch goes; None when there was none left. Called again after an error it takes the same batch."""
        self.context.modes.require(Use.GC)
        batch = self._held_back or list(islice(candidates, limits.GC_BATCH_CHUNKS))
        if not batch:
            return None
        self._held_back = batch
        done = self.context.gate.sweep(self.watch, batch, self._retire)
        self._held_back = []
        return done

    def _retire(self, addresses: Sequence[Address]) -> Retired:
        # The grace counts from the last batch: a run may be held, or slowed down, for longer than a grace.
        since = self.context.time.now()
        try:
            return self.context.store.retire(addresses, self.epoch, since=since, keep=self.keep)
        except NoSpace:
            if not self.keep:
                raise
            self.keep = False  # a full disk has no room for a trash that grows
            return self.context.store.retire(addresses, self.epoch, since=since, keep=False)

    def take_back(self, retired: Iterator[Address]) -> Retired | None:
        """Revive the next batch; None when there was none left."""
        batch = list(islice(retired, limits.GC_BATCH_CHUNKS))
        return self.context.store.revive(batch) if batch else None

    def forget_missing(self, missing: list[Address]) -> None:
        """Drop the marks of chunks that are gone and that nothing refers to any more."""
        for start in range(0, len(missing), limits.GC_BATCH_CHUNKS):
            batch = missing[start : start + limits.GC_BATCH_CHUNKS]
            self.context.gate.sweep(self.watch, batch, self.context.store.discard)
