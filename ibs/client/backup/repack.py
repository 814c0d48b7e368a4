"""How well the chunks of the previous snapshot are still used, and which of them are packed anew.

Importable by the backup pipeline only; runs in the reading thread. Small files share chunks. When most files of a chunk
are gone or have changed, the few that were taken over keep all of it alive. Those few are read again and packed beside
others: only from chunks below REPACK_LIVE_PERCENT, only while the archive's waste is over REPACK_WASTE_PERCENT, and
never more than REPACK_READ_PERCENT of the archive in one run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ibs.client.backup.base import BaseIndex
from ibs.client.backup.previous import BlockWalk
from ibs.core import index, limits
from ibs.core.tree import parse_block
from ibs.errors import FormatError

Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Repack:
    """Chunks to be packed anew. Of their `chunk_bytes`, `live_bytes` are in use.

    `archive_bytes` are in all data chunks of the archive, of which `waste_bytes` are in no use.
    """

    chunks: frozenset[bytes] = field(repr=False)
    chunk_bytes: int
    live_bytes: int
    archive_bytes: int
    waste_bytes: int

    @property
    def waste_percent(self) -> float:
        """Share of the archive's chunk bytes that no entry uses."""
        return 100 * self.waste_bytes / max(self.archive_bytes, 1)


def worth_a_look(base: BaseIndex, run: int) -> bool:
    """Whether there is likely to be waste. Walking all entries is the price of knowing.

    Where chunks hold more than all files together, there is. Files with equal content or holes can hide it, so every
    REPACK_LOOK_EVERY_RUNS runs in a row it is looked at without that sign.
    """
    total = int(base.data_lengths.sum())
    if total * (100 - limits.REPACK_WASTE_PERCENT) > 100 * base.header.plain_bytes:
        return True
    return run > 0 and run % limits.REPACK_LOOK_EVERY_RUNS == 0


class Survey:
    """Counts, block by block, which bytes of each data chunk are in use.

    A `step` that `fetch` breaks off can be repeated. Bytes that several files share count once, as far as they are met
    among SURVEY_EXTENTS_MAX extents; beyond that they may count again, which can only spare a chunk.
    """

    def __init__(self, base: BaseIndex, fetch: Callable[[bytes], bytes]) -> None:
        self._base = base
        self._fetch = fetch
        self._walk = BlockWalk(fetch, base.header.root, base.header.depth)
        self._lengths = base.data_lengths
        self._live: Numbers = np.zeros(len(self._lengths), dtype=np.int64)
        self._beside = self._live.copy()
        self._parts: list[Numbers] = []
        self._extents = 0

    def step(self) -> bool:
        """Count the next block; False at the end. Raises FormatError, and what `fetch` raises."""
        child = self._walk.peek()
        if child is None:
            self._fold()
            return False
        block = parse_block(self._fetch(child.id))
        flat: list[int] = []
        counts: list[int] = []
        for wire in block.entries:
            if wire.extents:
                flat += wire.extents
                counts.append(len(wire.extents) // 3)
        if flat:
            self._take(block.ids, np.array(flat, dtype=np.int64), np.array(counts))
        self._walk.advance()
        return True

    def _take(self, ids: bytes, flat: Numbers, counts: Numbers) -> None:
        rows = self._base.lookup.positions(index.record_ids(ids, index.IMAGE_RECORD_BYTES))
        if len(flat) % 3 or int(flat[::3].max()) >= len(rows) or (rows < 0).any():
            raise FormatError("a block of the previous snapshot names a chunk that it does not list")
        part = np.column_stack((rows[flat[::3]], flat[1::3], flat[1::3] + flat[2::3]))
        if int(flat.max()) > limits.CHUNK_PLAIN_BYTES_MAX or int(part[:, 2].max()) > limits.CHUNK_PLAIN_BYTES_MAX:
            raise FormatError("an entry of the previous snapshot goes past the end of a chunk")
        self._parts.append(part)
        # A file is read whole: what it has in other chunks is read too, and is waste in these from then on.
        file, length = np.repeat(np.arange(len(counts)), counts), flat[2::3]
        beside = np.bincount(file, weights=length)[file] - length
        self._beside += np.bincount(part[:, 0], weights=beside, minlength=len(self._beside)).astype(np.int64)
        self._extents += len(part)
        if self._extents >= limits.SURVEY_EXTENTS_MAX:
            self._fold()

    def _fold(self) -> None:
        """Turn the extents gathered so far into bytes in use: the length of their union in each chunk."""
        if not self._parts:
            return
        part = np.concatenate(self._parts)
        self._parts, self._extents = [], 0
        part = part[np.lexsort((part[:, 1], part[:, 0]))]
        # Chunks lie behind one another on one line, so that the highest end so far is that of the same chunk.
        base = part[:, 0] * (1 << 32)
        starts, ends = base + part[:, 1], base + part[:, 2]
        before = np.maximum.accumulate(np.concatenate(([0], ends[:-1])))
        fresh = np.maximum(ends - np.maximum(starts, before), 0)
        self._live += np.bincount(part[:, 0], weights=fresh, minlength=len(self._live)).astype(np.int64)

    def plan(self) -> Repack:
        """What to pack anew, after the last step."""
        lengths = self._lengths
        live = np.minimum(self._live, lengths)
        total, waste = int(lengths.sum()), int((lengths - live).sum())
        cost = live + self._beside
        gain = lengths - cost
        poor = np.flatnonzero((gain > 0) & (live * 100 < lengths * limits.REPACK_LIVE_PERCENT))
        poor = poor[np.argsort(cost[poor] / lengths[poor], kind="stable")]  # most gained for least read
        # How much waste is left before each of them: those before are gone, what was live in them is packed again.
        before = np.cumsum(gain[poor]) - gain[poor]
        needed = (waste - before) * 100 >= (total - before) * limits.REPACK_WASTE_PERCENT
        affordable = np.cumsum(cost[poor]) * 100 <= total * limits.REPACK_READ_PERCENT
        chosen = poor[needed & affordable]
        return Repack(
            chunks=frozenset(self._base.ids_at(chosen)),
            chunk_bytes=int(lengths[chosen].sum()),
            live_bytes=int(live[chosen].sum()),
            archive_bytes=total,
            waste_bytes=waste,
        )
