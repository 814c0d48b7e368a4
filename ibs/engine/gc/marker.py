"""Reading every reference of a store, and telling which chunks none of them means.

Used by `engine.gc` only. Work is cut into steps of bounded length, each made in the pool, so that a run can be paused,
slowed and stopped between two of them. What cannot be read raises, and ends the run: unreadable never means absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ibs.core import limits
from ibs.core.ids import ID_BYTES
from ibs.core.marking import ChunkTable, Prefixes, Range, passes
from ibs.engine.context import StoreContext
from ibs.engine.gc.plan import Plan
from ibs.engine.references import Protected, newest_first, protected_ids
from ibs.errors import FailedError
from ibs.ports.chunkstore import Address, ChunkState


@dataclass(slots=True)
class Found:
    """What all passes together found. `unmarked` and `wanted_again` are sorted prefixes."""

    unmarked: Prefixes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    wanted_again: Prefixes = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    forgotten: list[Address] = field(default_factory=list)
    """Chunks known to be missing that nothing refers to any more."""
    plan: Plan = field(default_factory=Plan)


class Marker:
    """One mark of one store. Call `steps` once, then `found`. Blocks; one thread at a time."""

    def __init__(self, context: StoreContext, epoch: int) -> None:
        """`epoch`: what was answered for in it or later is not collected."""
        self._context = context
        self._epoch = epoch
        self._known_missing: list[Address] = []
        self._absent: dict[Address, str] = {}
        self._unmarked: list[Prefixes] = []
        self._wanted_again: list[Prefixes] = []
        self._forgotten: list[Address] = []
        self._total = self._chunks = self._bytes = self._retired_wanted = 0
        self._missing_referred = 0
        self.snapshots_total = 0
        self.snapshots_done = 0
        self.references = 0

    def steps(self) -> Iterator[int]:
        """Mark, a step at a time; each yields the bytes it read or looked at."""
        store = self._context.store
        unavailable = sorted(store.unavailable())
        for start in range(0, len(unavailable), limits.PRESENCE_BATCH_IDS):
            infos = store.info(unavailable[start : start + limits.PRESENCE_BATCH_IDS])
            self._known_missing += [info.address for info in infos if info.state is ChunkState.ABSENT]
        counts = store.counts()
        parts = passes(counts.chunks + counts.bad + counts.retired)
        self.snapshots_total = len(newest_first(self._context)) * len(parts)
        for number, part in enumerate(parts):
            table = ChunkTable(part)
            yield from self._fill(table, part)
            yield from self._mark(table, first=number == 0)
            self._take(table)

    def _fill(self, table: ChunkTable, part: Range) -> Iterator[int]:
        looked = 0
        for rows in self._context.store.scan(part.first, part.last, self._epoch):
            table.add(rows.ids, rows.stored_bytes, rows.collectable, rows.retired)
            looked += len(rows) * ID_BYTES
            if looked >= limits.GC_STEP_BYTES:
                yield looked
                looked = 0
        table.add_known([address.id for address in self._known_missing])
        table.seal()
        yield looked

    def _mark(self, table: ChunkTable, *, first: bool) -> Iterator[int]:
        looked, steps, snapshot = 0, 0, None
        for protected in protected_ids(self._context):
            if protected.snapshot is not None and protected.snapshot != snapshot:
                snapshot = protected.snapshot
                self.snapshots_done += 1
            for absent in table.mark(protected.ids):
                if not protected.promise:
                    self._note_absent(protected, absent.tolist())
            if first:
                self.references += len(protected.ids)
            looked += protected.ids.nbytes
            steps += 1
            if looked >= limits.GC_STEP_BYTES or steps >= limits.GC_STEP_INDEXES:
                yield looked
                looked = steps = 0
        yield looked

    def _note_absent(self, protected: Protected, positions: Sequence[int]) -> None:
        for at in positions:
            address = Address(protected.domain or b"", protected.ids[at].tobytes())
            self._absent.setdefault(address, protected.by)
        if len(self._absent) > limits.GC_ABSENT_MAX:
            self._settle_absent()
            if len(self._absent) > limits.GC_ABSENT_MAX // 2:
                raise FailedError(
                    f"over {limits.GC_ABSENT_MAX // 2} chunks that snapshots refer to are missing; "
                    "nothing was collected",
                    hint=f"see what is hurt: ironcore-backup verify start {self._context.name}",
                )

    def _settle_absent(self) -> None:
        """Chunks that came after the table was made are there: a backup was committed meanwhile."""
        addresses = list(self._absent)
        for start in range(0, len(addresses), limits.PRESENCE_BATCH_IDS):
            for info in self._context.store.info(addresses[start : start + limits.PRESENCE_BATCH_IDS]):
                if info.state is not ChunkState.ABSENT:
                    del self._absent[info.address]

    def _take(self, table: ChunkTable) -> None:
        self._total += table.chunks
        self._chunks += table.unmarked_chunks
        self._bytes += table.unmarked_bytes
        self._unmarked.append(table.unmarked)
        self._wanted_again.append(table.wanted_again)
        for address in self._known_missing:
            if table.part.first <= address.id <= table.part.last:
                if table.is_marked(address.id):
                    self._missing_referred += 1
                else:
                    self._forgotten.append(address)

    def found(self) -> Found:
        """The result, once `steps` has ended."""
        self._settle_absent()
        listed = dict(list(self._absent.items())[: limits.GC_MISSING_LISTED])
        unmarked, wanted = (np.concatenate(parts) for parts in (self._unmarked, self._wanted_again))
        plan = Plan(
            total_chunks=self._total,
            chunks=self._chunks,
            bytes=self._bytes,
            references=self.references,
            snapshots=len(newest_first(self._context)),
            missing=listed,
            missing_more=len(self._absent) - len(listed),
            missing_known=self._missing_referred,
            wanted_again=len(wanted),
        )
        return Found(unmarked, wanted, self._forgotten, plan)

    def acknowledge_missing(self) -> list[Address]:
        """All newly missing chunks."""
        return list(self._absent)
